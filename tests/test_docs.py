"""The documentation site: it builds without a warning, its pages say what they should, its code runs"""
import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT/'README.md', *sorted(p for p in (ROOT/'docs').rglob('*.md') if not {'_build', 'notebooks', 'api', 'run', 'results'} & set(p.relative_to(ROOT/'docs').parts))]
BLOCK = re.compile(r'(<!-- tested -->\n)?```python\n(.*?)```', re.S)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_code_of_a_page(page, tmp_path):
    "Blocks marked as tested run, in their order and in a folder of their own; all others are at least Python"
    blocks = BLOCK.findall(page.read_text())
    for _, code in blocks: ast.parse(code)
    tested = '\n'.join(code for mark, code in blocks if mark)
    if not tested: return
    (tmp_path/'page.py').write_text(tested + ("\nimport json; json.dump(table, open('table.json', 'w'))\n" if page.stem == 'imagenet' else ''))
    environment = {**os.environ, 'KAMIG_DATA': str(tmp_path/'data'), 'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'agg', 'IN_TEST': '1', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, 'page.py'], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if page.stem != 'imagenet': return
    rows = {m[1]: m[0] for m in re.finditer(r'\| `([a-z-]+)` \| \d+ M \|.*', page.read_text())}
    for name, (weights, tuning, operations, seconds) in json.loads((tmp_path/'table.json').read_text()).items():
        assert rows[name].startswith(f'| `{name}` | {weights} M | {tuning} | {operations} | {seconds} |'), rows[name]


READ_IN_THE_REPOSITORY = [*(ROOT/f'{n}.md' for n in ('README', 'CONTRIBUTING', 'CHANGELOG', 'data/README', 'docs/claims', 'docs/discrepancies', 'docs/scaling', 'docs/weights')), *sorted((ROOT/'docs'/'guides').glob('*.md'))]


@pytest.mark.parametrize('page', READ_IN_THE_REPOSITORY, ids=lambda p: p.stem)
def test_links_lead_to_files_of_the_repository(page):
    "These pages are read there as well as on the site, which leads the same links to its own pages"
    of_the_site = {'run', 'notebooks', 'api', 'results', 'run.md', 'findings.md', 'glossary.md', 'project.md', 'contributing.md', 'changelog.md'}
    links = re.findall(r'(?<!!)\[[^\]]*\]\(([^)\s#]+)[^)\s]*\)', re.sub(r'```.*?```', '', page.read_text(), flags=re.S))
    for link in (x for x in links if not re.match(r'[a-z]+:', x)):
        target = (page.parent/link).resolve()
        below_docs = target.relative_to(ROOT/'docs').parts[:1] if target.is_relative_to(ROOT/'docs') else ()
        assert target.exists() and not of_the_site & {*below_docs}, link


def test_the_readme_names_every_notebook():
    "The ranges of its table; a notebook that runs stands there by its name"
    table = re.search(r'\| notebooks \| what \|\n.*?\n\n', (ROOT/'README.md').read_text(), re.S)[0]
    named = {word for line in table.splitlines() for word in re.findall(r'`(.*?)`', line)}
    numbers = {n for line in table.splitlines() for a, _, b in re.findall(r'`(\d\d)`(–`(\d\d)`)?', line) for n in range(int(a), int(b or a) + 1)}
    assert {n.name for n in (ROOT/'nbs').glob('[0-9]*.ipynb') if int(n.name[:2]) not in numbers} == set()
    assert {n.stem for n in (ROOT/'nbs').glob('[!0-9]*.ipynb')} <= named


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The built site; broken links and headings are warnings of Sphinx, and warnings are errors"
    pytest.importorskip('myst_nb', reason="pip install -c constraints.txt -e '.[docs]'")
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', ROOT/'docs', folder/'html'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder/'html'


class Text(HTMLParser):
    "The visible text of a page, its links, and the ids that can be linked to"
    def __init__(self, html):
        super().__init__()
        self.words, self.links, self.ids, self.remote = [], [], set(), []
        self.feed(html)

    def handle_data(self, data): self.words.append(data)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag in ('script', 'img') and (a.get('src') or '').startswith(('http:', 'https:', '//')): self.remote.append(a['src'])
        if tag == 'link' and a.get('rel') == 'stylesheet' and (a.get('href') or '').startswith(('http:', 'https:', '//')): self.remote.append(a['href'])


@cache
def read(path): return Text(path.read_text(encoding='utf-8'))


def test_every_notebook_and_module_has_a_page(site):
    for notebook in (ROOT/'nbs').glob('[0-9][0-9]_*.ipynb'):
        assert (site/'notebooks'/f'{notebook.stem}.html').exists()
        module = re.search(r'#\|\s*default_exp (\S+?)(\\n|")', notebook.read_text())[1]
        assert (site/'api'/f'{module}.html').exists()
    for notebook in [*(ROOT/'nbs').glob('[!0-9]*.ipynb'), *(ROOT/'nbs'/'paper').glob('*.ipynb')]: assert (site/'run'/f'{notebook.stem}.html').exists()


def test_reference_shows_shapes_examples_and_sources(site):
    page = read(site/'api'/'graphs.html')
    text = ' '.join(''.join(page.words).split())
    assert 'kamig.graphs.build_graphs' in page.ids                                            # can be found and linked to
    assert '(B, L) integer codes: tensor, array or memory map' in text                        # a trailing comment
    assert 'Worked example: build_graphs' in text and 'Source' in text
    assert any(link.startswith('../notebooks/20_graphs.html#') for link in page.links)


def test_links_lead_somewhere(site):
    "Links within the site and to the headings of its pages (Sphinx looks at those of Markdown, not at all that are generated)"
    pages = {p: read(p) for p in site.rglob('*.html')}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r'[a-z]+:|#?$', link): continue
            target, _, anchor = link.partition('#')
            file = (path.parent/target).resolve() if target else path
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].ids): broken.append(f'{path.relative_to(site)}: {link}')
    assert not broken, broken[:20]


def test_pages_need_nothing_from_elsewhere(site):
    "No script, style or picture of another host: the site can be read offline"
    remote = {(p.relative_to(site).as_posix(), r) for p in site.rglob('*.html') for r in read(p).remote}
    assert not remote, sorted(remote)[:5]


def test_formulas_are_drawn_by_the_browser(site):
    html = (site/'notebooks'/'22_fusion.html').read_text()
    assert html.count('<math') > 10 and '\U0001D4A2' in html        # a script G
    assert 'MathJax' not in html and '$$' not in ''.join(read(site/'notebooks'/'22_fusion.html').words)
