"""Decoders against the public implementations: the same logits and the same noise, their tokens after every step and ours (see fixtures/README.md)"""
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kamig import sampling
from kamig.layers import ClassConditional
from kamig.samplers.orders import halton_order

KNOWN = dict(np.load(Path(__file__).with_name('fixtures')/'samplers.npz'))
CODES, CLASSES, LABELS = 6, 3, [0, 2]

def numbers(key, *shape):
    "Uniform numbers that belong to a name"
    return np.random.RandomState(zlib.crc32(key.encode())).rand(*shape).astype(np.float32)

class Toy(ClassConditional, nn.Module):
    "Logits from the position, the class and the share of each code among all positions"
    codebook_size,mask_token_id,num_classes = CODES,CODES,CLASSES
    def __init__(self, seq_len):
        super().__init__()
        self.seq_len = seq_len
        self.base = nn.Parameter(torch.from_numpy(6*numbers('base', CLASSES+1, seq_len, CODES) - 3))
        self.pull = nn.Parameter(torch.from_numpy(6*numbers('pull', CODES, CODES) - 3))
    def forward(self, tokens, labels):
        shares = (tokens[...,None] == torch.arange(CODES)).float().mean(1)
        return self.base[labels] + (shares @ self.pull)[:,None]

@pytest.fixture
def replay(monkeypatch):
    "Makes `sample` use the noise that the public decoder was given under this name"
    def use(case, length, rolls=()):
        def noise(purpose, step, *shape): return -torch.log(-torch.log(torch.from_numpy(numbers(f'{case}.{purpose}.{step}', *shape))))
        def uniform(seeds, step, purpose, shape):
            if purpose == 2: return (torch.tensor(rolls)[:,None] + .5)/length               # where Halton's order begins
            return noise('tokens', step, len(seeds), length, CODES)
        monkeypatch.setattr(sampling, 'uniform', uniform)
        monkeypatch.setattr(sampling, 'gumbel', lambda seeds, step, purpose, shape: noise('choice', step, len(seeds), length))
        monkeypatch.setattr(sampling, 'draw_tokens', lambda logits, temperature, noise: (logits + temperature*noise).argmax(-1))   # a draw, by the largest noisy score
    return use

CASES = {
    'titok-linear':         dict(sampler='titok', num_steps=8),
    'titok-power-cosine':   dict(sampler='titok', num_steps=12, guidance_scale=6.9, guidance_decay='power-cosine', choice_temperature=2.8),
    'titok-constant':       dict(sampler='titok', num_steps=5, guidance_scale=2., guidance_decay='constant', choice_temperature=1., softmax_annealing=False),
    'titok-silent':         dict(sampler='titok', num_steps=8, choice_temperature=0.),
    'maskgen-cosine':       dict(sampler='maskgen', num_steps=16),
    'maskgen-linear':       dict(sampler='maskgen', num_steps=16, guidance_scale=3., guidance_decay='linear', choice_temperature=1.5),
    'maskgen-none':         dict(sampler='maskgen', num_steps=16, guidance_scale=2., guidance_decay='constant', choice_temperature=0.),
    'maskgen-flippedcosine': dict(sampler='maskgen', num_steps=16, guidance_scale=3., guidance_decay='flipped-cosine', choice_temperature=1.),
    'autonat':              dict(sampler='autonat', num_steps=8),
    'halton-8':             dict(sampler='halton', num_steps=8, guidance_scale=.7, sharpness_end=1.2),
    'halton-16':            dict(sampler='halton', num_steps=32, warmup_steps=0),
    'halton-rolled':        dict(sampler='halton', num_steps=5, guidance_scale=1.5, sharpness_end=2., sharpness_power=2, warmup_steps=0, top_k=3, randomize=True),
    'confidence-arccos':    dict(sampler='confidence', num_steps=12, guidance_scale=3., redraw=True),
    'confidence-cosine':    dict(sampler='confidence', num_steps=6, sharpness=1.3, choice_temperature=1., schedule='cosine', redraw=True),
    'maskgit-cosine':       dict(num_steps=8),
    'maskgit-given':        dict(num_steps=12, choice_temperature=2.),
    'maskgit-pow3':         dict(num_steps=6, choice_temperature=1., schedule='cubic'),
    'maskgit-log':          dict(num_steps=6, choice_temperature=1., schedule='log'),
    'maskgit-exp':          dict(num_steps=6, choice_temperature=1., schedule='exponential'),
    'maskgit-uniform':      dict(num_steps=6, choice_temperature=1., schedule='linear'),
    'maskgit-silent':       dict(num_steps=12, choice_temperature=0., sampling_temperature=1.)}

@pytest.mark.parametrize('case', CASES)
def test_same_tokens_after_every_step(case, replay):
    theirs = torch.from_numpy(KNOWN[case]).long()
    length = theirs.shape[-1]
    replay(case, length, rolls=(5, 40))
    given = torch.full((2, length), CODES)
    if case == 'maskgit-given': given[:, :20] = torch.arange(20) % CODES
    tokens,path = sampling.sample(Toy(length), LABELS, known_tokens=given, return_trajectory=True, **CASES[case])
    assert (path == CODES).sum(-1).equal((theirs == CODES).sum(-1))
    assert path.equal(theirs) and len(tokens.unique()) > 2

@pytest.mark.parametrize('change', [dict(choice_temperature=5.), dict(guidance_scale=1.), dict(softmax_annealing=False), dict(guidance_decay='power-cosine')])
def test_every_number_matters(change, replay):
    theirs = torch.from_numpy(KNOWN['titok-linear']).long()
    replay('titok-linear', 16)
    path = sampling.sample(Toy(16), LABELS, return_trajectory=True, **CASES['titok-linear'] | change)[1]
    assert not path.equal(theirs)

@pytest.mark.parametrize('size', [4, 8, 16, 24, 32])
def test_halton_order(size): assert list(halton_order(size, size)) == KNOWN[f'halton-order-{size}'].tolist()

@pytest.mark.parametrize('schedule', ['arccos', 'cosine', 'linear', 'root', 'square'])
def test_revealed_counts(schedule):
    path = sampling.sample(Toy(256), LABELS, 'confidence', 8, schedule=schedule, return_trajectory=True)[1]
    assert (path != CODES).sum(-1)[:,0].tolist() == KNOWN[f'confidence-counts-{schedule}'].tolist()
