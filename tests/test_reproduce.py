"""The plan is whole, and the command says what it would do"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def command(*arguments, data):
    "`kamig reproduce`, as a user calls it"
    environment = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | dict(KAMIG_DATA=str(data), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, '-c', 'import sys; from kamig.cli import main; sys.exit(main())', 'reproduce', *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_every_notebook_of_the_paper_is_in_the_plan():
    from kamig.reproduce import NEEDS, VARIANTS, drawings
    assert {d.path for d in drawings().values()} == set((ROOT/'nbs'/'paper').glob('*.ipynb'))
    assert {notebook for notebook, _ in VARIANTS.values()} <= set(drawings())
    assert set(NEEDS) <= set(drawings())


def test_everything_drawn_from_records_alone_takes_the_same_parameters():
    from kamig.reproduce import drawings
    assert not [n for n, d in drawings().items() if 'run' in d.declared and not {'scale', 'records', 'out'} <= d.declared]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path):
    done = command('--scale', 'small', '--only', 'table3', '--records', tmp_path/'runs', '--dry-run', data=tmp_path/'data')
    assert done.returncode == 0, done.stderr
    names = [task['name'] for task in json.loads(done.stdout)['tasks']]
    assert 'ablation/digits-maskgit-small-seed0.json' in names and 'table3' in names and '--run missing makes them' in done.stderr
    assert not (tmp_path/'runs').exists() and not (tmp_path/'data').exists()


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    done = command('--only', 'table33', data=tmp_path)
    assert done.returncode == 2 and 'table3, ' in done.stderr and 'Traceback' not in done.stderr


def test_missing_records_are_made_and_the_table_is_drawn_then_nothing_is_left_to_do(tmp_path):
    arguments = ['--scale', 'smoke', '--only', 'table5', '--run', 'missing', '--records', tmp_path/'runs', '--out', tmp_path/'out']
    done = command(*arguments, data=tmp_path/'data')
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    table = json.loads((tmp_path/'out'/'table5.json').read_text())
    assert '2 seeds' in table['blocks'][0]['title'] and len(list((tmp_path/'runs'/'ndcg').glob('*.json'))) == 2
    again = command(*arguments, data=tmp_path/'data')
    assert {task['state'] for task in json.loads(again.stdout)['tasks']} == {'there', 'drawn'}


@pytest.mark.slow
def test_everything_is_drawn_from_the_committed_records(tmp_path):
    done = command('--out', tmp_path/'out', data=tmp_path/'data')
    assert done.returncode == 0, done.stdout
