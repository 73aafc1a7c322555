"""The command `kamig`: in this process where that is enough, as a process of its own where signals and streams count"""
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import pytest

from kamig.cli import COMMANDS, main
from long_jobs import heed_ctrl_c

SMOKE = ('--scale', 'smoke', '--backbone', 'autonat')


def kamig(*words):
    "Exit code, standard output, standard error"
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err: code = main([str(w) for w in words])
    return code, out.getvalue(), err.getvalue()


def done(*words):
    "The result of a command that works; nothing but JSON is on standard output"
    code, out, err = kamig(*words)
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A data folder of its own, and a smoke run in it"
    folder = tmp_path_factory.mktemp('cli')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('KAMIG_DATA', str(folder/'data'))
        before = done('train', *SMOKE, '--dry-run')
        assert not (folder/'data').exists()                               # a dry run leaves nothing behind
        assert {row['state'] for row in before['would']} == {'to be made'}
        yield folder/'data', done('train', *SMOKE, '--trackers', 'tensorboard')


def test_train_tells_its_scores_and_where_they_are(data):
    folder, result = data
    record = json.loads((folder/'runs'/'digits-autonat-smoke-seed0'/'record.json').read_text())
    assert result['record'] == str(folder/'runs'/'digits-autonat-smoke-seed0'/'record.json') and record['name'] == result['name']
    assert result['arms']['ka']['nll'] == pytest.approx(record['arms']['ka']['nll'], rel=1e-6)
    assert {c['claim'] for c in result['claims']} == {c['claim'] for c in record['claims']}


def test_dashboards_were_told(data):
    told = {p.parent.name.split('-')[0] for p in (data[0]/'cache').rglob('events.out.tfevents*')}
    assert told == {'tokenizer', 'backbone', 'head', 'ka', 'features'}


def test_the_other_stages_go_on_from_it(data, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in data[0].rglob('weights.safetensors')}
    assert done('train', *SMOKE, '--resume') == data[1]
    assert {row['state'] for row in done('train', *SMOKE, '--dry-run')['would']} == {'found'}
    assert set(done('tokenize', *SMOKE)['caches']) == {'train', 'heldout'}
    assert (tmp_path/'g.safetensors').samefile(done('graphs', *SMOKE, '--out', tmp_path/'g.safetensors')['file'])
    images = done('sample', *SMOKE, '--arm', 'head', '--num-samples', 20, '--out', tmp_path)
    assert np.load(images['file'])['arr_0'].shape == (20, 8, 8, 3)
    assert done('evaluate', *SMOKE, '--arm', 'ka')['tokens']['nll']['mean'] == pytest.approx(data[1]['arms']['ka']['nll'], rel=1e-6)
    theirs = done('evaluate', *SMOKE, '--samples', images['file'], '--out', tmp_path)
    assert theirs['tokens'] == {} and list(theirs['images']) == ['samples-head.npz'] and (tmp_path/'scores-samples-head.json').exists()
    assert {p: p.stat().st_mtime_ns for p in data[0].rglob('weights.safetensors')} == before


@pytest.mark.parametrize('words, sentence', [
    (('train', '--backbone', 'maskgat'), "kamig: unknown backbone 'maskgat'; choose one of: autonat, maskgen, maskgit"),
    (('tokenize', '--dataset', 'nowhere'), "kamig: unknown data set 'nowhere'; choose one of: cifar10, digits, imagenet"),
    (('graphs', '--graphs', 'friendship'), "kamig: unknown graph 'friendship'; choose one of: all, cooccurrence"),
    (('sample', '--num-samples', '-1'), 'kamig: num_samples must not be negative, not -1'),
    (('evaluate', '--samples', 'nothing.npz'), 'nothing.npz'),
    (('train', '--trackers', 'neptune'), "kamig: unknown tracker 'neptune'; choose one of: tensorboard, wandb"),
    (('train', '--dataset', 'imagenet', '--scale', 'paper', '--dry-run'), 'reads published weights; not here: '),
    (('download', 'autonet'), "kamig: unknown published file 'autonet'; choose one of: adm-imagenet256"),
])
def test_what_cannot_be_done_is_said_in_a_sentence(data, words, sentence):
    code, out, err = kamig(*words)
    assert (code, out) == (2, '') and sentence in err and 'Traceback' not in err and len(err.splitlines()) == 1
    assert 'Traceback' in kamig(*words, '--traceback')[2]


def test_bad_words_are_bad_use(data):
    assert kamig('train', '--seed', 'one')[0] == kamig('train', '--scal', 'smoke')[0] == kamig('trian')[0] == kamig()[0] == 2
    assert kamig('--help')[0] == kamig('--version')[0] == kamig('train', '--help')[0] == 0


def test_a_failure_is_no_bad_use(data, monkeypatch):
    monkeypatch.setitem(sys.modules, 'kamig.stages', None)                # anything that is not the user's fault
    code, out, err = kamig('train')
    assert (code, out) == (1, '') and '(--traceback shows where)' in err


def test_every_command_explains_itself_without_torch():
    program = f'import sys\nfrom kamig.cli import main\nfor c in {list(COMMANDS)}: main([c, "--help"])\nmain(["completion"]); assert "torch" not in sys.modules and "numpy" not in sys.modules'
    shown = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True).stdout
    for command in COMMANDS.values(): assert command.example in shown


def test_published_files_are_listed_and_looked_for(data):
    files = {row['name'] for row in done('download', '--list')['files']}
    assert files >= {'autonat', 'mage-vqgan', 'inception'}
    assert done('download', 'inception', '--dry-run')['would'][0]['state'] == 'to be fetched'


def test_tables_and_figures_are_drawn_again(data, tmp_path):
    code, out, err = kamig('reproduce', '--only', 'table3', '--records', tmp_path/'none', '--dry-run')
    assert code == 0 and 'table3' in err and not (tmp_path/'none').exists()
    assert {(task['name'], task['state']) for task in json.loads(out)['tasks'] if task['kind'] == 'notebook'} == {('table3', 'to draw')}
    code, out, err = kamig('reproduce', '--only', 'table99')
    assert (code, out) == (2, '') and err.startswith("kamig: unknown table or figure 'table99'; choose one of: ")


def test_help_tells_the_words():
    shown = {name: ' '.join(kamig(name, '--help')[1].split()).replace('- ', '-') for name in COMMANDS}       # lines may end at a hyphen
    assert 'the generator: autonat, maskgen, maskgit, titok, titok-uvit (default: maskgit)' in shown['train']
    assert 'usage: kamig reproduce' in shown['reproduce'] and 'tensorboard, wandb' in shown['graphs']


def test_stopped_and_resumed(tmp_path):
    command = [sys.executable, '-c', 'import sys; from kamig.cli import main; sys.exit(main())', 'tokenize']
    environment = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | dict(KAMIG_DATA=str(tmp_path))
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)
    while running.poll() is None and not list(tmp_path.glob('cache/tokenizer-*/checkpoint.pt')): time.sleep(.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, '') and 'Traceback' not in err
    assert err.splitlines()[-1].endswith('kamig: stopped; what is finished is kept, and the same command goes on from the last checkpoint')
    asked = subprocess.run([*command, '--dry-run'], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)['would'][0]['state'] == 'to be continued'
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(json.loads(again.stdout)) == {'tokenizer', 'caches'}
