"""Released layouts against the public implementations: the same weights and inputs, their logits and ours (see fixtures/README.md)"""
import json, zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from kamig.graphs import IncompatibilityGraph, KnowledgeGraphs, TokenGraph
from kamig.model import load_released
from test_released_graphs import load
from trees import nested

FIXTURES = Path(__file__).with_name('fixtures')
TOLERANCE = 2e-4                                                        # at logits of about 1, in float32

def weight(key, shape):
    "The tensor of a published name"
    noise = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)/5
    return torch.from_numpy((noise + (len(shape) == 1 and key.endswith(('weight', 'scale')))).astype(np.float32))

def fixture(name):
    "What the public implementation was given and returned, and the weights it had"
    known = dict(np.load(FIXTURES/f'{name}.npz'))
    return known, {k: weight(k, s) for k,s in json.loads(str(known['layout'])).items()}

def tree(state):
    "Names with dots as nested dicts, the way flax holds parameters"
    return dict(params=nested({k: v.numpy() for k,v in state.items()}, '.'))

@torch.no_grad()
def difference(model, known):
    "Largest difference of the logits at the places that were kept"
    logits = model(torch.from_numpy(known['tokens']).long(), torch.from_numpy(known['labels']).long())
    found = logits[tuple(torch.from_numpy(known['pick']).long())].numpy()
    assert known['logits'].std() > .5 and found.shape == known['logits'].shape
    return np.abs(found - known['logits']).max()

def incompatibility(classes, positions, codes):
    "The random position graph of the fixtures"
    sets = np.random.RandomState(2).rand(classes, positions, codes) < .2
    sets[0,0] = False
    return IncompatibilityGraph.from_dense(torch.from_numpy(sets))

def small_graphs(known):
    token_graphs = {n: TokenGraph(torch.from_numpy(known[f'{n}_edges']).long(), torch.from_numpy(known[f'{n}_weights']), 24) for n in ('cooccurrence', 'similarity')}
    return KnowledgeGraphs(**token_graphs, incompatibility=incompatibility(5, 16, 24))

def test_autonat(tmp_path):
    known,state = fixture('autonat')
    torch.save(state, tmp_path/'nnet_ema.pth')
    model = load_released('autonat', tmp_path/'nnet_ema.pth', num_heads=4)
    assert (model.codebook_size, model.mask_token_id, model.seq_len, model.num_classes, model.dim, model.depth) == (24, 24, 16, 5, 32, 5)
    assert difference(model, known) < TOLERANCE
    assert difference(load_released('autonat', state), known) > .1      # eight heads: another function

def test_autonat_ka(tmp_path):
    known,state = fixture('autonat-ka')
    torch.save(state, tmp_path/'graph_nnet_ema.pth')
    graphs = small_graphs(known)
    model = load_released('autonat-ka', tmp_path/'graph_nnet_ema.pth', graphs, num_heads=4)
    slow = load_released('autonat-ka', state, graphs, num_heads=4, keep_encoded=False)
    assert (model.fusion.config.keep_encoded, slow.fusion.config.keep_encoded) == (True, False)
    assert max(difference(model, known), difference(slow, known)) < TOLERANCE
    for swapped in (dict(cooccurrence=graphs.similarity, similarity=graphs.cooccurrence, incompatibility=graphs.incompatibility),
                    dict(cooccurrence=graphs.cooccurrence, similarity=graphs.similarity, incompatibility=incompatibility(5, 16, 24).from_dense(~graphs.incompatibility.dense()))):
        assert difference(load_released('autonat-ka', state, KnowledgeGraphs(**swapped), num_heads=4), known) > .1   # every graph has its say

def test_autonat_ka_is_read_from_the_end():
    "The order of the convolutions matters to these logits"
    known,state = fixture('autonat-ka')
    turned = {k: state[f'graph_layer.zero_convs.{4-int(k.split(".")[2])}.{k.split(".")[3]}'] if '.zero_convs.' in k else v for k,v in state.items()}
    assert difference(load_released('autonat-ka', turned, small_graphs(known), num_heads=4), known) > .1

def test_autonat_ka_with_the_released_graphs(shared_data):
    known,state = fixture('autonat-ka-released-graphs')
    graphs = KnowledgeGraphs(cooccurrence=load('cooccurrence', shared_data), similarity=load('similarity', shared_data), incompatibility=incompatibility(3, 256, 1024))
    assert difference(load_released('autonat-ka', state, graphs, num_heads=4), known) < TOLERANCE

def test_maskgit():
    known,state = fixture('maskgit-jax')
    model = load_released('maskgit-jax', tree(state), codebook_size=24)
    assert (model.codebook_size, model.mask_token_id, model.seq_len, model.num_classes, model.dim, model.depth) == (24, 29, 16, 5, 32, 3)
    assert difference(model, known) < TOLERANCE

def test_maskgit_from_a_file_of_flax():
    known,state = fixture('maskgit-jax-tiny')
    content = (FIXTURES/'maskgit-jax-tiny.msgpack').read_bytes()
    assert b'__msgpack_chunked_array__' in content
    model = load_released('maskgit-jax', FIXTURES/'maskgit-jax-tiny.msgpack', codebook_size=10)
    assert difference(model, known) < TOLERANCE
    again = load_released('maskgit-jax', tree(state), num_classes=3).state_dict()
    assert all(v.equal(again[k]) for k,v in model.state_dict().items())

@pytest.mark.parametrize('name', ['maskgit-torch', 'maskgit-openmuse'])
def test_conversions_of_maskgit(name, tmp_path):
    "The public code of a conversion, with the gelu of the original and with its own"
    known,state = fixture(name)
    if name == 'maskgit-openmuse': state['mlm_layer.to_logits.weight'] = state['embed.word_embeddings.weight']   # as its converter does
    torch.save(dict(state_dict=state), tmp_path/'weights.ckpt')
    model = load_released(name, tmp_path/'weights.ckpt', num_heads=4, codebook_size=24)
    assert (model.codebook_size, model.mask_token_id, model.seq_len, model.num_classes, model.dim, model.depth) == (24, 29, 16, 5, 32, 3)
    assert difference(model, known) < TOLERANCE
    assert TOLERANCE < difference(model, known | dict(logits=known['as_published'])) < 5e-3
    assert difference(load_released(name, state, num_heads=8, num_classes=5), known) > .1
    check_every_tensor_counts(name, state, num_heads=4, codebook_size=24)

def check_every_tensor_counts(name, state, graphs=None, **more):
    "Without any one of its tensors, or with one of another shape, a file is refused"
    for key,value in state.items():
        for wrong in ({k: v for k,v in state.items() if k != key}, state | {key: value[None]}, state | {f'{key}_': value}, state | {key: torch.cat([value, value], -1)}):
            with pytest.raises(ValueError, match='cannot be read as|another shape|graphs were built for'): load_released(name, wrong, graphs, **more)

@pytest.mark.parametrize('name', ['autonat', 'autonat-ka', 'maskgit-jax'])
def test_every_tensor_counts(name):
    known,state = fixture(name)
    check_every_tensor_counts(name, state, small_graphs(known) if name == 'autonat-ka' else None, **(dict(codebook_size=24) if name == 'maskgit-jax' else dict(num_heads=4)))
