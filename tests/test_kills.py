"""Long jobs that are killed outright (kill -9) at random moments and started again with the same command end as if nothing had happened"""
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import torch

from kamig.tokens import TokenCache
from long_jobs import JOBS, heed_ctrl_c
from safetensors.torch import load_file

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, 'IN_TEST': '1', 'OMP_NUM_THREADS': '1'}


class Commands:
    "Jobs as processes: each a new interpreter, or, where that takes too long, the child of one that has imported everything"
    def __init__(self, warm):
        self.command = [sys.executable, HERE/'long_jobs.py']
        self.server = subprocess.Popen(self.command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c) if warm else None

    def __enter__(self): return self

    def __exit__(self, *_):
        if self.server: self.server.communicate()

    def start(self, job, folder):
        "The number of the process; `end` says how it ended: 0 in peace, -9 killed"
        (folder/'started').unlink(missing_ok=True)
        if self.server is None:
            process = subprocess.Popen([*self.command, job, folder], env=ENVIRONMENT, preexec_fn=heed_ctrl_c)
            return process.pid, process.wait
        print(job, folder, sep='\t', file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline()), lambda: int(self.server.stdout.readline())

    def finish(self, job, folder):
        "The job to its end: its result, and its seconds from the first line of work on"
        pid, end = self.start(job, folder)
        while not (folder/'started').exists(): time.sleep(.002)
        start = time.perf_counter()
        assert end() == 0
        return json.loads((folder/'result.json').read_text()), time.perf_counter() - start

    def killed(self, job, folder, seconds, number=signal.SIGKILL):
        "Kill the job so many seconds after its first line of work; was it still at work?"
        pid, end = self.start(job, folder)
        while not (folder/'started').exists(): time.sleep(.002)
        time.sleep(seconds)
        try: os.kill(pid, number)
        except ProcessLookupError: pass
        return end() != 0


def check_whole(folder):
    "Whatever lies there under a name of its own can be read; what is being made is hidden, or waits for the file that completes it"
    for path in folder.rglob('[!.]*'):
        if path.suffix == '.safetensors': load_file(path)
        if path.suffix == '.json': json.loads(path.read_text())
        if path.suffix == '.npz': assert zipfile.ZipFile(path).testzip() is None
        if path.suffix == '.pt': torch.load(path, weights_only=True)
        if path.name == 'about.json' and (path.parent/'tokens.npy').exists(): TokenCache(path.parent)


def killed_and_resumed(commands, job, tmp_path, kills, seed):
    whole, cut = tmp_path/'whole run', tmp_path/'cut – and resumed'                  # spaces and a dash that is no ASCII, on purpose
    for folder in (whole, cut): folder.mkdir()
    expected, seconds = commands.finish(job, whole)
    moments = random.Random(seed)
    hits = 0
    for _ in range(kills):
        hits += commands.killed(job, cut, seconds*moments.uniform(.02, .9))
        check_whole(cut)
    found, _ = commands.finish(job, cut)
    assert found == expected
    assert not [p for p in cut.rglob('.*.part') if not p.name.startswith('.result.json')], 'the last run has swept up'
    return hits


@pytest.fixture(scope='module')
def warm():
    with Commands(warm=True) as commands: yield commands


@pytest.mark.parametrize('job', JOBS)
def test_a_killed_job_goes_on(warm, job, tmp_path):
    "Two kills each; the result, to the last bit, is that of a run that nobody disturbed"
    hits = killed_and_resumed(warm, job, tmp_path, kills=2, seed=f'short {job}')
    assert hits or job == 'graphs', 'no kill came in time: the moments are badly chosen'


@pytest.mark.parametrize('job', ['tokenizing', 'pretraining', 'sampling'])
def test_ctrl_c(warm, job, tmp_path):
    "An interrupted job ends with an error, leaves nothing half-written, and goes on to the same result"
    whole, cut = tmp_path/'whole', tmp_path/'cut'
    for folder in (whole, cut): folder.mkdir()
    expected, seconds = warm.finish(job, whole)
    assert warm.killed(job, cut, .4*seconds, signal.SIGINT)
    check_whole(cut)
    assert not list(cut.rglob('.*.part'))
    assert warm.finish(job, cut)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize('job', JOBS)
def test_a_killed_command_goes_on(job, tmp_path):
    "The same in full: a fresh interpreter each time, five kills"
    with Commands(warm=False) as commands: killed_and_resumed(commands, job, tmp_path, kills=5, seed=f'full {job}')


def pipeline(folder, patience=None):
    "The main job by papermill in `folder`; after `patience` seconds it is killed with all its processes. Its exit status"
    command = [sys.executable, '-m', 'papermill', HERE.parent/'nbs'/'train.ipynb', folder/'out.ipynb', '--no-progress-bar', '-p', 'backbone', 'maskgit', '-p', 'scale', 'smoke', '-p', 'out', folder/'results']
    process = subprocess.Popen(command, env={**ENVIRONMENT, 'KAMIG_DATA': str(folder/'data')}, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try: return process.wait(patience)
    except subprocess.TimeoutExpired:
        for p in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]: p.kill()
        return process.wait()


def record(folder):
    "What a run has found, without when and how long"
    found = json.loads((folder/'results'/'record.json').read_text())
    stages = {name: stage['weights'] for name, stage in found.pop('stages').items()}
    return {k: v for k, v in found.items() if k != 'origin'} | stages


@pytest.mark.slow
def test_twenty_kills_of_the_whole_pipeline(tmp_path):
    "Tokenizer, tokens, graphs, pre-training, two fine-tunes, samples, scores: killed twenty times on the way, the record is the same"
    whole, cut = tmp_path/'whole', tmp_path/'cut'
    for folder in (whole, cut): folder.mkdir()
    start = time.perf_counter()
    assert pipeline(whole) == 0
    seconds, moments, kills = time.perf_counter() - start, random.Random(20), 0
    for _ in range(20):
        kills += pipeline(cut, moments.uniform(.15, .5)*seconds) != 0
        check_whole(cut)
    assert pipeline(cut) == 0
    assert record(cut) == record(whole)
    assert kills == 20
