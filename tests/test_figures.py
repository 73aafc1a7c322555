"""The figures that are kept: three files each, data that are complete, hashes; and the same notebooks' way at scale `paper`, on small weights of the published layouts"""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kamig.embeddings import embedding_figure, plot_embeddings
from kamig.experiment import Experiment
from kamig.figures import SAMPLE_FIGURES, figure_preset, figure_record, grid_images, plot_grid, sample_grid, save_figure
from kamig.presets import make_preset
from kamig.replacements import PANEL_COLUMNS, READINGS, plot_panel, replacement_panel
from test_main_job import papermill
from test_paper_scale import autonat, data, small  # noqa: F401
from test_released import fixture, weight
from test_released_tokenizers import flax_bytes, save, weights

ROOT = Path(__file__).parent.parent
FOLDER = ROOT/'paper'/'figures'
KEPT = sorted(FOLDER.glob('fig*.json'))
MOST = 300*1024  # bytes of a picture


def read(path): return json.loads(path.read_text())


def test_every_figure_is_there():
    assert {read(p)['figure'] for p in KEPT} == set(range(3, 13))
    assert {read(p)['preset']['backbone'] for p in KEPT if read(p)['figure'] in SAMPLE_FIGURES} >= {f.backbone for f in SAMPLE_FIGURES.values()}


@pytest.mark.parametrize('path', KEPT, ids=lambda p: p.stem)
def test_a_figure_is_whole(path):
    record = read(path)
    assert record['name'] == path.stem == f"fig{record['figure']}-{record['experiment']}"
    assert set(record) == {'figure', 'name', 'experiment', 'scale', 'preset', 'seed', 'data', 'claims', 'checkpoints', 'origin'}
    assert all(path.with_suffix(s).stat().st_size <= MOST for s in ('.png', '.pdf'))
    image = np.asarray(Image.open(path.with_suffix('.png')).convert('RGB'))
    assert all((corner == 255).all() for corner in (image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]))       # white behind it
    assert path.with_suffix('.pdf').read_bytes().startswith(b'%PDF')


@pytest.mark.parametrize('path', KEPT, ids=lambda p: p.stem)
def test_a_figure_says_where_it_comes_from(path):
    record = read(path)
    origin, stages = record['origin'], record['checkpoints']
    assert re.fullmatch('[0-9a-f]{40}', origin['commit']) and origin['modified'] is False and origin['device']
    assert set(origin['versions']) >= {'torch', 'numpy', 'matplotlib', 'scikit-learn'}
    assert 'tokenizer' in stages and all(re.fullmatch('[0-9a-f]{64}', s['sha256']) and s['commit'] for s in stages.values())
    if record['figure'] in SAMPLE_FIGURES: assert set(stages) == {'tokenizer', *record['data']['codes']}
    if record['figure'] == 5: assert set(stages) == {'tokenizer', 'backbone', 'ka'}
    for claim in record['claims']:
        assert set(claim) >= {'claim', 'whose', 'holds', 'margin', 'unit'} and claim['whose'] in ('paper', 'ours') and isinstance(claim['holds'], bool)
    assert bool(record['claims']) == (record['figure'] in (5, 8))


@pytest.mark.parametrize('path', [p for p in KEPT if read(p)['figure'] in SAMPLE_FIGURES], ids=lambda p: p.stem)
def test_samples_are_named_by_rule(path):
    found, preset = read(path)['data'], read(path)['preset']
    shape = np.shape(found['samples'])
    assert shape[0] == len(found['rows']) == len(found['classes'])
    assert all(np.shape(codes) == shape for codes in found['codes'].values())
    assert [row[0] for row in found['samples']] == found['classes']                              # the first sample of a class has its number
    size = preset['line']['tokenizer']['codebook_size'] if preset['line'] else preset['tokenizer']['codebook_size']
    assert all(0 <= int(c) < size for rows in found['codes'].values() for row in rows for codes in row for c in codes.split())


@pytest.mark.parametrize('path', [p for p in KEPT if read(p)['figure'] == 8], ids=lambda p: p.stem)
def test_the_verdicts_follow_from_the_curve(path):
    found, claims = read(path)['data'], read(path)['claims']
    assert found['num_images'] == 1024 and set(found['readings']) == set(READINGS)
    for reading, values in found['readings'].items():
        psnr = {n: v['mean'] for n, v in values['psnr'].items()}
        assert set(psnr) >= {*map(str, range(1, 11)), 'random code', 'nearest vector', 'least similar'}
        second = next(c for c in claims if c['claim'].startswith('The second') and READINGS[reading] in c['claim'])
        assert second['margin'] == pytest.approx(psnr['1'] - psnr['2'], abs=2e-3) and second['holds'] == (second['interval'][0] > 0)


def test_a_notebook_writes_three_files(tmp_path):
    done = papermill('paper/figure3.ipynb', tmp_path/'out.ipynb', tmp_path/'data', ('scale', 'smoke'), ('out', tmp_path/'figures'), ('figure', 7))
    assert done.returncode == 0, done.stderr[-2000:]
    assert {p.name for p in (tmp_path/'figures').iterdir()} == {f'fig7-digits-maskgit-smoke-seed0.{kind}' for kind in ('png', 'pdf', 'json')}


def test_another_figure_is_refused(tmp_path):
    done = papermill('paper/figure4.ipynb', tmp_path/'out.ipynb', tmp_path/'data', ('figure', 5))
    assert done.returncode != 0 and 'unknown figure of this notebook 5; choose one of: 10, 11, 12, 4, 6, 9' in done.stderr
    assert not (tmp_path/'data').exists()


def test_published_weights_are_drawn(data, tmp_path):  # noqa: F811
    "AutoNAT: samples, stand-ins and maps on published weights"
    save('mage-vqgan', weights('mage-vqgan', 'small'), data/'weights'/'vqgan_jax_strongaug.ckpt')
    torch.save(autonat(64, 256, 2), data/'weights'/'nnet_ema.pth')
    experiment = Experiment(small(figure_preset(10, make_preset('autonat', 'imagenet', 'paper'))))
    grid = sample_grid(experiment, [0, 1], 1, arms=('backbone', 'ka'))
    images = grid_images(experiment, grid)
    assert grid['rows'] == ['n01440764', 'n01443537'] and images['ka'].shape == (2, 1, 3, 256, 256)
    path = save_figure(plot_grid(images, grid['rows']), tmp_path/'figures', figure_record(experiment, 10, grid, arms=grid['codes']))
    assert read(path)['checkpoints']['backbone']['sha256'] == experiment.arm('backbone').fingerprint
    panel = replacement_panel(experiment, PANEL_COLUMNS[3], rows=1, num_images=2)
    assert len(plot_panel(experiment, panel).axes) == 5
    maps, _ = embedding_figure(experiment)
    assert len(plot_embeddings(maps).axes) == 6 and len(maps['maps']['token table']) == 64


def test_512_pixels(data):  # noqa: F811
    "MaskGIT for 512 pixels: 32 x 32 codes, twelve steps, classes without a null class"
    preset = figure_preset(9, make_preset('maskgit', 'imagenet', 'paper'))
    with pytest.raises(FileNotFoundError, match='tokenizer_imagenet512_checkpoint.*maskgit_imagenet512_checkpoint'): Experiment(preset)
    tokenizer = weights('maskgit-vqgan-jax', 'small')
    dim = tokenizer['quantizer/codebook'].shape[1]
    tokenizer['quantizer/codebook'] = np.random.default_rng(0).standard_normal((1024, dim)).astype(np.float32)
    _, state = fixture('maskgit-jax')
    sizes = {'Embed_0.word_embeddings.embedding': (1027, 32), 'Embed_0.position_embeddings.embedding': (1025, 32), 'MlmLayer_0.mlm_bias.bias': (1027,)}
    state |= {k: weight(k, (n, *state[k].shape[1:])) for k, (n, *_) in sizes.items()}
    (data/'weights'/'tokenizer_imagenet512_checkpoint').write_bytes(flax_bytes(tokenizer))
    (data/'weights'/'maskgit_imagenet512_checkpoint').write_bytes(flax_bytes({k.replace('.', '/'): v.numpy() for k, v in state.items()}))
    experiment = Experiment(small(preset))
    grid = sample_grid(experiment, [1], 1, arms=('backbone',))
    assert grid['sampler']['num_steps'] == 12 and grid_images(experiment, grid)['backbone'].shape == (1, 1, 3, 512, 512)
    assert (experiment.tokenizer.module.grid, experiment.arm('backbone').module.seq_len) == ((32, 32), 1024)
