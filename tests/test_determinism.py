"""Same seed, same machine, same numbers: at any batch size, in any order, with any number of decoding workers"""
import os

import numpy as np
import pytest
import torch
from PIL import Image

import kamig.data
import long_jobs
from kamig.data import image_folder, read_images
from kamig.evaluation import sample_images, token_metrics
from kamig.sampling import sample
from kamig.scoring import kept_images
from kamig.tokens import tokenize
from small_files import content, eye, known, model

BATCHES = [1, 3, 7, 40]

def test_tokens_at_any_batch_size(tmp_path):
    caches = [tokenize(long_jobs.pictures(40), long_jobs.vq(), tmp_path/str(n), batch_size=n) for n in BATCHES]
    assert len({c.fingerprint for c in caches}) == 1 and len({(c.folder/'about.json').read_bytes() for c in caches}) == 1

@pytest.mark.parametrize('make', [model, known])
@pytest.mark.parametrize('sampler', ['maskgit', 'titok'])
def test_samples_at_any_batch_size_and_in_any_order(make, sampler):
    generator, labels, seeds = make().eval(), torch.arange(40) % 4, torch.arange(40)*7
    options = dict(sampler=sampler, num_steps=4, guidance_scale=1.5)
    expected = sample(generator, labels, seeds=seeds, **options)
    for n in BATCHES: assert torch.cat([sample(generator, labels[at], seeds=seeds[at], **options) for at in torch.arange(40).split(n)]).equal(expected)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert sample(generator, labels[order], seeds=seeds[order], **options).equal(expected[order])

def test_images_at_any_batch_size(tmp_path):
    generator, tokenizer, at = model().eval(), long_jobs.vq(), torch.arange(40)
    expected = sample_images(generator, tokenizer, at % 4, at, 40, num_steps=4)
    for n in BATCHES: assert (sample_images(generator, tokenizer, at % 4, at, n, num_steps=4).int() - expected.int()).abs().max() <= 1    # decoding rounds by batch: a byte may be a step off
    def make(places): return sample_images(generator, tokenizer, places % 4, places, 8, num_steps=4)
    assert kept_images(make, 40, tmp_path/'parts', part=8).batch(at).equal(kept_images(make, 40, tmp_path/'again', part=8).batch(at))

def test_scores_at_any_batch_size():
    tokens, labels = (torch.from_numpy(x) for x in long_jobs.corpus(40))
    expected = token_metrics(known().eval(), tokens, labels, metrics=('nll', 'ndcg', 'top1'))
    for n in BATCHES:
        for k, v in token_metrics(known().eval(), tokens, labels, metrics=('nll', 'ndcg', 'top1'), batch_size=n).items(): assert torch.allclose(v, expected[k], atol=1e-6), k
    features = eye()
    for n in BATCHES: assert torch.allclose(features(long_jobs.pictures(40), n).pool, features(long_jobs.pictures(40)).pool, atol=1e-6)

def test_images_by_any_number_of_workers(tmp_path, monkeypatch):
    for i in range(30):
        path = tmp_path/f'class {i % 3}'/f'{i}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.RandomState(i).randint(256, size=(20, 24, 3)).astype(np.uint8)).save(path)
    monkeypatch.setattr(kamig.data, 'MEMORY_LIMIT', 0)
    found = []
    for workers in (1, 2, 8):
        monkeypatch.setattr(os, 'cpu_count', lambda: workers)
        images = image_folder(tmp_path, 'train', 16)
        found.append(content([images.fingerprint, images.batch(torch.arange(len(images))), read_images(sorted(tmp_path.rglob('*.png')), 16)]))
    assert found[0] == found[1] == found[2]
