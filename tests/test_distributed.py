"""Two processes give what one process gives: graphs and samples in the same bits, training within rounding, metrics equal"""
import json, os, subprocess, sys
from pathlib import Path

import pytest
import torch

def launch(program:str, folder:Path, processes:int)->subprocess.CompletedProcess:
    "A program of this folder with its results in `folder`; two processes meet at a free port"
    env = {k: v for k, v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')} | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', IN_TEST='1')
    start = [sys.executable] if processes == 1 else [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
    done = subprocess.run([*start, str(Path(__file__).with_name(program)), str(folder)], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Folders of one process and of two"
    folders = {n: tmp_path_factory.mktemp(f'processes{n}') for n in (1, 2)}
    for n, folder in folders.items(): launch('two_processes.py', folder, n)
    return folders

def results(folder, rank=0): return torch.load(folder/f'results-{rank}.pt', weights_only=True)

@pytest.mark.parametrize('rank', [0, 1])
def test_graphs_are_the_same_bits(runs, rank):
    one, two = results(runs[1])['graphs'], results(runs[2], rank)['graphs']
    assert one.keys() == two.keys() and len(one) == 5
    for name in one: assert torch.equal(one[name], two[name]), name

@pytest.mark.parametrize('rank', [0, 1])
def test_samples_are_the_same_seed_by_seed(runs, rank):
    one, two = results(runs[1]), results(runs[2], rank)
    assert torch.equal(one['samples'], two['samples'])
    assert torch.equal(one['maps'], two['maps']) and len(one['maps']) == 11
    assert two['drawn'] == (2, 1)[rank]                     # of three files of images

@pytest.mark.parametrize('kind', ['plain', 'visible', 'sum', 'knowledge'])
def test_training_is_the_same_within_rounding(runs, kind):
    one, two, other = (results(runs[n], r)['training'][kind] for n, r in ((1, 0), (2, 0), (2, 1)))
    assert one['losses'] == pytest.approx(two['losses'], rel=1e-5)
    assert one['losses'][-1] < one['losses'][0]
    for name in one['weights']:
        torch.testing.assert_close(one['weights'][name], two['weights'][name], rtol=1e-4, atol=1e-4)
        assert torch.equal(two['weights'][name], other['weights'][name]), name       # every process ends with the same weights

def test_a_training_goes_on_where_it_stopped_and_one_process_writes(runs):
    for rank in (0, 1):
        found = results(runs[2], rank)
        assert found['resumed']['losses'] == found['training']['plain']['losses']
        for name, weight in found['training']['plain']['weights'].items(): assert torch.equal(weight, found['resumed']['weights'][name])
    log = [json.loads(line) for line in (runs[2]/'resumed'/'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in log] == [20, 40]

def test_metrics_are_equal(runs):
    one = results(runs[1])['metrics']
    assert len(one) > 3 and one == results(runs[2])['metrics'] == results(runs[2], 1)['metrics']

def test_token_caches_are_the_same_bits(runs):
    "Undisturbed or in two goes, whoever encodes what"
    one, two, other = results(runs[1]), results(runs[2]), results(runs[2], 1)
    files = one['tokenized'][0]
    assert files.keys() == {'tokens.npy', 'labels.npy', 'about.json'}
    for found in (one, two, other): assert found['tokenized'][0] == found['tokenized_again'][0] == files
    assert [found['tokenized'][1] for found in (one, two, other)] == [303, 151, 152]
    assert [found['tokenized_again'][1] for found in (one, two, other)] == [203, 51, 52]       # 50 batches of 2 had been noted


def test_a_whole_experiment(tmp_path):
    "The command `kamig train`, alone and by two processes: the same tokens, graphs, samples, and up to rounding the same numbers"
    folders = {n: tmp_path/f'{n} at work' for n in (1, 2)}
    told = {n: json.loads(launch('two_experiments.py', folder, n).stdout) for n, folder in folders.items()}      # two processes, and one result
    one, two, other = (json.loads((folders[n]/f'seen-{r}.json').read_text()) for n, r in ((1, 0), (2, 0), (2, 1)))
    assert two == other
    for name in ('tokens', 'tokenizer', 'maps', 'samples'): assert one[name] == two[name], name
    first, second = (json.loads(Path(told[n]['record']).read_text()) for n in (1, 2))
    for name in ('graphs', 'tokenizer', 'counts', 'baselines', 'name', 'seed', 'preset'): assert first[name] == second[name], name
    for arm, found in first['arms'].items():
        numbers = {k: v for k, v in found.items() if isinstance(v, (int, float))}
        assert numbers == pytest.approx({k: second['arms'][arm][k] for k in numbers}, rel=1e-4), arm
    for pair in first['paired']: assert first['paired'][pair]['nll'][0] == pytest.approx(second['paired'][pair]['nll'][0], rel=1e-3, abs=1e-6)
    assert [c['holds'] for c in first['claims']] == [c['holds'] for c in second['claims']]
    assert told[1]['arms'].keys() == told[2]['arms'].keys() and told[2]['record'].startswith(str(folders[2]))
    assert [p.name for p in (folders[2]/'cache').rglob('checkpoint.pt')] == []
