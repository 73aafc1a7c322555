"""Every rule bites: a tiny valid project breaks none, and each seeded violation is reported by its rule and by no other.

A seed changes the tiny project in up to three ways: `cells` are appended to notebooks (new ones are made), `edit` changes the
notebooks' JSON, then the package is exported, and `files` are written, edited or (None) deleted.
"""
import json, shutil
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rules import KERNEL, MAX_BYTES, MAX_CLASS_CELL, MAX_FUNCTION, MAX_MODULE, NOTEBOOK_RULES, PACKAGE_RULES, Project, write_files

RULES = NOTEBOOK_RULES + PACKAGE_RULES
CORE, EXPERIMENT, OTHER = (f'nbs/{name}.ipynb' for name in ('00_core', '01_experiment', '02_other'))
TRAIN, TABLE, OTHER_TABLE, STRAY = (f'nbs/{name}.ipynb' for name in ('train', 'paper/table1', 'paper/table2', 'extra/train'))


# The tiny project

def cell(source:str, **more)->dict:
    "A cell as nbdev_clean would leave it: markdown if it starts as a heading, raw if as front matter, else code"
    kind = 'markdown' if source.startswith('# ') else 'raw' if source.startswith('---') else 'code'
    code = dict(execution_count=None, outputs=[]) if kind == 'code' else {}
    return dict(cell_type=kind, metadata={}, source=source.splitlines(keepends=True)) | code | more

def parameters(source:str)->dict: return cell(source, metadata=dict(tags=['parameters']))

RUNNABLE = [
    '# Train', '%matplotlib inline\nfrom kamig.experiment import check_parameters',
    parameters('steps: int = 3  # training steps\nname: str = "small"  # which settings\n'
               'rates: list = [0.1, 0.2]  # learning rates\nquick: bool = True  # or thorough'),
    'check_parameters(dict(steps=steps, name=name, rates=rates, quick=quick))']

NOTEBOOKS = {
    CORE: [
        '#| default_exp core', '# Core', '#| export\nimport math', '#| hide\nfrom fastcore.test import test_eq',
        '#| export\nclass Menu(dict):\n    "Functions by word"\n    def register(self, word): return lambda f: self.setdefault(word, f)',
        '#| export\nMENU = Menu()\n\n@MENU.register("twice")\ndef double(x):\n    "Two times `x`"\n    return math.fsum([x, x])',
        'assert isinstance(MENU, Menu)\ntest_eq(MENU["twice"](2), 4)\nMENU'],
    EXPERIMENT: [
        '#| default_exp experiment', '# Experiment', '#| export\nfrom kamig.core import Menu', '#| hide\nfrom fastcore.test import test_eq',
        '#| export\ndef check_parameters(values):\n    "Refuse what is unknown"\n    return sorted(values)',
        '#| export\nSHARES = Menu()\n\n@SHARES.register("half")\ndef halve(x):\n    "Half of `x`"\n    return x/2',
        'test_eq(check_parameters({"steps": 1}), ["steps"])\nfor f in SHARES.values(): assert f(0) == 0'],
    TRAIN: RUNNABLE, TABLE: RUNNABLE}

FILES = {
    'nbs/.ipynb_checkpoints/train-checkpoint.ipynb': 'ignored',
    'pyproject.toml': '[project]\nname = "kamig"\ndependencies = ["matplotlib>=3", "scikit-learn"]\n'
                      '[project.optional-dependencies]\ndev = ["pytest<10"]\n',
    'constraints.txt': '# pins\nmatplotlib==3.10.0\nscikit_learn==1.6.0  # under its other spelling\npytest==9.0.0\n',
    'settings.ini': '''[DEFAULT]
repo = kamig
lib_name = kamig
lib_path = kamig
nbs_path = nbs
version = 0.1.0
update_pyproject = False
allowed_metadata_keys =
allowed_cell_metadata_keys = tags
user = kamig
author = kamig
description = tiny
branch = main
title = kamig
'''}

def notebook(cells)->dict:
    "A notebook of the given cells (sources, or whole cells)"
    cells = [(c if isinstance(c, dict) else cell(c)) | dict(id=f'cell{i}') for i, c in enumerate(cells)]
    return deepcopy(dict(cells=cells, metadata=dict(kernelspec=KERNEL), nbformat=4, nbformat_minor=5))

def build(root:Path, notebooks:dict, edit=None)->Path:
    "Write notebooks (path -> cells) and settings, and export the package"
    content = {path: notebook(cells) for path, cells in notebooks.items()}
    if edit: edit(content)
    write_files(root, FILES | {path: json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + '\n' for path, nb in content.items()})
    write_files(root, Project(root).fresh)
    return root

@pytest.fixture(scope='module')
def tiny(tmp_path_factory): return build(tmp_path_factory.mktemp('tiny'), NOTEBOOKS)

def reports(root:Path)->dict[str, list[str]]:
    "Rule -> what it found, for the rules that found something"
    project = Project(root)
    return {r.__name__: found for r in RULES if (found := r(project))}


# The seeds

@dataclass
class Seed:
    rule: str        # the rule that must report it
    says: str        # words of the report
    cells: dict = field(default_factory=dict)  # notebook -> cells to append
    edit: callable = None                      # changes the notebooks' JSON
    files: dict = field(default_factory=dict)  # path -> new text, function of the old text, or None
    also: tuple = ()                           # rules that cannot help seeing it too

def setting(path:str, keys:tuple, value):
    "An edit: set one place in a notebook's JSON"
    def edit(notebooks):
        *way, last = keys
        place = notebooks[path]
        for k in way: place = place[k]
        place[last] = value
    return edit

def lines(n:int, indent:str='')->str: return ''.join(f'{indent}step = {i}\n' for i in range(n))
def showing(**data)->dict: return dict(output_type='display_data', data={k.replace('_', '/', 1): v for k, v in data.items()}, metadata={})
def appended(text:str): return lambda old: old + text
def replaced(old_part:str, new_part:str): return lambda old: old.replace(old_part, new_part)

IMAGE = showing(image_png='aGVsbG8=')
ERROR = dict(output_type='error', ename='KeyError', evalue='', traceback=[])
MANY_STATEMENTS = 'counts = []\nfor i in range({0}):\n    counts.append(i)\ncounts.sort()\nassert len(counts) == {0}'
TRIPLE = '#| export\ndef triple(x):\n    "Three times `x`"\n    return 3*x'
WIDGET = {'application/vnd.jupyter.widget-view+json': {}}
HEADER = '# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/{}.ipynb.\n'
PRIVATE = '/'.join(('', 'home', 'me', 'data'))  # in pieces, for this file is checked too

def bad_parameters(source:str, says:str)->Seed:
    return Seed('runnable_notebooks_have_parameters', says, edit=setting(TRAIN, ('cells', 2, 'source'), [source]))

SEEDS = [
    Seed('cells_are_python', f'{CORE}, cell 7', {CORE: ['2 = = 3']}),
    Seed('exported_names_are_defined', 'Undefined name `shift`', {CORE: ['shift = 3', '#| export\ndef _moved(x): return x + shift']}),
    Seed('imports_are_used', '`json` imported but unused', {CORE: ['#| export\nimport json']}),
    Seed('no_star_imports', 'imports * from math', {CORE: ['#| export\nfrom math import *']}),
    Seed('modules_import', 'kamig.experiment: ImportError', {EXPERIMENT: ['#| export\nfrom kamig.core import triple']}, also=('imports_are_used',)),
    Seed('heavy_libraries_are_imported_where_used', 'kamig.core imports matplotlib', {CORE: ['#| export\nimport matplotlib']}, also=('imports_are_used',)),

    Seed('one_module_per_notebook', 'default_exp core is taken by nbs/00_core.ipynb', {OTHER: ['#| default_exp core', '# Other']}),
    Seed('one_module_per_notebook', 'has no default_exp', {OTHER: ['# Other']}),
    Seed('one_module_per_notebook', 'number 01 is taken', {'nbs/01_other.ipynb': ['#| default_exp other', '# Other']}),
    Seed('only_numbered_notebooks_export', f'{TRAIN}, cell 4', {TRAIN: ['#| default_exp train']}),
    Seed('nbs_holds_only_notebooks', 'nbs/notes.txt', files={'nbs/notes.txt': 'to do'}),
    Seed('nbs_holds_only_notebooks', STRAY, {STRAY: RUNNABLE}),
    Seed('package_is_exported', 'kamig/core.py: differs', files={'kamig/core.py': appended('# by hand\n')}),
    Seed('package_is_exported', 'kamig/experiment.py: is missing', files={'kamig/experiment.py': None}),
    Seed('no_orphan_modules', 'kamig/old.py', files={'kamig/old.py': HEADER.format('00_core')}),
    Seed('modules_name_their_notebook', 'kamig/old.py: has no', files={'kamig/old.py': ''}, also=('no_orphan_modules',)),
    Seed('modules_name_their_notebook', 'names ../nbs/09_old.ipynb', files={'kamig/old.py': HEADER.format('09_old')}, also=('no_orphan_modules',)),

    Seed('notebooks_are_clean', CORE, edit=setting(CORE, ('cells', 6, 'execution_count'), 3)),
    Seed('notebooks_are_clean', CORE, edit=setting(CORE, ('cells', 6, 'metadata', 'collapsed'), True)),
    Seed('notebooks_are_clean', TRAIN, files={TRAIN: lambda old: json.dumps(json.loads(old))}),
    Seed('kernel_is_python3', 'venv', edit=setting(CORE, ('metadata', 'kernelspec'), KERNEL | dict(name='venv', display_name='venv'))),
    Seed('kernel_is_python3', 'Python', edit=setting(CORE, ('metadata', 'kernelspec', 'language'), 'Python')),
    Seed('no_saved_errors', 'KeyError', edit=setting(TRAIN, ('cells', 3, 'outputs'), [ERROR])),
    Seed('no_widgets', 'widget state', edit=setting(TRAIN, ('metadata', 'widgets'), {})),
    Seed('no_widgets', 'shows a widget', edit=setting(TRAIN, ('cells', 3, 'outputs'), [showing() | dict(data=WIDGET)])),
    Seed('notebooks_are_light', '3 saved images', edit=setting(CORE, ('cells', 6, 'outputs'), [IMAGE]*3)),
    Seed('notebooks_are_light', 'at most 400', edit=setting(TRAIN, ('cells', 3, 'outputs'), [showing(text_plain=['x'*MAX_BYTES])])),

    Seed('imports_go_downhill', 'kamig.experiment, which is written in 01', {CORE: ['from kamig.experiment import check_parameters']}),
    Seed('imports_go_downhill', 'kamig.core, which is written in 00', {CORE: ['import kamig.core']}),
    Seed('imports_go_downhill', 'kamig.nowhere, which no notebook', {TRAIN: ['from kamig.nowhere import something']}),
    Seed('lessons_do_not_print', f'{CORE}, cell 7', {CORE: ['assert MENU\nprint(MENU)']}),
    Seed('lessons_do_not_print', f'{CORE}, cell 7', {CORE: ['for word in MENU:\n    print(word)']}),
    Seed('public_names_are_asserted', 'triple occurs in no', {CORE: [TRIPLE, 'triple("triple")']}),
    Seed('public_names_are_asserted', 'triple occurs in no', {CORE: [TRIPLE.replace('def', '@MENU.register("3")\ndef'), 'assert MENU["twice"]']}),
    Seed('names_have_one_home', 'double: is defined in', {EXPERIMENT: [TRIPLE.replace('triple', 'double'), 'test_eq(double(1), 3)']}),
    Seed('names_have_one_home', 'MENU: is defined in', {OTHER: ['#| default_exp other', '#| export\nMENU = 3']}),
    Seed('cells_are_not_copies', f'{EXPERIMENT}, cell 7', {nb: [MANY_STATEMENTS.format(n)] for n, nb in ((3, CORE), (4, EXPERIMENT))}),

    Seed('runnable_notebooks_have_parameters', '0 cells', edit=setting(TRAIN, ('cells', 2, 'metadata'), {})),
    Seed('runnable_notebooks_have_parameters', '2 cells', {TRAIN: [parameters('seed: int = 0  # of the run')]}),
    Seed('runnable_notebooks_have_parameters', '0 cells', {OTHER_TABLE: ['from kamig.experiment import check_parameters', 'check_parameters({})']}),
    bad_parameters('steps = name = rates = 3  # all', 'is not `name: type'),
    bad_parameters('steps = 3  # training steps', 'is not `name: type'),
    bad_parameters('steps: int = 3', 'has no help'),
    bad_parameters('steps: int = 3  # steps = epochs', 'cannot read'),
    bad_parameters('steps: str = "a #b"  # colour', 'cannot read'),
    bad_parameters('steps: int = len("abc")  # steps', 'is computed'),
    bad_parameters('steps: tuple = (1, 2)  # steps', 'is not a string'),
    bad_parameters('# nothing', 'has no parameter'),
    Seed('parameters_are_validated', f'{TRAIN}, cell 2', edit=setting(TRAIN, ('cells', 3, 'source'), ['steps'])),
    Seed('parameters_are_validated', f'{TRAIN}, cell 2', edit=setting(TRAIN, ('cells', 1, 'source'), ['check_parameters = print'])),

    Seed('no_cell_is_switched_off', 'eval: false', {CORE: ['#| eval: false\nassert MENU']}),
    Seed('no_cell_is_switched_off', 'eval:false', {TRAIN: ['steps\n#|eval:false']}),
    Seed('no_cell_is_switched_off', 'skip_exec', {CORE: ['---\nskip_exec: true\n---']}),
    Seed('imports_stand_alone', f'{CORE}, cell 7', {CORE: ['#| export\nimport json\n_seven = json.loads("7")']}),
    Seed('code_is_short', f'_long has {MAX_FUNCTION+1} lines', {CORE: [f'#| export\ndef _long():\n{lines(MAX_FUNCTION, "    ")}']}),
    Seed('code_is_short', f'class cell has {MAX_CLASS_CELL+1}', {CORE: [f'#| export\nclass _Long:\n{lines(MAX_CLASS_CELL-1, "    ")}']}),
    Seed('code_is_short', 'kamig/core.py: the module', {CORE: [f'#| export\n{lines(MAX_MODULE)}']}),
    Seed('public_names_have_docstrings', 'triple has no', {CORE: ['#| export\ndef triple(x): return 3*x', 'test_eq(triple(1), 3)']}),
    Seed('public_names_have_docstrings', 'Plain has no', {CORE: ['#| export\nclass Plain: pass', 'assert Plain()']}),

    Seed('files_know_no_machine', 'notes.md, line 2', files={'notes.md': f'\nsee {PRIVATE}'}),
    Seed('files_know_no_machine', 'ci.yml', files={'.ci/ci.yml': '--extra-index' '-url=https://example.org'}),
    Seed('files_know_no_machine', TRAIN, {TRAIN: [f'"{PRIVATE}"']}),
    Seed('version_is_one', 'settings.ini has 0.1.0', files={'kamig/__init__.py': '__version__ = "0.2.0"\n'}, also=('package_is_exported',)),
    Seed('imports_are_declared', 'kamig/core.py: imports yaml', {CORE: ['#| export\ndef _read():\n    import sklearn, yaml\n    return sklearn, yaml']}),
    Seed('imports_are_declared', 'imports pytest', {CORE: ['#| export\nimport pytest']}, also=('imports_are_used',)),
    Seed('dependencies_are_pinned', 'scikit-learn is not pinned', files={'constraints.txt': replaced('scikit_learn==', 'scikit_learn>=')}),
    Seed('dependencies_are_pinned', 'matplotlib>=3 is pinned to 2.0', files={'constraints.txt': replaced('3.10.0', '2.0')}),
    Seed('dependencies_are_pinned', 'pytest<10 is not pinned', files={'constraints.txt': replaced('pytest', 'pytest-cov')}),
]

def plant(seed:Seed, tiny:Path, root:Path)->Path:
    "A copy of the tiny project with one violation"
    shutil.copytree(tiny, root, dirs_exist_ok=True)
    if seed.cells or seed.edit: build(root, {path: NOTEBOOKS.get(path, []) + seed.cells.get(path, []) for path in NOTEBOOKS | seed.cells}, seed.edit)
    for path, new in seed.files.items():
        if new is None: (root/path).unlink()
        else: write_files(root, {path: new((root/path).read_text(encoding='utf-8')) if callable(new) else new})
    return root

def test_a_valid_project_breaks_no_rule(tiny): assert reports(tiny) == {}

@pytest.mark.parametrize('seed', SEEDS, ids=lambda seed: f'{seed.rule}: {seed.says}')
def test_rule_bites(seed, tiny, tmp_path):
    found = reports(plant(seed, tiny, tmp_path))
    assert set(found) == {seed.rule, *seed.also}, found
    assert any(seed.says in sentence for sentence in found[seed.rule]), found

def test_every_rule_has_a_seed():
    assert {seed.rule for seed in SEEDS} == {r.__name__ for r in RULES}
