"""The rules of this repository, one small function each.

A rule takes a `Project` and returns the violations it found, one sentence each; an empty list means that the rule holds.
`test_notebooks.py` and `test_package.py` apply them to the repository, `test_rules_bite.py` proves that each of them bites.
Cells are counted from 0 and named with their id, which also stands in the `# %%` lines of kamig/.
"""
import ast, configparser, json, os, re, shutil, subprocess, sys, tempfile, tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import packages_distributions
from pathlib import Path

from execnb.nbio import nb2str
from nbdev.clean import clean_nb
from nbdev.process import extract_directives
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from papermill.translators import PythonTranslator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'kamig'
KERNEL = {'display_name': 'python3', 'language': 'python', 'name': 'python3'}
HEAVY = ('torchvision', 'torch_fidelity', 'sklearn', 'matplotlib', 'papermill')  # imported where used, never by `import kamig.x`
MAX_FUNCTION, MAX_CLASS_CELL, MAX_MODULE = 40, 60, 400                            # lines
MAX_IMAGES, MAX_BYTES = 2, 400*1024                                               # per component notebook, per notebook file
MIN_DUPLICATE = 4                                                                 # statements
NOT_SOURCE = {'.git', '.venv', '.ipynb_checkpoints', '.pytest_cache', '.ruff_cache', '__pycache__', 'build', 'dist', 'data', '_docs'}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)

NOTEBOOK_RULES, PACKAGE_RULES = [], []

def rule(group):
    "Decorator: enter a function in a group of rules"
    def enter(f):
        group.append(f)
        return f
    return enter


# What the rules look at

@dataclass
class Cell:
    "One cell of a notebook"
    where: str  # 'nbs/20_graphs.ipynb, cell 12 [a1b2c3d4]'
    raw: dict   # as in the file

    @cached_property
    def source(self): return ''.join(self.raw['source'])
    @property
    def is_code(self): return self.raw['cell_type'] == 'code'
    @property
    def outputs(self): return self.raw.get('outputs', [])
    @property
    def tags(self): return self.raw['metadata'].get('tags', [])

    @cached_property
    def directives(self)->dict[str, list[str]]:
        "nbdev's `#| name arguments` lines"
        return extract_directives(self, remove=False) if self.is_code else {}

    @property
    def exported(self): return not {'export', 'exporti', 'exports'}.isdisjoint(self.directives)

    @cached_property
    def tree(self)->ast.Module|None:
        "The syntax tree, without the lines that only IPython reads; None where that is not Python"
        if not self.is_code or self.source.lstrip().startswith('%%'): return ast.Module([], [])
        for source in (self.source, re.sub(r'^[ \t]*[%!].*$', '', self.source, flags=re.M)):
            try: return ast.parse(source)
            except SyntaxError: pass

    @property
    def body(self): return self.tree.body if self.tree else []
    def walk(self): return ast.walk(self.tree or ast.Module([], []))


@dataclass
class Notebook:
    "One notebook; `path` is relative to the root"
    path: str
    text: str

    @cached_property
    def json(self):
        try: return json.loads(self.text)
        except ValueError as e: raise ValueError(f'{self.path} is not valid JSON: {e}') from e

    @cached_property
    def cells(self): return [Cell(f"{self.path}, cell {i} [{c.get('id', 'no id')}]", c) for i, c in enumerate(self.json['cells'])]
    @cached_property
    def code(self): return [c for c in self.cells if c.is_code]
    @property
    def exported(self): return [c for c in self.code if c.exported]
    @property
    def lessons(self): return [c for c in self.code if not c.exported]
    @property
    def number(self)->str|None: return (m := re.fullmatch(r'nbs/(\d\d)_[^/]+\.ipynb', self.path)) and m[1]  # None: a runnable notebook
    @property
    def module(self)->str|None: return next((c.directives['default_exp'][0] for c in self.code if 'default_exp' in c.directives), None)


@dataclass
class Project:
    "A repository: settings.ini, nbs/ and the package written from it. Looked at once, so make a new one after a change"
    root: Path

    def read(self, path:str)->str: return (self.root/path).read_text(encoding='utf-8')

    @cached_property
    def files(self)->list[str]:
        "What belongs to the repository: all that git does not ignore, or all but caches where git cannot be asked"
        if (self.root/'.git').exists() and shutil.which('git'):
            git = subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=self.root, capture_output=True, text=True)
            if git.returncode == 0: return sorted({f for f in git.stdout.split('\0') if (self.root/f).is_file()})
        paths = (p.relative_to(self.root) for p in self.root.rglob('*') if p.is_file())
        return sorted(p.as_posix() for p in paths if NOT_SOURCE.isdisjoint(p.parts))

    def under(self, folder:str, suffix:str='')->list[str]: return [f for f in self.files if f.startswith(f'{folder}/') and f.endswith(suffix)]

    @cached_property
    def notebooks(self): return [Notebook(f, self.read(f)) for f in self.under('nbs', '.ipynb')]
    @property
    def numbered(self): return [nb for nb in self.notebooks if nb.number]
    @property
    def runnable(self): return [nb for nb in self.notebooks if not nb.number]
    @property
    def cells(self): return [c for nb in self.notebooks for c in nb.code]
    @property
    def exported(self): return [c for c in self.cells if c.exported]
    @property
    def modules(self)->list[str]: return self.under(PACKAGE, '.py')

    @cached_property
    def settings(self):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(self.read('settings.ini'))
        return parser['DEFAULT']

    @cached_property
    def fresh(self)->dict[str, bytes]:
        "What nbdev_export writes into an empty folder: path -> content"
        return export({'settings.ini': self.read('settings.ini')} | {nb.path: nb.text for nb in self.notebooks})

    @cached_property
    def imports(self)->dict[str, list[str]]:
        "Every module imported in one fresh interpreter: what failed, and which heavy libraries came along"
        names = [re.sub(r'/__init__$', '', m[:-3]).replace('/', '.') for m in self.modules]
        return json.loads(python('-c', IMPORT_ALL, *names, cwd=self.root).splitlines()[-1])

    @cached_property
    def metadata(self)->dict: return tomllib.loads(self.read('pyproject.toml'))['project']

    def requirements(self, *extras:str)->list[Requirement]:
        "The declared dependencies, with those of the given extras"
        optional = self.metadata.get('optional-dependencies', {})
        return [Requirement(r) for r in (*self.metadata['dependencies'], *(r for e in extras for r in optional[e]))]


IMPORT_ALL = f'''
import importlib, json, sys
report, known = dict(failed=[], heavy=[]), set()
for name in sys.argv[1:]:
    try: importlib.import_module(name)
    except BaseException as e: report["failed"].append(f"{{name}}: {{type(e).__name__}}: {{e}}")
    new = {set(HEAVY)} & set(sys.modules) - known
    report["heavy"] += [f"{{name}} imports {{library}}" for library in sorted(new)]
    known |= new
print("\\n" + json.dumps(report))
'''

def python(*args:str, cwd:Path, ok:tuple=(0,))->str:
    "Run this interpreter in a folder; its standard output, or RuntimeError with what it complained about"
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}  # under IN_TEST nbdev_export does nothing, silently
    env |= dict(PYTHONPATH=str(cwd), PYTHONDONTWRITEBYTECODE='1')
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode not in ok: raise RuntimeError(f'{args[:2]} failed:\n{done.stdout}{done.stderr}')
    return done.stdout

def write_files(root:Path, files:dict[str, str|bytes]):
    "Write path -> content below a folder"
    for path, content in files.items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_bytes(content.encode() if isinstance(content, str) else content)

def export(files:dict[str, str])->dict[str, bytes]:
    "The modules that nbdev_export makes of settings.ini and notebooks, path -> content both; the same files are exported once"
    return _export(tuple(files.items()))

@cache
def _export(files:tuple)->dict[str, bytes]:
    "`export`, with arguments that can be remembered"
    with tempfile.TemporaryDirectory() as tmp:
        write_files(Path(tmp), dict(files))
        python('-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()', cwd=tmp)
        return {m: (Path(tmp)/m).read_bytes() for m in Project(Path(tmp)).modules}

def defined(cell)->list:
    "The public functions and classes at the top level of a cell"
    return [n for n in cell.body if isinstance(n, DEFINITIONS) and not n.name.startswith('_')]

def assigned(cell)->set[str]:
    "The public names that a cell defines at its top level; methods added with fastcore's `patch` belong to their class"
    patched = lambda n: any(isinstance(x, ast.Name) and x.id.startswith('patch') for d in n.decorator_list for x in ast.walk(d))
    targets = [t for n in cell.body if isinstance(n, (ast.Assign, ast.AnnAssign)) for t in (getattr(n, 'targets', None) or [n.target])]
    variables = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return {n.name for n in defined(cell) if not patched(n)} | {v for v in variables if not v.startswith('_')}

def called(node)->str:
    "The last name of what a call calls: 'test_eq' for `fastcore.test.test_eq(...)`; '' for all else"
    f = getattr(node, 'func', None)
    return getattr(f, 'id', '') or getattr(f, 'attr', '')

def repeated(pairs)->list[tuple]:
    "Of (key, place) pairs those whose key came before, as (key, place, first place)"
    first = {}
    return [(key, place, first[key]) for key, place in pairs if first.setdefault(key, place) != place]

def is_asserting(cell)->bool: return any(isinstance(n, ast.Assert) or called(n).startswith(('test_', 'check_')) for n in cell.walk())


# 1, 2: the package stands on its own

@rule(NOTEBOOK_RULES)
def cells_are_python(p):
    "Every code cell is Python"
    return [f'{c.where}: cannot be parsed' for c in p.cells if c.tree is None]

@rule(NOTEBOOK_RULES)
def exported_names_are_defined(p):
    "Exported code uses no name that only the notebook knows"
    options = '--isolated --no-cache --quiet --select=F821,F405 --output-format=concise'.split()
    return python('-m', 'ruff', 'check', *options, PACKAGE, cwd=p.root, ok=(0, 1)).splitlines()

@rule(NOTEBOOK_RULES)
def imports_are_used(p):
    "A module imports what it uses; what only the lessons of its notebook need is imported in the notebook's hidden cell"
    options = '--isolated --no-cache --quiet --select=F401 --output-format=concise'.split()
    return python('-m', 'ruff', 'check', *options, PACKAGE, cwd=p.root, ok=(0, 1)).splitlines()

@rule(NOTEBOOK_RULES)
def no_star_imports(p):
    "Exported cells import by name: behind a star, an undefined name cannot be seen"
    stars = [(c, n) for c in p.exported for n in c.walk() if isinstance(n, ast.ImportFrom) and n.names[0].name == '*']
    return [f'{c.where}: imports * from {n.module}' for c, n in stars]

@rule(NOTEBOOK_RULES)
def modules_import(p):
    "Every module can be imported in a fresh interpreter"
    return p.imports['failed']

@rule(NOTEBOOK_RULES)
def heavy_libraries_are_imported_where_used(p):
    "Importing the package leaves the heavy libraries alone"
    return p.imports['heavy']


# 3, 4, 13: notebooks and modules correspond

@rule(NOTEBOOK_RULES)
def one_module_per_notebook(p):
    "Every numbered notebook has a number and a `default_exp` of its own"
    missing = [f'{nb.path}: has no default_exp' for nb in p.numbered if not nb.module]
    claims = [(claim, nb.path) for nb in p.numbered for claim in (f'number {nb.number}', f'default_exp {nb.module}')]
    return missing + [f'{path}: {claim} is taken by {first}' for claim, path, first in repeated(claims)]

@rule(NOTEBOOK_RULES)
def only_numbered_notebooks_export(p):
    "A runnable notebook defines nothing for others"
    exporting = [c for nb in p.runnable for c in nb.code if c.exported or 'default_exp' in c.directives]
    return [f'{c.where}: exports, but the notebook has no number' for c in exporting]

@rule(NOTEBOOK_RULES)
def nbs_holds_only_notebooks(p):
    "nbs/ and nbs/paper/ hold notebooks and nothing else"
    return [f'{f}: does not belong there' for f in p.under('nbs') if not re.fullmatch(r'nbs/(paper/)?[^/]+\.ipynb', f)]

@rule(NOTEBOOK_RULES)
def package_is_exported(p):
    "The modules are, byte for byte, what nbdev_export writes"
    have = {m: (p.root/m).read_bytes() for m in p.modules}
    stale = [m for m, content in p.fresh.items() if have.get(m) != content]
    return [f"{m}: {'differs from its notebook' if m in have else 'is missing'}; run nbdev_export" for m in stale]

@rule(NOTEBOOK_RULES)
def no_orphan_modules(p):
    "Every module is written by a notebook"
    return [f'{m}: no notebook exports it' for m in p.modules if m not in p.fresh]

@rule(NOTEBOOK_RULES)
def modules_name_their_notebook(p):
    'Every module says "File to edit" and means an existing notebook'
    modules = [m for m in p.modules if Path(m).name not in ('__init__.py', '_modidx.py')]
    found = [(m, re.search(r'^# AUTOGENERATED! .*File to edit: (\S+\.ipynb)\.$', p.read(m), re.M)) for m in modules]
    silent = [f'{m}: has no "File to edit" line' for m, header in found if not header]
    exists = lambda m, header: Path(os.path.normpath(p.root/Path(m).parent/header[1])).exists()
    return silent + [f'{m}: names {header[1]}, which does not exist' for m, header in found if header and not exists(m, header)]


# 5: clean files

@rule(NOTEBOOK_RULES)
def notebooks_are_clean(p):
    "Every notebook file is what nbdev_clean would write"
    keys = {k: p.settings[k].split() for k in ('allowed_metadata_keys', 'allowed_cell_metadata_keys')}
    def cleaned(nb):
        content = json.loads(nb.text)
        clean_nb(content, **keys)
        return nb2str(content)
    return [f'{nb.path}: is not clean; run nbdev_clean' for nb in p.notebooks if cleaned(nb) != nb.text]

@rule(NOTEBOOK_RULES)
def kernel_is_python3(p):
    "Every notebook names the kernel that any environment has; nbdev_test silently skips others"
    kernels = {nb.path: nb.json['metadata'].get('kernelspec') for nb in p.notebooks}
    return [f'{path}: kernelspec is {kernel}' for path, kernel in kernels.items() if kernel != KERNEL]

@rule(NOTEBOOK_RULES)
def no_saved_errors(p):
    "No saved output is an error"
    return [f"{c.where}: saved output is {o.get('ename')}" for c in p.cells for o in c.outputs if o['output_type'] == 'error']

@rule(NOTEBOOK_RULES)
def no_widgets(p):
    "No widget is saved: it differs in every run and cannot be shown again"
    state = [f'{nb.path}: holds widget state' for nb in p.notebooks if 'widgets' in nb.json['metadata']]
    return state + [f'{c.where}: shows a widget' for c in p.cells for o in c.outputs if any('widget' in mime for mime in o.get('data', {}))]

@rule(NOTEBOOK_RULES)
def notebooks_are_light(p):
    "A notebook file stays small, and a component notebook keeps a figure or two"
    images = {nb.path: sum(mime.startswith('image/') for c in nb.code for o in c.outputs for mime in o.get('data', {})) for nb in p.numbered}
    sizes = {nb.path: len(nb.text.encode()) for nb in p.notebooks}
    return [f'{f}: {n} saved images, at most {MAX_IMAGES}' for f, n in images.items() if n > MAX_IMAGES] + \
           [f'{f}: {n//1024} KB, at most {MAX_BYTES//1024}' for f, n in sizes.items() if n > MAX_BYTES]


# 6: the order of the notebooks

def package_imports(cell, modules)->list[str]:
    "The package's modules that a cell imports, anywhere in it"
    froms = [(n.module, a.name) for n in cell.walk() if isinstance(n, ast.ImportFrom) and n.module for a in n.names]
    names = [a.name for n in cell.walk() if isinstance(n, ast.Import) for a in n.names]
    names += [f'{m}.{a}' if f'{m}.{a}' in modules else m for m, a in froms]
    packages = {m[:i.start()] for m in modules for i in re.finditer(r'\.', m)} | {PACKAGE}
    return sorted({n for n in names if n.split('.')[0] == PACKAGE and n not in packages})

@rule(NOTEBOOK_RULES)
def imports_go_downhill(p):
    "A numbered notebook imports smaller numbers only; no notebook imports what none exports"
    numbers = {f'{PACKAGE}.{nb.module}': nb.number for nb in reversed(p.numbered) if nb.module}
    found = [(nb, c, m) for nb in p.notebooks for c in nb.code for m in package_imports(c, numbers)]
    return [f'{c.where}: imports {m}, ' + (f'which is written in {numbers[m]}' if m in numbers else 'which no notebook exports')
            for nb, c, m in found if m not in numbers or nb.number and numbers[m] >= nb.number]


# 7: lessons

def ends_in_print(body)->bool:
    "Is the last statement a print, or a loop or branch that ends in one?"
    if not body: return False
    last = body[-1]
    if isinstance(last, ast.Expr): return called(last.value) in ('print', 'pprint')
    return not isinstance(last, DEFINITIONS) and any(ends_in_print(getattr(last, part, [])) for part in ('body', 'orelse', 'finalbody'))

@rule(NOTEBOOK_RULES)
def lessons_do_not_print(p):
    "A lesson ends in a displayed value or a figure"
    return [f'{c.where}: ends in print' for nb in p.numbered for c in nb.lessons if ends_in_print(c.body)]

WHOLE = re.compile(r'(?:(?:sorted|list)\()?(\w+)(?:\.(?:items|values|keys)\(\))?\)?')  # NAMES, sorted(NAMES), NAMES.items(), ...

def mentioned(cell)->set[str]:
    "Names a cell uses, the words it quotes (in quotation marks), and `for NAMES` where it loops over all of a registry"
    nodes = list(cell.walk())
    names = {getattr(n, key) for n in nodes for key, kind in (('id', ast.Name), ('attr', ast.Attribute)) if isinstance(n, kind)}
    words = {repr(n.value) for n in nodes if isinstance(n, ast.Constant)}
    loops = [ast.unparse(n.iter) for n in nodes if isinstance(n, (ast.For, ast.comprehension))]
    return names | words | {f'for {m[1]}' for loop in loops if (m := WHOLE.fullmatch(loop))}

def aliases(definition)->set[str]:
    "What stands for a definition in `mentioned`: its name, and for `@NAMES.register('word')` the word or a loop over NAMES"
    entries = [d for d in definition.decorator_list if called(d) == 'register' and isinstance(d.func, ast.Attribute)]
    return {definition.name} | {ast.unparse(a) for d in entries for a in d.args} | {f'for {ast.unparse(d.func.value)}' for d in entries}

@rule(NOTEBOOK_RULES)
def public_names_are_asserted(p):
    "Every public function and class occurs in an asserting cell of its own notebook, by name, registered word or registry"
    proven = {nb.path: set().union(*(mentioned(c) for c in nb.lessons if is_asserting(c))) for nb in p.notebooks}
    public = [(nb, c, d) for nb in p.notebooks for c in nb.exported for d in defined(c)]
    return [f'{c.where}: {d.name} occurs in no asserting cell' for nb, c, d in public if proven[nb.path].isdisjoint(aliases(d))]


# 8: nothing twice

@rule(NOTEBOOK_RULES)
def names_have_one_home(p):
    "A public name is defined in one notebook"
    homes = defaultdict(set)
    for nb in p.notebooks:
        for name in {n for c in nb.exported for n in assigned(c)}: homes[name].add(nb.path)
    return [f"{name}: is defined in {' and '.join(sorted(where))}" for name, where in homes.items() if len(where) > 1]

def fingerprint(cell)->str|None:
    "The code of a cell without its imports and with its constants blanked; None if that is too little to call a copy"
    tree = ast.Module([n for n in ast.parse(ast.unparse(cell.tree)).body if not isinstance(n, IMPORTS)], [])
    nodes = list(ast.walk(tree))
    is_note = lambda n: isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
    if sum(isinstance(n, ast.stmt) and not is_note(n) for n in nodes) < MIN_DUPLICATE: return None
    for n in nodes:
        if isinstance(n, ast.Constant): n.value = 0
    return ast.dump(tree)

@rule(NOTEBOOK_RULES)
def cells_are_not_copies(p):
    "No cell repeats another with other constants"
    prints = [(key, c.where) for c in p.cells if c.tree and 'parameters' not in c.tags and (key := fingerprint(c))]
    return [f'{where}: repeats {first}' for _, where, first in repeated(prints)]


# 9: runnable notebooks

def parameter_faults(cell)->list[str]:
    "What keeps a cell from being read by papermill: each line must be `name: type = literal  # help`"
    seen = {q.name: q for q in PythonTranslator.inspect({'source': cell.source})}
    return [fault for n in cell.body if (fault := _parameter_fault(n, seen))] or ([] if seen else ['has no parameter'])

def _parameter_fault(node, seen)->str|None:
    "What is wrong with one statement of a parameter cell"
    text = ast.unparse(node)
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value): return f'`{text}` is not `name: type = value`'
    try: value = ast.literal_eval(node.value)
    except ValueError: return f'`{text}` is computed'
    q = seen.get(node.target.id)
    if not isinstance(value, (str, int, float, list)): return f'`{text}` is not a string, number, boolean or list'
    if not q or _literal(q.default) != value: return f'papermill cannot read `{text}` (no = in its help, no # in its value)'
    if not q.help: return f'`{text}` has no help'

def _literal(text):
    try: return ast.literal_eval(text)
    except (ValueError, SyntaxError): return None

def tagged(nb): return [c for c in nb.cells if 'parameters' in c.tags]

@rule(NOTEBOOK_RULES)
def runnable_notebooks_have_parameters(p):
    "A runnable notebook has exactly one cell tagged `parameters`, of plain literals that papermill can list"
    count = [f'{nb.path}: {len(tagged(nb))} cells tagged parameters, exactly one is needed' for nb in p.runnable if len(tagged(nb)) != 1]
    return count + [f'{c.where}: {fault}' for nb in p.runnable for c in tagged(nb)[:1] for fault in parameter_faults(c)]

def _validates(nb)->bool:
    "Does the code cell after the parameters call check_parameters, known from kamig.experiment?"
    code = nb.code[:nb.code.index(tagged(nb)[0]) + 2]
    imports = [n for c in code for n in c.walk() if isinstance(n, ast.ImportFrom) and n.module == f'{PACKAGE}.experiment']
    known = any(a.name == 'check_parameters' for n in imports for a in n.names)
    return known and any(called(n) == 'check_parameters' for n in code[-1].walk())

@rule(NOTEBOOK_RULES)
def parameters_are_validated(p):
    "The next code cell refuses a misspelt parameter, which papermill lets pass"
    one = [nb for nb in p.runnable if len(tagged(nb)) == 1 and tagged(nb)[0].is_code]
    return [f'{tagged(nb)[0].where}: the next code cell must call check_parameters of kamig.experiment' for nb in one if not _validates(nb)]


# 10, 11, 14: cells

@rule(NOTEBOOK_RULES)
def no_cell_is_switched_off(p):
    "Code that is never run rots: neither `eval: false` nor `skip_exec`"
    off = re.compile(r'^[ \t]*#[ \t]*\|[ \t]*eval[ \t]*:[ \t]*false|^[ \t]*skip_exec[ \t]*:[ \t]*true', re.M | re.I)
    return [f'{c.where}: is never run ({m[0].strip()})' for nb in p.notebooks for c in nb.cells if (m := off.search(c.source))]

@rule(NOTEBOOK_RULES)
def imports_stand_alone(p):
    "An exported cell either imports or works"
    return [f'{c.where}: imports and works' for c in p.exported if 0 < sum(isinstance(n, IMPORTS) for n in c.body) < len(c.body)]

@rule(NOTEBOOK_RULES)
def code_is_short(p):
    "Functions, class cells and modules stay short: longer means a missing idea"
    defs = [(c, n) for c in p.exported for n in c.walk() if isinstance(n, FUNCTIONS)]
    class_cells = [c for c in p.exported if any(isinstance(n, ast.ClassDef) for n in c.body)]
    modules = [m for m in p.modules if not m.endswith('_modidx.py')]
    sizes = [(f'{c.where}: {n.name}', n.end_lineno - n.lineno + 1, MAX_FUNCTION) for c, n in defs]
    sizes += [(f'{c.where}: the class cell', len(c.source.splitlines()), MAX_CLASS_CELL) for c in class_cells]
    sizes += [(f'{m}: the module', len(p.read(m).splitlines()), MAX_MODULE) for m in modules]
    return [f'{what} has {n} lines, at most {most}' for what, n, most in sizes if n > most]

@rule(NOTEBOOK_RULES)
def public_names_have_docstrings(p):
    "Every exported public function and class has a docstring"
    return [f'{c.where}: {d.name} has no docstring' for c in p.exported for d in defined(c) if not ast.get_docstring(d)]


# 12: nothing of one machine

MACHINE = re.compile(r'(?<![A-Za-z0-9_])/(?:work|farm|root|(?:home|Users)/\w+)/|(?i:(?:index|find)[-_](?:url|links)\b)')

@rule(PACKAGE_RULES)
def files_know_no_machine(p):
    "No text file holds a path of somebody's machine or the address of a package registry"
    contents = {f: (p.root/f).read_bytes() for f in p.files}
    texts = {f: b.decode('utf-8', 'replace') for f, b in contents.items() if b'\0' not in b[:8192]}
    return [f'{f}, line {text.count(chr(10), 0, m.end()) + 1}: {m[0]}' for f, text in texts.items() for m in MACHINE.finditer(text)]


# The package's metadata

@rule(PACKAGE_RULES)
def version_is_one(p):
    "settings.ini and kamig.__version__ agree"
    told = re.search(r'^__version__ = "(.*)"$', p.read(f'{PACKAGE}/__init__.py'), re.M)
    versions = told and told[1], p.settings['version']
    return [] if versions[0] == versions[1] else [f'{PACKAGE}/__init__.py: version {versions[0]}, settings.ini has {versions[1]}']

distributions = cache(packages_distributions)  # import name -> distributions: 'sklearn' -> ['scikit-learn']

def third_party(source:str)->set[str]:
    "The top-level names of what a module imports from outside, anywhere in it"
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    return {n.split('.')[0] for n in names} - {PACKAGE, *sys.stdlib_module_names}

@rule(PACKAGE_RULES)
def imports_are_declared(p):
    "Every library that the package imports belongs to a declared dependency (or to an extra for users)"
    extras = [e for e in p.metadata.get('optional-dependencies', {}) if e != 'dev']
    declared = {canonicalize_name(r.name) for r in p.requirements(*extras)}
    owners = lambda name: {canonicalize_name(d) for d in distributions().get(name, [name])}
    foreign = [(m, name) for m in p.modules for name in sorted(third_party(p.read(m))) if declared.isdisjoint(owners(name))]
    return [f'{m}: imports {name}, which pyproject.toml does not declare' for m, name in foreign]

@rule(PACKAGE_RULES)
def dependencies_are_pinned(p):
    "constraints.txt pins every declared dependency to one version that pyproject.toml allows"
    lines = [line.split('#')[0].strip() for line in p.read('constraints.txt').splitlines()]
    pins = {canonicalize_name(name): version for name, is_pin, version in (line.partition('==') for line in lines) if is_pin}
    wanted = [(r, pins.get(canonicalize_name(r.name))) for r in p.requirements(*p.metadata.get('optional-dependencies', {}))]
    return [f"constraints.txt: {r} is {f'pinned to {pin}' if pin else 'not pinned'}" for r, pin in wanted if not (pin and r.specifier.contains(pin))]
