"""The user's own commands, as a user gives them: papermill in a subprocess, in a folder of its own."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def papermill(notebook, out, data, *parameters):
    "Run a notebook; returns the completed process"
    command = [sys.executable, '-m', 'papermill', ROOT/'nbs'/notebook, out, '--no-progress-bar', *(str(p) for n, v in parameters for p in ('-p', n, v))]
    environment = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    return subprocess.run(command, env={**environment, 'KAMIG_DATA': str(data)}, cwd=out.parent, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A smoke run of the main job with the backbone that is not the default"
    folder = tmp_path_factory.mktemp('main job')
    done = papermill('train.ipynb', folder/'out.ipynb', folder/'data', ('backbone', 'autonat'), ('scale', 'smoke'), ('out', folder/'results'))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_main_job_writes_its_record_and_checkpoints(trained):
    record = json.loads((trained/'results'/'record.json').read_text())
    assert (record['preset']['backbone'], record['preset']['scale'], record['name']) == ('autonat', 'smoke', 'digits-autonat-smoke-seed0')
    assert {f.name for f in (trained/'results').iterdir()} >= {f'{n}.safetensors' for n in ('tokenizer', 'graphs', 'backbone', 'head', 'ka')}
    assert set(record['arms']) == {'backbone', 'head', 'ka'}
    assert record['arms']['ka']['distance_name'] == 'local Frechet distance'   # never called FID without Inception's weights
    assert set(record['origin']) >= {'commit', 'device', 'versions'}


def test_main_job_shows_its_pictures(trained):
    cells = json.loads((trained/'out.ipynb').read_text())['cells']
    images = [o for c in cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})]
    assert len(images) >= 5


@pytest.mark.parametrize('notebook', ['sample.ipynb', 'evaluate.ipynb'])
def test_single_stages_go_on_from_the_main_job(trained, notebook):
    done = papermill(notebook, trained/f'out-{notebook}', trained/'data', ('backbone', 'autonat'), ('scale', 'smoke'), ('arm', 'head'), ('out', trained/'results'))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (trained/'results'/('samples-head.npz' if notebook == 'sample.ipynb' else 'scores-head.json')).exists()


def test_a_folder_of_images_is_a_data_set(tmp_path):
    for i in range(80):
        path = tmp_path/'my images'/f'class {i%2}'/f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 36), 60 + i % 2*100).convert('RGB').save(path)
    done = papermill('graphs.ipynb', tmp_path/'out.ipynb', tmp_path/'data', ('dataset', tmp_path/'my images'), ('scale', 'smoke'))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path/'data'/'runs'/'graphs-my images-smoke.safetensors').exists()


@pytest.mark.parametrize('parameter, sentence', [
    (('backbne', 'autonat'), "unknown parameter of this notebook 'backbne'; choose one of: backbone, dataset, fidelity, graphs, out, scale, seed, trackers"),
    (('backbone', 'maskgat'), "unknown backbone 'maskgat'; choose one of: autonat, maskgen, maskgit"),
    (('dataset', 'nowhere'), "unknown data set 'nowhere'; choose one of: cifar10, digits, imagenet"),
    (('scale', 'big'), "unknown scale of digits 'big'; choose one of: paper, small, smoke"),
])
def test_a_wrong_parameter_stops_before_any_work(tmp_path, parameter, sentence):
    done = papermill('train.ipynb', tmp_path/'out.ipynb', tmp_path/'data', parameter)
    assert done.returncode != 0 and sentence in done.stderr
    assert not (tmp_path/'data').exists()


@pytest.mark.parametrize('content, sentence', [(None, 'holds no train images'), (b'no image', 'cannot be read as an image')])
def test_a_bad_image_folder_is_named(tmp_path, content, sentence):
    (tmp_path/'images'/'cats').mkdir(parents=True)
    if content:
        for i in range(3): (tmp_path/'images'/'cats'/f'{i}.png').write_bytes(content)
    done = papermill('train.ipynb', tmp_path/'out.ipynb', tmp_path/'data', ('dataset', tmp_path/'images'), ('scale', 'smoke'))
    assert done.returncode != 0 and sentence in done.stderr
    assert not list((tmp_path/'data').glob('**/*.safetensors'))


def test_ci_runs_what_the_readme_says():
    command = next(c for c in re.findall(r'```bash\n(.*?)\n```', (ROOT/'README.md').read_text(), re.S) if 'pytest' in c)
    steps = [s.replace('pip install', 'pip install --quiet') for s in command.split(' && ')[2:]]
    ci = [line.replace(' --timing', '') for line in (ROOT/'.ci'/'run').read_text().splitlines()]
    assert steps == [line for line in ci if line.split()[0:1] and line.split()[0] in ('pip', 'nbdev_test', 'pytest')]


def test_a_finished_bar_is_a_line_of_text(tmp_path):
    "An executed notebook is read without widgets: a bar that stands still at 1 % looks like a failure"
    import nbformat
    cell = "import time\nfrom kamig.core import progress\nfor _ in progress(range(4), desc='counting', delay=.1): time.sleep(.2)\nfor _ in progress(range(4)): pass"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)], metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python'))), tmp_path/'bars.ipynb')
    environment = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    done = subprocess.run([sys.executable, '-m', 'papermill', 'bars.ipynb', 'out.ipynb', '--no-progress-bar'], env=environment, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = nbformat.read(tmp_path/'out.ipynb', 4).cells[0].outputs
    assert [list(o.data) for o in outputs] == [['text/plain']], outputs
    assert outputs[0].data['text/plain'].startswith('counting: 100%') and '4/4' in outputs[0].data['text/plain']
