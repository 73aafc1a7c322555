"""The table of discrepancies is complete, its switches exist, and their defaults are what it says"""
import ast, json, re, subprocess, sys

import pytest
from kamig.discrepancies import DISCREPANCIES, GROUPS, default_of, discrepancies_page
from kamig.fusion import FUSION_SWITCHES, FusionConfig
from kamig.graphs import GRAPH_SWITCHES, GraphConfig

from rules import ROOT

SWITCHES = [(row.number, switch) for row in DISCREPANCIES.values() for switch in row.switches]
FOLLOWING = {'GraphConfig': (GraphConfig(2, 1, (1, 2)), GRAPH_SWITCHES), 'FusionConfig': (FusionConfig(), FUSION_SWITCHES)}


def test_there_are_43_rows():
    assert sorted(DISCREPANCIES) == list(range(1, 44)) == sorted(row.number for row in DISCREPANCIES.values())
    assert {row.group for row in DISCREPANCIES.values()} == set(GROUPS)
    assert all(row.what and row.here and (row.paper or row.released) for row in DISCREPANCIES.values())


@pytest.mark.parametrize('number, switch', SWITCHES, ids=[f'{n}-{s.where}' for n, s in SWITCHES])
def test_switch_is_there_and_its_default_is_as_the_table_says(number, switch):
    assert tuple(default_of(switch.where, f) for f in ('paper', 'released')) == switch.defaults


def test_every_switch_that_follows_fidelity_is_in_the_table():
    for owner, (config, follows) in FOLLOWING.items():
        told = {s.where.split('.')[1]: dict(zip(('paper', 'released'), s.defaults)) for _, s in SWITCHES if s.where.startswith(owner) and len(set(s.defaults)) == 2}
        assert told == follows
        assert {k: getattr(config.settled(), k) for k in follows} == {k: v['paper'] for k, v in follows.items()}   # a new configuration follows the paper


def test_an_unknown_switch_is_noticed():
    for where in ('GraphConfig.flaw', 'set_trainable.flaw', 'Preset.finetune.flaw', 'flaw'):
        with pytest.raises((AttributeError, KeyError)): default_of(where, 'paper')


def test_every_row_has_a_check_that_asserts():
    "One function in the notebook, decorated with the row's number, that holds an assertion"
    cells = json.loads((ROOT/'nbs'/'64_discrepancies.ipynb').read_text())['cells']
    lessons = [s for c in cells if c['cell_type'] == 'code' and '#| export' not in (s := ''.join(c['source']))]
    checks = [(d.args[0].value, f) for s in lessons for f in ast.parse(s).body if isinstance(f, ast.FunctionDef) for d in f.decorator_list
              if isinstance(d, ast.Call) and getattr(d.func, 'id', '') == 'shows']
    assert sorted(n for n, _ in checks) == list(range(1, 44))
    for number, f in checks:
        asserting = [n for n in ast.walk(f) if isinstance(n, ast.Assert) or isinstance(n, ast.Call) and getattr(n.func, 'id', '').startswith('test_')]
        assert asserting, f'the check of row {number} asserts nothing'
        assert isinstance(f.body[-1], ast.Return), f'the check of row {number} says nothing'


def test_reading_the_table_loads_nothing():
    code = 'import sys, kamig.discrepancies; print(sorted({"torch", "numpy", "pandas"} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_the_page_is_up_to_date():
    "To write it anew: python -c \"from kamig.discrepancies import discrepancies_page as p; open('docs/discrepancies.md', 'w').write(p())\""
    assert (ROOT/'docs'/'discrepancies.md').read_text() == discrepancies_page()
    rows = [re.split(r' \| ', line.strip('| ')) for line in discrepancies_page().splitlines() if re.match(r'\| \d+ \|', line)]
    assert len(rows) == 43 and all(len(row) == 6 for row in rows)
