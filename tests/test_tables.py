"""The committed tables and claims are what the committed records give, and every number in them can be walked back to its record"""
import json
from dataclasses import replace

import pytest

import kamig.results                                          # registers tables 1, 2 and 6
import kamig.storage                                          # and 4
from kamig.claims import VERDICTS, read_figures, save_claims
from kamig.core import repo_root
from kamig.tables import TABLES, Cell, check_table, read_records, save_table, walk
from kamig.pages import controls_text
from kamig.report import load_records, results_text

PAPER = repo_root()/'paper'
OURS = ('table1', 'table2', 'table4', 'table6')


@pytest.fixture(scope='module')
def records():
    found = read_records()
    found['figures'] = read_figures()
    return found


@pytest.mark.parametrize('name', OURS)
def test_tables_are_those_of_the_records(name, records, tmp_path):
    "To write them anew: papermill nbs/paper/table1.ipynb out.ipynb"
    for path in save_table(TABLES[name](records), tmp_path): assert path.read_text() == (PAPER/'tables'/path.name).read_text(), f'{path.name} is out of date'


def tables(): return sorted((PAPER/'tables').glob('*.json'))


@pytest.mark.parametrize('path', tables(), ids=lambda p: p.stem)
def test_every_number_is_found_in_its_record(path):
    assert check_table(path) > 0


@pytest.mark.parametrize('path', tables(), ids=lambda p: p.stem)
def test_no_block_mixes_printed_numbers_with_ours(path):
    for block in json.loads(path.read_text())['blocks']:
        printed = {a.startswith('reported.json') for row in block['rows'] for cell in row['cells'].values() for a in cell['origins']}
        assert len(printed) <= 1, block['title']


@pytest.mark.parametrize('path', tables(), ids=lambda p: p.stem)
def test_a_run_record_can_be_made_again(path):
    "Each record behind a table says from which commit, with which settings and on which device it was made"
    names = {a.split('#')[0] for b in json.loads(path.read_text())['blocks'] for row in b['rows'] for c in row['cells'].values() for a in c['origins']}
    for name in (n for n in names if n.startswith('runs/')):
        origin = walk(f'{name}#/origin')
        assert len(origin['commit']) == 40 and origin['device'] and origin['versions']['torch'], name


def test_latex_is_balanced_and_plain():
    for path in (PAPER/'tables').glob('*.tex'):
        text = path.read_text()
        assert text.count(r'\begin{tabular}') == text.count(r'\end{tabular}') > 0
        assert text.isascii(), [c for c in text if not c.isascii()][:5]


def test_claims_are_those_of_the_records(records, tmp_path):
    "To write them anew: papermill nbs/paper/claims.ipynb out.ipynb"
    data,page = save_claims(records, tmp_path)
    assert json.loads(data.read_text()) == json.loads((PAPER/'claims.json').read_text())
    assert page.read_text() == (repo_root()/'docs'/'claims.md').read_text()


def test_every_margin_rests_on_records():
    found = json.loads((PAPER/'claims.json').read_text())
    for name,claim in found.items():
        for f in claim['findings']:
            assert f['verdict'] in VERDICTS
            for address in f['records']: walk(address)
            if f['verdict'] == 'holds' and f['margin']['unit'] == 'seeds': assert f['margin']['low'] > 0 and f['margin']['n'] > 1, name
            if f['verdict'] == 'not yet measured': assert not f['margin'], name


def test_a_number_without_a_record_is_noticed(records, tmp_path):
    table = TABLES['table6'](records)
    block = table.blocks[1]
    rows = {label: dict(cells) for label,cells in block.rows.items()}
    rows['AutoNAT',]['batch_size'] = Cell((17,), rows['AutoNAT',]['batch_size'].origins)
    forged = replace(table, blocks=(replace(block, columns=block.columns[1:2], rows={k: v | {'batch_size': replace(v['batch_size'], conditions={})} for k,v in rows.items()}),))
    with pytest.raises(ValueError, match='17 is not what'): check_table(save_table(forged, tmp_path)[0])


def test_the_readme_shows_what_the_records_say(records):
    "To write it anew: `write_between_marks` with these texts, see paper/README.md"
    readme = (repo_root()/'README.md').read_text()
    for mark, text in (('controls', controls_text(records)), ('results', results_text(load_records()))):
        assert readme.split(f'<!-- {mark} -->\n')[1].split(f'<!-- /{mark} -->')[0].strip() == text.strip(), mark
