"""The package as it is installed: a wheel in an environment of its own, away from the repository; and what a forge would run"""
import json
import os
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.specifiers import SpecifierSet

import kamig
from rules import ROOT

PROGRAM = '''
import json, sys
import torch
from kamig import build_graphs, create_model, load_pretrained, records_frame, sample
from kamig.core import repo_root
tokens, labels = torch.randint(12, (60, 16)), torch.arange(60) % 3
graphs = build_graphs(tokens, labels, codebook_size=12, num_classes=3, grid=(4, 4))
model = create_model('autonat', graphs, dim=32, depth=3)
again = load_pretrained(model.save_pretrained('shared'))
same = sample(again, [0, 1]).equal(sample(model, [0, 1]))
print(json.dumps(dict(root=repo_root(), same=same, nll=records_frame('data/runs')['arms.ka.nll'].tolist(), development=[m for m in ('nbdev', 'pytest', 'fastcore') if m in sys.modules])))
'''


def test_the_forge_runs_what_is_run_here():
    yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
    jobs = yaml.safe_load((ROOT/'.github'/'workflows'/'ci.yml').read_text())['jobs']
    assert [s['run'] for s in jobs['test']['steps'] if 'run' in s] == ['.ci/run']
    allowed = SpecifierSet(tomllib.loads((ROOT/'pyproject.toml').read_text())['project']['requires-python'])
    versions = jobs['test']['strategy']['matrix']['python']
    assert versions == ['3.11', '3.12', '3.13'] and all(allowed.contains(v) for v in versions) and not allowed.contains('3.10')
    assert os.access(ROOT/'.ci'/'run', os.X_OK)


def test_the_citation_names_this_version():
    yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
    about = yaml.safe_load((ROOT/'CITATION.cff').read_text())
    assert about['version'] == kamig.__version__ and about['license'] == 'Apache-2.0' and '2511.12032' in about['preferred-citation']['url']


@pytest.mark.slow
def test_a_program_beside_a_clone_finds_the_package(tmp_path):
    "The clone is a folder named kamig, too, and lies nearer"
    environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    def run(*command): return subprocess.run([str(c) for c in command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    run('git', 'clone', '--quiet', ROOT, tmp_path/'kamig')
    run(sys.executable, '-m', 'venv', tmp_path/'venv')
    run(tmp_path/'venv/bin/pip', 'install', '--quiet', '--no-deps', '-e', tmp_path/'kamig')
    assert run(tmp_path/'venv/bin/python', '-c', 'import kamig; print(kamig.__version__)').strip() == kamig.__version__


@pytest.mark.slow
def test_the_wheel_works_away_from_the_repository(tmp_path):
    def run(*command, **kwargs):
        environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST', 'VIRTUAL_ENV')} | dict(KAMIG_DATA=str(tmp_path/'data'))
        done = subprocess.run([str(c) for c in command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout
    run(sys.executable, '-m', 'build', '--outdir', tmp_path, ROOT)
    wheel, = tmp_path.glob('*.whl')
    source, = tmp_path.glob('*.tar.gz')
    assert {n.split('/')[0] for n in zipfile.ZipFile(wheel).namelist()} == {'kamig', f'{"-".join(wheel.name.split("-")[:2])}.dist-info'}
    assert 'kamig/py.typed' in zipfile.ZipFile(wheel).namelist() and source.stat().st_size < 20e6
    run(sys.executable, '-m', 'venv', tmp_path/'venv')
    run(tmp_path/'venv/bin/pip', 'install', '--quiet', '-c', ROOT/'constraints.txt', wheel)
    run(tmp_path/'venv/bin/pip', 'check')
    result = json.loads(run(tmp_path/'venv/bin/kamig', 'train', '--backbone', 'autonat', '--scale', 'smoke'))
    assert set(result['arms']) == {'backbone', 'head', 'ka'} and result['folder'] == str(tmp_path/'data'/'runs'/'digits-autonat-smoke-seed0')
    found = json.loads(run(tmp_path/'venv/bin/python', '-c', PROGRAM))
    assert found == dict(root=None, same=True, nll=[pytest.approx(result['arms']['ka']['nll'], rel=1e-5)], development=[])
