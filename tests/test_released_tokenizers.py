"""The published tokenizers against numbers that the public implementations computed (`fixtures/README.md` says how)"""
import zlib
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from kamig.files import read_flax
from kamig.tokenizers import load_released_tokenizer
from trees import nested

FIXTURE = np.load(Path(__file__).parent/'fixtures'/'vqgan.npz')
NAMES = ['maskgit-vqgan', 'mage-vqgan', 'maskgit-vqgan-jax']
IMAGES = dict(small=(2, 64), full=(1, 256))                             # number, pixels
SIZES = ['small', pytest.param('full', marks=pytest.mark.slow)]


def random(name): return np.random.default_rng(zlib.crc32(name.encode()))


def weight(name, shape):
    "The tensor of this name: kernels scaled by fan-in, norms near 1, biases near 0"
    x = random(name).standard_normal(shape)
    if len(shape) == 4: x /= (x.size/shape[-1 if name.endswith('kernel') else 0])**.5
    if len(shape) == 2: x /= 2
    if len(shape) == 1: x = x/10 + (not name.endswith('bias'))
    return x.astype(np.float32)


def images(number, size):
    "4 x 4 patches of colour under noise"
    rng = random('images')
    coarse = rng.random((number, 3, 4, 4)).repeat(size//4, 2).repeat(size//4, 3)
    return torch.from_numpy((.7*coarse + .3*rng.random((number, 3, size, size))).astype(np.float32))


def weights(name, size):
    "Name -> array, in the layout of the published file"
    rows = [str(row).split(' ') for row in FIXTURE[f'{name}.{size}.layout']]
    return {key: weight(key, [int(n) for n in shape.split('x')]) for key,shape in rows}


def flax_bytes(flat):
    "A Flax file of these arrays: names with / become nested dictionaries"
    arrays = {k: msgpack.ExtType(1, msgpack.packb((x.shape, x.dtype.name, x.tobytes()))) for k,x in flat.items()}
    return msgpack.packb({'params': nested(arrays, '/')})


def save(name, flat, path):
    "The published file with these weights"
    if name == 'maskgit-vqgan-jax': path.write_bytes(flax_bytes(flat))
    else: torch.save({k: torch.from_numpy(x) for k,x in flat.items()}, path)
    return path


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', NAMES)
def test_same_codes_same_pixels(name, size, tmp_path):
    flat = weights(name, size)
    tokenizer = load_released_tokenizer(name, save(name, flat, tmp_path/'weights'))
    assert sum(p.numel() for p in tokenizer.parameters()) == sum(x.size for x in flat.values()) == dict(small=3_359_171, full=54_515_587)[size]
    pictures = images(*IMAGES[size])
    ids = tokenizer.encode(pictures)
    assert ids.tolist() == FIXTURE[f'{name}.{size}.ids'].tolist()
    assert len(ids.unique()) > 15                                       # not one code for all
    pixels = tokenizer.decode(ids)
    assert pixels.shape == pictures.shape
    expected = FIXTURE[f'{name}.{size}.pixels']
    step = pixels.numel()//400
    assert ((0 < expected) & (expected < 1)).mean() > .3                # the rest is clipped
    worst = np.abs(pixels.flatten()[::step].numpy() - expected).max()
    print(f'{name}, {size}: largest difference {worst:.1e}')
    assert worst < 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_layout_is_complete(name):
    "Without any one tensor, or with its axes turned, the file is refused; it is refused under the other names"
    flat = weights(name, 'small')
    for key,x in flat.items():
        with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(name, {k: v for k,v in flat.items() if k != key})
        if len({*x.shape}) > 1:
            with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(name, flat | {key: x.T})
    for other in NAMES:
        if other != name:
            with pytest.raises(ValueError, match='expected is'): load_released_tokenizer(other, flat)


def test_reads_what_flax_wrote(tmp_path):
    "Plain, half-precision, bfloat16 and chunked arrays and single numbers, in bytes that flax itself serialised"
    path = tmp_path/'tree'
    path.write_bytes(FIXTURE['flax_file'].tobytes())
    tree = read_flax(path)
    params = tree['params']
    assert (tree['step'], tree['count'], sorted(params)) == (7, 3, ['bf16', 'chunked', 'half', 'plain'])
    assert params['plain'].tolist() == [[0, 1, 2], [3, 4, 5]] and params['plain'].dtype == np.float32
    assert params['half'].tolist() == [[.5]] and params['half'].dtype == np.float16
    assert params['bf16'].tolist() == [1.5, -2, 3.140625]
    assert params['chunked'].tolist() == np.arange(24).reshape(4, 6).tolist()
