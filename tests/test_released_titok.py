"""The published TiTok and TA-TiTok against numbers that the public implementation computed (`fixtures/README.md` says how)"""
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kamig.published.titok import titok_sizes
from kamig.titok import TiTok
from kamig.tokenizers import load_released_tokenizer
from test_released_tokenizers import random

FIXTURE = np.load(Path(__file__).parent/'fixtures'/'titok.npz')
PARAMETERS = {'titok-b64': 204_814_095, 'titok-s128': 83_674_639, 'tatitok-bl128': 391_046_292}
PIXELS = dict(small=32, full=256)
SIZES = ['small', pytest.param('full', marks=pytest.mark.slow)]


def weight(name, shape):
    "The tensor of this name: kernels by fan-in, norms near 1, biases near 0, tables of unit variance"
    x = random(name).standard_normal(shape, dtype=np.float32)
    if name.endswith(('embedding.weight', 'embedding', 'latent_tokens', 'mask_token')): return x
    if len(shape) == 1: return x/10 + name.endswith('weight')
    gain = 6 if 'patch_embed' in name else .8 if 'out_proj' in name else 1.5   # slots that see the image and stay apart
    return x*np.float32(gain/np.sqrt(x.size/shape[0]))


def weights(name, size):
    "The state dict of the public class"
    rows = [str(row).split(' ') for row in FIXTURE[f'{name}.{size}.layout']]
    return {key: torch.from_numpy(weight(key, [int(n) for n in shape.split('x')])) for key,shape in rows}


def pictures(name, size):
    "Two images, 4 x 4 patches of colour under noise, none of whose codes are a near thing"
    def picture(number):
        rng,pixels = random(f'image {number}'),PIXELS[size]
        coarse = rng.random((3, 4, 4)).repeat(pixels//4, 1).repeat(pixels//4, 2)
        return torch.from_numpy((.7*coarse + .3*rng.random((3, pixels, pixels))).astype(np.float32))
    return torch.stack([picture(n) for n in FIXTURE[f'{name}.{size}.images']])


def captions(name, number):
    "Guidance by made-up text, where the tokenizer takes it"
    return dict(text=torch.from_numpy(random('text').standard_normal((number, 77, 768), dtype=np.float32))) if name.startswith('ta') else {}


def painted(tokenizer, ids, text):
    "The pixels that were kept"
    pixels = tokenizer.decode(ids, **text).flatten()
    return pixels[::len(pixels)//400].numpy()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', PARAMETERS)
def test_same_codes_same_pixels(name, size, tmp_path):
    torch.save(weights(name, size), tmp_path/'weights.bin')
    tokenizer = load_released_tokenizer(name, tmp_path/'weights.bin')
    if size == 'full': assert sum(p.numel() for p in tokenizer.parameters()) == PARAMETERS[name]
    expected,known = (torch.from_numpy(FIXTURE[f'{name}.{size}.{k}']) for k in ('ids', 'pixels'))
    ids = tokenizer.encode(pictures(name, size))
    assert ids.tolist() == expected.tolist()
    assert len(ids.unique()) > 30 and not ids[0].equal(ids[1])          # not one code for all, nor one sequence for all
    found = painted(tokenizer, ids, captions(name, 2))
    assert ((0 < known) & (known < 1)).float().mean() > .15             # the rest is clipped
    worst = np.abs(found - known.numpy()).max()
    print(f'{name}, {size}: largest difference {worst:.1e}, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20:.1f} GB')
    assert worst < 1e-3


@pytest.mark.parametrize('quirk', ['legacy', 'l2_normalise'])
@pytest.mark.parametrize('name', ['titok-s128', 'tatitok-bl128'])
def test_quirks_matter(name, quirk):
    "With the memory read in the other order, or vectors compared at the other length, the same weights make other codes"
    state = weights(name, 'small')
    config = titok_sizes(state, legacy=name == 'titok-s128')
    other = TiTok(replace(config, **{quirk: not getattr(config, quirk)})).eval()
    other.load_state_dict(state)
    ids = other.encode(pictures(name, 'small'))
    assert (ids != torch.from_numpy(FIXTURE[f'{name}.small.ids'])).float().mean() > .1


def test_the_caption_matters():
    state = weights('tatitok-bl128', 'small')
    tokenizer = load_released_tokenizer('tatitok-bl128', state)
    ids,text = torch.from_numpy(FIXTURE['tatitok-bl128.small.ids']).long(),captions('tatitok', 2)['text']
    assert np.abs(painted(tokenizer, ids, dict(text=text.flip(0))) - FIXTURE['tatitok-bl128.small.pixels']).max() > .05


@pytest.mark.parametrize('name', PARAMETERS)
def test_layout_is_complete(name):
    "Without any one tensor, or with its axes turned, the file is refused; so is every other of these files"
    flat = weights(name, 'small')
    for key,x in flat.items():
        with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(name, {k: v for k,v in flat.items() if k != key})
        if len({*x.shape}) > 1:
            with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(name, flat | {key: x.permute(*reversed(range(x.dim())))})
    for other in PARAMETERS:
        if other != name:
            with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(other, flat)
