"""Samples of any system against a reference, as a user scores them: papermill in a subprocess"""
import json

import numpy as np
import pytest
from PIL import Image

from test_main_job import papermill

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Forty digit-like images as an .npz and as a folder of PNGs, sixty others as ADM's reference"
    folder = tmp_path_factory.mktemp('samples')
    images = np.random.RandomState(0).randint(256, size=(100, 8, 8, 3)).astype(np.uint8)
    np.savez(folder/'samples.npz', arr_0=images[:40])
    (folder/'png').mkdir()
    for i,image in enumerate(images[:40]): Image.fromarray(image).save(folder/'png'/f'{i}.png')
    np.savez(folder/'VIRTUAL.npz', arr_0=images[40:], mu=np.zeros(2048), sigma=np.eye(2048), mu_s=np.zeros(2023), sigma_s=np.eye(2023))
    np.savez(folder/'statistics.npz', mu=np.zeros(2048), sigma=np.eye(2048))
    return folder

def score(place, samples, **parameters):
    "Run the notebook; what it wrote about these samples"
    given = dict(scale='smoke', samples=place/samples, reference=place/'VIRTUAL.npz', out=place/'out') | parameters
    done = papermill('evaluate.ipynb', place/'out.ipynb', place/'data', *given.items())
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((place/'out'/f'scores-{(place/samples).stem}.json').read_text())['images'][samples]

def test_a_file_and_a_folder_of_the_same_samples_score_the_same(place):
    one,two = score(place, 'samples.npz'),score(place, 'png')
    assert one.pop('samples') != two.pop('samples')
    assert one == two
    assert (one['num_fake'], one['num_real'], one['distance_name'], one['statistics']) == (40, 60, 'local Frechet distance', 'of the reference images')
    assert not list((place/'data').glob('cache/tokenizer-*'))                    # nothing was trained but the feature network

@pytest.mark.parametrize('parameters, sentence', [
    (dict(samples='nowhere.npz'), 'there is no file or folder'),
    (dict(samples='statistics.npz'), 'holds no images'),
    (dict(extractor='dinov2'), 'no weights for dinov2: set KAMIG_DINOV2'),
    (dict(sample='samples.npz'), "unknown parameter of this notebook 'sample'; choose one of: arm, backbone, dataset, extractor"),
])
def test_wrong_sources_stop_before_any_work(place, tmp_path, monkeypatch, parameters, sentence):
    for name in ('HOME', 'TORCH_HOME'): monkeypatch.setenv(name, str(tmp_path))
    given = dict(scale='smoke', samples='samples.npz', reference='VIRTUAL.npz') | parameters
    paths = {k: place/v if k in ('samples', 'reference') else v for k,v in given.items()}
    done = papermill('evaluate.ipynb', tmp_path/'out.ipynb', tmp_path/'data', *paths.items())
    assert done.returncode != 0 and sentence in done.stderr
    assert not (tmp_path/'data').exists()
