"""Pages that are made from the notebooks, so that nothing is written twice

`write` makes, below docs/ and ignored by git: notebooks/ (copies without nbdev's directives, test-only cells hidden),
results/ (executed notebooks), api/ (one page per module: signatures, the trailing comments of parameters as tables,
worked examples, sources), glossary.md and results.md. A file is touched only when its content changes.
"""
import ast, copy, io, json, re, tokenize
from dataclasses import dataclass, field
from pathlib import Path

from mdit_py_plugins.anchors.index import slugify

GROUPS = {0: ('foundations', 'Foundations'), 1: ('tokens', 'Images, tokens, text'), 2: ('knowledge', 'Knowledge'), 3: ('generators', 'Generators'),
          4: ('sampling', 'Model, training, sampling'), 5: ('evaluation', 'Metrics and evaluation'), 6: ('experiments', 'Experiments and reports'),
          7: ('tables', 'Tables, figures, claims'), 8: ('tools', 'Looking, checking, playing'), 9: ('use', 'Command line and public names')}
DIRECTIVE = re.compile(r'^#\s*\|.*\n?', re.M)


# Notebooks

@dataclass
class Cell:
    "One cell: its kind, text, directives and the heading it stands under"
    kind: str
    text: str
    raw: dict
    heading: str = ''
    anchor: str = ''

    @property
    def directives(self)->set[str]: return {d.split()[0].rstrip(':') for d in re.findall(r'^#\s*\|\s*(\S.*)$', self.text, re.M)} if self.kind == 'code' else set()
    @property
    def exported(self)->bool: return 'export' in self.directives
    @property
    def code(self)->str: return DIRECTIVE.sub('', self.text).strip()
    @property
    def tree(self)->list: return ast.parse(self.code).body if self.kind == 'code' and not re.match(r'\s*[%!]', self.code) else []
    @property
    def lesson(self)->bool:
        calls = (getattr(n.func, 'id', '') for s in self.tree for n in ast.walk(s) if isinstance(n, ast.Call))
        return not self.exported and 'hide' not in self.directives and (any(isinstance(n, ast.Assert) for s in self.tree for n in ast.walk(s)) or any(c.startswith('test_') for c in calls))

@dataclass
class Notebook:
    "One notebook and what is known of it without running anything"
    path: Path
    cells: list = field(default_factory=list)

    def __post_init__(self):
        heading,seen,anchor = '',{},''
        for raw in json.loads(self.path.read_text())['cells']:
            text = ''.join(raw['source'])
            cell = Cell(raw['cell_type'], text, raw, heading, anchor)
            for level,title in (re.findall(r'^(#{1,3}) (.+)$', text, re.M) if cell.kind == 'markdown' else ()):
                if len(level) == 1: continue                     # the page has another title, with the number
                slug = slugify(re.sub(r'[`*]', '', title))
                seen[slug] = seen.get(slug, -1) + 1
                if len(level) == 2: heading,anchor = title.strip(),slug + (f'-{seen[slug]}' if seen[slug] else '')
            cell.heading,cell.anchor = heading,anchor
            self.cells.append(cell)

    @property
    def name(self)->str: return self.path.stem
    @property
    def number(self)->str: return m[1] if (m := re.match(r'(\d\d)_', self.name)) else ''
    @property
    def module(self)->str: return next((m[1] for c in self.cells if (m := re.search(r'^#\|\s*default_exp (\S+)', c.text, re.M))), '')
    @property
    def title(self)->str: return next(m[1] for c in self.cells if c.kind == 'markdown' and (m := re.search(r'^# (.+)$', c.text, re.M)))
    @property
    def subtitle(self)->str: return next((m[1] for c in self.cells if c.kind == 'markdown' and (m := re.search(r'^> (.+)$', c.text, re.M))), '')
    @property
    def label(self)->str: return f'{self.number} · {self.title}' if self.number else self.title

def notebooks(folder:Path)->list[Notebook]: return [Notebook(p) for p in sorted(folder.glob('*.ipynb'))]

def page_of(nb:Notebook, note:str, title:str='')->str:
    "A notebook as the site shows it: without directives, test imports folded away, and a line that says where it comes from"
    content = json.loads(nb.path.read_text())
    for cell in content['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'code':
            directives = Cell('code', text, cell).directives
            text = DIRECTIVE.sub('', text).strip('\n')
            hidden = 'hide' in directives or not text
            cell['metadata']['tags'] = sorted({*cell['metadata'].get('tags', []), *(['remove-cell'] if hidden else [])})
        elif re.search(r'^# ', text, re.M):
            if title: text = re.sub(r'^# .+$', f'# {title}', text, count=1, flags=re.M)
            text = re.sub(r'(^# .+\n(?:> .+\n?)?)', lambda m: f'{m[1].rstrip()}\n\n{note}\n\n', text, count=1, flags=re.M)
        cell['source'] = text.splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + '\n'


# The reference: signatures, parameters with their trailing comments, examples, sources

def plain(text:str)->str:
    "Text for Markdown: what lies outside `code` means itself"
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(p if p.startswith('`') else re.sub(r'([<>$*|\[\]{}\\])', r'\\\1', p) for p in parts)

def cell_of_table(text:str)->str: return text.replace('|', r'\|') if '`' in text else text

def header_of(node:ast.FunctionDef, source:str)->tuple[dict[int,str],int]:  # line -> comment, last line of the header
    "The trailing comments of a signature, and where it ends"
    comments,depth,last = {},0,0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row = token.start[0]
        if row < node.lineno: continue
        if token.type == tokenize.COMMENT: comments[row] = token.string.lstrip('# ').strip()
        if last: break
        if token.type != tokenize.OP: continue
        depth += (token.string in '([{') - (token.string in ')]}')
        if token.string == ':' and depth == 0: last = row
    return comments,last

def parameters_of(node:ast.FunctionDef, source:str)->tuple[list[tuple[str,str]],str]:  # (parameters of a line, their comment), comment on the result
    "The parameters of a function, line by line as its author grouped them"
    comments,last = header_of(node, source)
    a = node.args
    every = [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs, *([a.kwarg] if a.kwarg else [])]
    first_default = len(a.posonlyargs + a.args) - len(a.defaults)
    defaults = {id(x): d for x,d in [*zip((a.posonlyargs + a.args)[first_default:], a.defaults), *zip(a.kwonlyargs, a.kw_defaults)] if d is not None}
    rows = {}
    for x in every:
        if x.arg in ('self', 'cls'): continue
        star = '*' if x is a.vararg else '**' if x is a.kwarg else ''
        text = star + x.arg + (f': {ast.unparse(x.annotation)}' if x.annotation else '') + (f' = {ast.unparse(defaults[id(x)])}' if id(x) in defaults else '')
        rows.setdefault((defaults.get(id(x)) or x).end_lineno, []).append(text)
    return [(', '.join(f'`{t}`' for t in texts), comments.get(row, '') if row != last else '') for row,texts in rows.items()],comments.get(last, '')

def fields_of(node:ast.ClassDef, source:str)->list[tuple[str,str]]:
    "The annotated fields of a class and their trailing comments"
    lines = source.split('\n')
    found = []
    for n in node.body:
        if not isinstance(n, ast.AnnAssign) or n.target.id.startswith('_'): continue
        comment = m[1] if (m := re.search(r'\s#\s(.*)$', lines[n.end_lineno - 1])) else ''
        found.append((f'`{ast.unparse(n)}`', comment))
    return found

def table(rows:list[tuple[str,str]], returns:str='', annotation:str='')->list[str]:
    "Parameters and result as a table; nothing where nothing is told"
    lines = [f'| {cell_of_table(names)} | {plain(comment)} |' for names,comment in rows]
    if returns: lines.append(f'| returns {cell_of_table(f"`{annotation}`") if annotation else ""} | {plain(returns)} |')
    return ['', '| | |', '|---|---|', *lines, ''] if any(c for _,c in rows) or returns else []

def signature(node:ast.FunctionDef, source:str, drop_first:bool=False)->str:
    "The signature on one line; without types where a table tells them"
    args,(rows,_) = copy.deepcopy(node.args),parameters_of(node, source)
    if any(comment for _,comment in rows):
        for x in ast.walk(args):
            if isinstance(x, ast.arg): x.annotation = None
    text = ast.unparse(args)
    if drop_first: text = re.sub(r'^(self|cls)(, )?', '', text)
    return f'({text})' + (f' -> {ast.unparse(node.returns)}' if node.returns else '')

def described(node, source:str)->list[str]:
    "Docstring and parameters of a function or method"
    rows,returns = parameters_of(node, source)
    return [plain(ast.get_docstring(node) or ''), *table(rows, returns, ast.unparse(node.returns) if node.returns else '')]

def folded(summary:str, code:str)->list[str]: return ['', f'<details><summary>{summary}</summary>', '', '~~~python', code, '~~~', '', '</details>', '']

def entry(node, source:str)->list[str]:
    "The reference entry of a function or class: what it is, its parameters, its source"
    text = '\n'.join(source.split('\n')[min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1:node.end_lineno])
    registered = [f'Registered in `{ast.unparse(d.func.value)}` as {", ".join(f"`{ast.unparse(x)}`" for x in d.args)}.' for d in node.decorator_list if isinstance(d, ast.Call) and getattr(d.func, 'attr', '') == 'register']
    if not isinstance(node, ast.ClassDef):
        return [f'`````{{py:function}} {node.name}{signature(node, source)}', *described(node, source), '', *registered, *folded('Source', text), '`````', '']
    init = next((n for n in node.body if getattr(n, 'name', '') == '__init__'), None)
    fields = fields_of(node, source)
    bases = ', '.join(ast.unparse(b) for b in node.bases)
    out = [f'`````{{py:class}} {node.name}' + (signature(init, source, True) if init else ''), plain(ast.get_docstring(node) or ''), *(['', f'Bases: `{bases}`.'] if bases else []), *(['', *registered] if registered else []),
           *(table(*parameters_of(init, source)) if init else []), *table(fields)]
    for n in node.body:
        if not isinstance(n, ast.FunctionDef) or n.name.startswith('_') or not ast.get_docstring(n): continue
        kind = 'property' if any(getattr(d, 'id', '') in ('property', 'cached_property') for d in n.decorator_list) else 'method'
        sign = signature(n, source, True) if kind == 'method' else ''
        out += [f'````{{py:{kind}}} {n.name}{sign}', *described(n, source), '````', '']
    return [*out, *folded('Source', text), '`````', '']

def constants(cell:Cell)->list[str]:
    "Public constants of an exported cell, short ones with their value"
    out = []
    for n in cell.tree:
        names = [t.id for t in getattr(n, 'targets', [getattr(n, 'target', None)]) if isinstance(t, ast.Name)] if isinstance(n, (ast.Assign, ast.AnnAssign)) else []
        for name in names:
            if not re.fullmatch(r'[A-Z][A-Z_0-9]*', name): continue
            code = '\n'.join(cell.code.split('\n')[n.lineno - 1:n.end_lineno])
            out += [f'`````{{py:data}} {name}', *folded('Value', code), '`````', '']
    return out

def public_names(nb:Notebook, modules:dict[str,Notebook])->str:
    "The page of the names that can be had from the top of the package: each with its first line and a link to its module"
    values = {t.id: n.value for c in nb.cells for n in c.tree if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    homes = {name: k.arg for k in values['_HOMES'].keywords for name in ast.literal_eval(k.value).split()}
    said = {(m, n.name): (ast.get_docstring(n) or '').split('\n')[0] for m in {*homes.values()} for c in modules[m].cells if c.exported for n in c.tree if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    rows = [f'| {{py:obj}}`~kamig.{home}.{name}` | {plain(said[home, name])} |' for name,home in sorted(homes.items(), key=lambda x: x[0].lower())]
    return '\n'.join(['# Names at the top', '', 'What most programs need: `from kamig import build_graphs, create_model, sample`. Nothing is imported before it is used. Where these names come from is told in the notebook '
                      f'[{nb.label}](../notebooks/{nb.path.name}).', '', '| name | what it is |', '|---|---|', *rows, ''])

def reference(nb:Notebook, modules:dict[str,Notebook])->str:
    "The API page of one module, in the order of its notebook"
    if nb.module == '__init__': return public_names(nb, modules)
    lines = [f'# kamig.{nb.module}', '', f'*{nb.subtitle}*' if nb.subtitle else '', '', f'Defined and explained in the notebook [{nb.label}](../notebooks/{nb.path.name}).', '', f'```{{py:module}} kamig.{nb.module}', '```', '']
    shown,section = set(),None
    for i,cell in enumerate(nb.cells):
        if not (cell.exported and cell.tree): continue
        nodes = [n for n in cell.tree if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith('_')]
        body = constants(cell) + [line for n in nodes for line in entry(n, cell.code)]
        if not body: continue
        if cell.heading != section:
            section = cell.heading
            lines += [f'## {section}', '', f'[Read about it in the notebook.](../notebooks/{nb.path.name}#{cell.anchor})', '']
        lines += body
        for node in nodes:
            lesson = next((c for c in nb.cells[i:] if c.lesson and re.search(rf'\b{node.name}\b', c.code)), None)
            if lesson is None or id(lesson) in shown: continue
            shown.add(id(lesson))
            lines += folded(f'Worked example: <code>{node.name}</code>', lesson.code)
    return '\n'.join(lines) + '\n'


# Pages

def version(root:Path)->str: return re.search(r'^version = (.+)$', (root/'settings.ini').read_text(), re.M)[1]

def tree(items:list[str], depth:int=1, caption:str='')->list[str]:
    return ['```{toctree}', f':maxdepth: {depth}', *([f':caption: {caption}'] if caption else []), '', *items, '```', '']

def group_pages(numbered:list[Notebook])->dict[str,str]:
    "One page per decade of notebooks, and the page that lists them"
    pages,index = {},['# Notebooks', '', 'The numbered notebooks are the source of the package. Each defines one component, explains it and proves it on an example small enough to follow by hand; read in order they are a course on the method. What they show here is what they showed when they were last run.', '']
    for decade,(file,title) in GROUPS.items():
        members = [nb for nb in numbered if int(nb.number)//10 == decade]
        if not members: continue
        rows = [f'| [{nb.label}]({nb.path.name}) | {nb.subtitle.split(": `papermill")[0]} |' for nb in members]
        pages[f'{file}.md'] = '\n'.join([f'# {title}', '', '| notebook | in one line |', '|---|---|', *rows, '', '```{toctree}', ':hidden:', '', *(f'{nb.label} <{nb.path.name[:-6]}>' for nb in members), '```', ''])
        index += [f'## {title}', '', *('| notebook | in one line |', '|---|---|', *rows), '']
    return pages | {'index.md': '\n'.join([*index, '```{toctree}', ':hidden:', '', *(p[:-3] for p in pages), '```', ''])}

def glossary(numbered:list[Notebook])->str:
    "The table of symbols of the notebook on graphs"
    text = next(c.text for nb in numbered if nb.module == 'graphs' for c in nb.cells if '| the paper writes |' in c.text)
    symbols = '\n'.join(line for line in text.splitlines() if line.startswith('|'))
    return ('# Symbols and names\n\nWhat the paper writes and what it is called here. The table stands in the notebook [Knowledge graphs](notebooks/20_graphs.ipynb), and is repeated from there.\n\n' + symbols +
            '\n\n## Shapes\n\nOne alphabet of shapes is used everywhere.\n\n| shape | what |\n|---|---|\n| `tokens (B, L)` | integer codes: B images of L codes; `mask_token_id` where hidden |\n| `labels (B,)` | classes; `num_classes` stands for no class |\n'
            '| `logits (B, L, V)` | a score for each of V codes at each position |\n| `residuals[i] (B, L, D)` | what knowledge adds before layer i, at width D |\n| `adjacency (V, V)` | which code chose which |\n| `images (B, 3, H, W)` | bytes, or floats in [0, 1] |\n')

def findings_of(readme:str)->str:
    "What the README says was found: its section, without the heading"
    return m[1].strip() if (m := re.search(r'^## What was found so far\n(.*?)(?=^## )', readme, re.S | re.M)) else ''

def unbroken(text:str)->str:
    "A number stays with its error: lines may end before the sign, not after it"
    return re.sub(r'(±|margin) (?=[-\d])', '\\1\u00a0', text)

def in_short(readme:str, known:dict[str,str])->str:
    "What was found: the paragraphs that begin in bold, and the questions with their answers"
    found,questions = findings_of(readme),re.search(r'<!-- controls -->\n((?:- .*\n)+)', readme)
    return unbroken(relinked('\n\n'.join([*(p for p in found.split('\n\n') if p.startswith('**')), *([questions[1]] if questions else [])]), known)) + '\n'

def relinked(text:str, known:dict[str,str], pictures:bool=False)->str:
    "A file of the repository's root as a page: links to what the site has lead there, other relative ones become plain text; pictures are left out, or looked for in the root"
    def link(m):
        title,target = m[1],m[2]
        if re.match(r'https?:|mailto:|#', target): return m[0]
        if target in known: return f'[{title}]({known[target]})'
        path,_,anchor = target.partition('#')
        return f'[{title}]({known[path]}{"#" + anchor if anchor else ""})' if path in known else title
    return re.sub(r'(?<!!)\[([^\]]*)\]\(([^)\s]+)\)', link, re.sub(r'!\[([^\]]*)\]\(([^)]*)\)', r'![\1](../\2)' if pictures else '', text))

def project(root:Path, known:dict[str,str])->dict[str,str]:
    "Contributing and changelog where the repository has them, and the page that leads to them"
    found = {name.lower() + '.md': relinked((root/f'{name}.md').read_text(), known) for name in ('CONTRIBUTING', 'CHANGELOG') if (root/f'{name}.md').exists()}
    cite = m[0] if (m := re.search(r'```bibtex\n.*?```', (root/'README.md').read_text(), re.S)) else ''
    tests = ['The notebooks are the only source; `nbdev_export` writes the package from them, and the test command of the [front page](index.md) runs every lesson.', '']
    page = ['# The project', '', *tests, f'Version {version(root)}, licence Apache 2.0. This package is independent of the paper\'s authors; please cite their paper:', '', cite, '', *tree([n[:-3] for n in found])]
    return found | {'project.md': '\n'.join(page)}

def results(root:Path, executed:list[Notebook], known:dict[str,str])->str:
    "What the README says was found, a link to the claims, and the executed notebooks"
    claims = root/'docs'/'claims.md'
    listed = [f'- [{nb.name}](results/{nb.path.name})' for nb in executed]
    extra = ['What the paper claims, sentence by sentence, each with its verdict here, is on the page [Claims](claims.md).', ''] if claims.exists() else []
    text = re.sub(r'^###(?= )', '##', unbroken(relinked(findings_of((root/'README.md').read_text()), known, pictures=True)), flags=re.M)
    return '\n'.join(['# Findings', '', 'All of this is small: models two hundred times smaller than the published ones, on other data. A claim that did not hold is listed like one that did.', '', *extra, text, '',
                      '## Executed notebooks', '', 'The main job as it ran for two of the records:', '', *listed, '', '```{toctree}', ':hidden:', '', *(['claims'] if claims.exists() else []), *(f'results/{nb.name}' for nb in executed), '```', ''])

def api_index(numbered:list[Notebook])->str:
    lines = ['# Reference', '', 'One page per module. A table under a signature lists its parameters with their shapes and meaning, as they stand in the source. Below each section: worked examples that are run as tests, and the source.', '']
    for decade,(_,title) in GROUPS.items():
        rows = [f'| [{"kamig" if nb.module == "__init__" else f"kamig.{nb.module}"}]({nb.module}.md) | {nb.subtitle} |' for nb in numbered if int(nb.number)//10 == decade]
        if rows: lines += [f'## {title}', '', '| module | in one line |', '|---|---|', *rows, '']
    return '\n'.join([*lines, '```{toctree}', ':hidden:', '', *sorted(nb.module for nb in numbered), '```', ''])

def write(root:Path, docs:Path)->dict[str,str]:  # file of the repository -> its page
    "Make all pages; files of an earlier time that are made no more are removed"
    every,executed = notebooks(root/'nbs'),notebooks(root/'paper'/'executed')
    numbered,runnable = [nb for nb in every if nb.number],[nb for nb in every if not nb.number] + notebooks(root/'nbs'/'paper')
    made = {docs/'notebooks'/name: text for name,text in group_pages(numbered).items()}
    for nb in numbered: made[docs/'notebooks'/nb.path.name] = page_of(nb, f'*Notebook `nbs/{nb.path.name}`, module [`kamig.{nb.module}`](../api/{nb.module}.md).*', nb.label)
    for nb in runnable: made[docs/'run'/nb.path.name] = page_of(nb, f'*Notebook `{nb.path.relative_to(root)}`, to be run with papermill or in JupyterLab; shown without outputs.*')
    for nb in executed: made[docs/'results'/nb.path.name] = page_of(nb, f'*Executed: `paper/executed/{nb.path.name}`.*', f'{nb.title}: {nb.name}')
    for nb in numbered: made[docs/'api'/f'{nb.module}.md'] = reference(nb, {n.module: n for n in numbered})
    rows = [f'| [{nb.title}](run/{nb.path.name}) | {nb.subtitle} |' for nb in runnable]
    made[docs/'run.md'] = '\n'.join(['# Notebooks to run', '', 'Each has one cell of parameters and runs from top to bottom, in JupyterLab or with papermill. What a stage made is kept and found again.', '', '| notebook | what, and how it is started |', '|---|---|', *rows, '', '```{toctree}', ':hidden:', '', *(f'run/{nb.name}' for nb in runnable), '```', ''])
    made |= {docs/'api'/'index.md': api_index(numbered), docs/'glossary.md': glossary(numbered)}
    known = {str(p.relative_to(root)): str(q.relative_to(docs)) for p,q in [(nb.path, docs/('notebooks' if nb.number else 'run')/nb.path.name) for nb in numbered + runnable] + [(nb.path, docs/'results'/nb.path.name) for nb in executed]}
    known |= {f'docs/{p.relative_to(docs)}': str(p.relative_to(docs)) for p in docs.rglob('*.md')} | {f'{n}.md': f'{n.lower()}.md' for n in ('CONTRIBUTING', 'CHANGELOG') if (root/f'{n}.md').exists()}
    known |= {'README.md#what-was-found-so-far': 'findings.md'}
    made |= {docs/'findings.md': results(root, executed, known)} | {docs/name: text for name,text in project(root, known).items()} | {docs/'_short.md': in_short((root/'README.md').read_text(), known)}
    for folder in ('notebooks', 'run', 'results', 'api'):
        for old in (docs/folder).glob('*') if (docs/folder).exists() else ():
            if old.is_file() and old not in made: old.unlink()
    for name in ('contributing.md', 'changelog.md'):
        if docs/name not in made: (docs/name).unlink(missing_ok=True)
    for path,text in made.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text: path.write_text(text)
    return known
