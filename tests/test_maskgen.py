"""MaskGen-VQ against the public implementation: the same weights and inputs, its logits and ours (see fixtures/README.md)"""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kamig.core import generator
from kamig.graphs import build_graphs
from kamig.model import augment, load_released, set_trainable
from kamig.samplers.titok import PUBLISHED_TITOK
from kamig.sampling import sample
from kamig.text import TextCondition
from made_up import weight

FIXTURE = np.load(Path(__file__).parent/'fixtures'/'maskgen.npz')
TOLERANCE = 2e-4                                                        # at logits of about 1, in float32
SIZES = dict(small=(7, 20), l=(77, 768), xl=(77, 768))                  # length of the text, width of its features

def weights(size):
    "The state dict as the public network lists it: the table stands in it twice"
    state = {k: torch.from_numpy(weight(k, s)) for k,s in json.loads(str(FIXTURE[f'{size}.layout'])).items() if k != 'lm_head.weight'}
    return state | {'lm_head.weight': state['embeddings.weight']}

def text(size):
    "Made-up features, of size about 1"
    batch,(length,width) = len(FIXTURE[f'{size}.tokens']),SIZES[size]
    states,pooled = (torch.from_numpy(weight(f'text.{k}', s)*np.float32(width**.5)) for k,s in (('states', (batch, length, width)), ('pooled', (batch, width))))
    return TextCondition(states, pooled, torch.from_numpy(FIXTURE[f'{size}.aesthetic']))

@torch.no_grad()
def difference(model, size):
    "Largest difference of the logits at the places that were kept"
    found = model(torch.from_numpy(FIXTURE[f'{size}.tokens']).long(), text(size))[tuple(torch.from_numpy(FIXTURE[f'{size}.pick']).long())].numpy()
    assert FIXTURE[f'{size}.logits'].std() > .5
    return np.abs(found - FIXTURE[f'{size}.logits']).max()

def test_small(tmp_path):
    state = weights('small')
    torch.save(state, tmp_path/'maskgen_vq_l.bin')
    save_file({k: v for k,v in state.items() if k != 'lm_head.weight'}, tmp_path/'model.safetensors')
    for form in (tmp_path/'maskgen_vq_l.bin', tmp_path, state):         # the file, the hub's folder, the dictionary
        model = load_released('maskgen-vq-l', form, num_heads=4)
        assert (model.codebook_size, model.mask_token_id, model.seq_len, model.num_classes, model.dim, model.depth) == (24, 24, 12, None, 32, 3)
        assert difference(model, 'small') < TOLERANCE
    assert difference(load_released('maskgen-vq-xl', state), 'small') > .1   # sixteen heads: another function

def test_every_tensor_counts():
    "Without any one of its tensors, or with one of another shape, a file is refused"
    state = weights('small')
    for key,value in state.items():
        without = [{k: v for k,v in state.items() if k != key}] if key != 'lm_head.weight' else []
        for wrong in (*without, state | {key: value[None]}, state | {f'{key}_': value}, state | {key: torch.cat([value, value], -1)}):
            with pytest.raises(ValueError, match='cannot be read as|another shape'): load_released('maskgen-vq-l', wrong, num_heads=4)

@pytest.mark.slow
@pytest.mark.parametrize('size,parameters', [('l', 604_311_552), ('xl', 1_176_611_840)])
def test_full(size, parameters):
    "The published sizes; XL needs 11 GB of memory"
    state = weights(size)
    assert sum(v.numel() for k,v in state.items() if k != 'lm_head.weight') == parameters
    model = load_released(f'maskgen-vq-{size}', state)
    del state
    worst = difference(model, size)
    print(f'{size}: largest difference {worst:.1e}')
    assert worst < TOLERANCE

@pytest.mark.parametrize('decay', ['cosine', 'linear', 'none'])
def test_same_images_without_noise(decay):
    "The published decoder at temperature 0, where nothing is drawn by chance"
    model,captions = load_released('maskgen-vq-l', weights('small'), num_heads=4),text('small')
    states,pooled = (torch.from_numpy(weight(f'text.empty_{k}', s)*np.float32(20**.5)) for k,s in (('states', (1, 7, 20)), ('pooled', (1, 1, 20))))
    captions = replace(captions, aesthetic=torch.full((4,), 6.5), empty_states=states[0], empty_pooled=pooled[0,0])
    told = PUBLISHED_TITOK['maskgen'] | dict(num_steps=8, choice_temperature=0., guidance_decay='constant' if decay == 'none' else decay)
    drawn = sample(model, captions, **told)
    assert drawn.tolist() == FIXTURE[f'small.drawn.{decay}'].tolist()
    assert len(drawn.unique()) > 5

def test_with_knowledge():
    "Token graphs attach to it, change nothing at first, and tuning moves the head and not the table; sample i depends on seed i"
    base = load_released('maskgen-vq-l', weights('small'), num_heads=4)
    tokens,captions = torch.from_numpy(FIXTURE['small.tokens']).long(),text('small')
    captions = replace(captions, empty_states=captions.states[0], empty_pooled=captions.pooled[0])
    codes = torch.randint(24, (50, 12), generator=generator(0))
    logits,table = base(tokens, captions),base.token_embedding().detach().clone()
    graphs = build_graphs(codes, None, 24, 1, grid=(1, 12), only=('cooccurrence', 'similarity'))      # a text has no class
    model = augment(base, graphs)
    assert model(tokens, captions).equal(logits)
    set_trainable(model, 'knowledge')
    loss = torch.nn.functional.cross_entropy(model(tokens, captions).flatten(0, 1), tokens.clamp_max(23).flatten())
    loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], .1).step()
    assert model.token_embedding().equal(table) and not model(tokens, captions).equal(logits)
    drawn = sample(model, captions, **PUBLISHED_TITOK['maskgen'])
    assert drawn.shape == (4, 12) and drawn.max() < 24
    assert sample(model, captions[torch.tensor([2])], **PUBLISHED_TITOK['maskgen'], seeds=torch.tensor([2]))[0].equal(drawn[2])
