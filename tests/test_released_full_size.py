"""Released layouts at their published sizes, with made-up weights: our logits against those of the public implementations (minutes and gigabytes)"""
import json, math, zlib

import numpy as np
import pytest
import torch

from kamig.graphs import IncompatibilityGraph, KnowledgeGraphs
from kamig.model import load_released
from test_released import FIXTURES, TOLERANCE, difference, tree
from test_released_graphs import load

pytestmark = pytest.mark.slow

def weight(key, shape):
    "The tensor of a published name, of a size with which signals keep theirs through a wide and deep network"
    noise = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
    noise /= 5 if len(shape) == 1 else math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy((noise + (len(shape) == 1 and key.endswith(('weight', 'scale')))).astype(np.float32))

def full(name):
    "What the public implementation was given and returned, and the weights it had"
    known = dict(np.load(FIXTURES/f'full-{name}.npz'))
    return known, {k: weight(k, s) for k,s in json.loads(str(known['layout'])).items()}

def incompatibility(classes, positions, codes):
    "The random position graph of the fixture, drawn class by class"
    draws,sets = np.random.RandomState(2),torch.empty(classes, positions, codes, dtype=torch.bool)
    for c in range(classes): sets[c] = torch.from_numpy(draws.rand(positions, codes) < .2)
    sets[0,0] = False
    return IncompatibilityGraph.from_dense(sets)

def agrees(model, known, parameters):
    "Is this the published number of parameters, and are these the public logits?"
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert difference(model, known) < TOLERANCE

@pytest.mark.parametrize('name, parameters', [('titok-b64', 177_227_008), ('titok-s128', 294_990_848), ('autonat', 193_655_297)])
def test_logits(name, parameters):
    known,state = full(name)
    agrees(load_released(name, state), known, parameters)

def test_autonat_ka(shared_data):
    known,state = full('autonat-ka')
    graphs = KnowledgeGraphs(cooccurrence=load('cooccurrence', shared_data), similarity=load('similarity', shared_data), incompatibility=incompatibility(1000, 256, 1024))
    agrees(load_released('autonat-ka', state, graphs), known, 227_319_041)

@pytest.mark.parametrize('pixels, parameters', [(256, 172_457_193), (512, 173_047_017)])
def test_maskgit(pixels, parameters):
    known,state = full(f'maskgit-{pixels}')
    model = load_released('maskgit-jax', tree(state))
    assert model.seq_len == (pixels//16)**2
    agrees(model, known, parameters)
