"""Weights by link and from the hub's cache, through the functions that users call; the page of all files"""
import http.server
import os
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch

from kamig.downloads import FILES, download, published_page, published_table
from kamig.files import read_torch
from kamig.model import create_model, load_pretrained, load_released
from kamig.released import RELEASED, PublishedFile
from kamig.tokenizers import PUBLISHED_TOKENIZERS, load_released_tokenizer
from rules import ROOT


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    "A folder that a local server shows, and its address; what is fetched goes elsewhere"
    (tmp_path/'site').mkdir()
    monkeypatch.setenv('KAMIG_DATA', str(tmp_path/'data'))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=tmp_path/'site'))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path/'site', f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def autonat_state(dim=32):
    "A state dict in the layout of the released AutoNAT: 12 codes, 16 positions, 3 classes, 3 blocks"
    def norm(name): return {f'{name}.weight': (dim,), f'{name}.bias': (dim,)}
    def linear(name, rows, columns): return {f'{name}.weight': (rows, columns), f'{name}.bias': (rows,)}
    def block(name):
        return norm(f'{name}.norm1') | norm(f'{name}.norm2') | {f'{name}.attn.qkv.weight': (3*dim, dim)} | linear(f'{name}.attn.proj', dim, dim) \
            | linear(f'{name}.mlp.fc1', 4*dim, dim) | linear(f'{name}.mlp.fc2', dim, 4*dim)
    shapes = block('in_blocks.0') | block('mid_block') | block('out_blocks.0') | linear('out_blocks.0.skip_linear', dim, 2*dim) | norm('norm')
    for name, rows, length in (('token_emb', 13, 16), ('context_embed', 4, 1)):
        shapes |= {f'{name}.word_embeddings.weight': (rows, dim), f'{name}.position_embeddings.weight': (length, dim)} | norm(f'{name}.LayerNorm')
    shapes |= linear('mlm_layer.fc', dim, dim) | norm('mlm_layer.ln') | {'mlm_layer.bias': (1, 1, 13)}
    return {k: torch.full(s, .01*i) for i, (k, s) in enumerate(shapes.items())}


def logits(model): return model(torch.arange(16)[None] % 13, torch.tensor([1]))


def test_released_model_by_link(site):
    folder, address = site
    torch.save(autonat_state(), folder/'nnet_ema.pth')
    model = load_released('autonat', f'{address}/nnet_ema.pth', num_heads=4)
    assert logits(model).equal(logits(load_released('autonat', autonat_state(), num_heads=4)))
    (folder/'nnet_ema.pth').unlink()
    assert logits(load_released('autonat', f'{address}/nnet_ema.pth', num_heads=4)).equal(logits(model))   # without the server's file
    with pytest.raises(FileNotFoundError, match='answers 404'): load_released('autonat', f'{address}/other.pth')


def test_released_tokenizer_by_link(site):
    folder, address = site
    torch.save({'encoder.conv_in.weight': torch.ones(2)}, folder/'vqgan.ckpt')
    with pytest.raises(ValueError, match='not laid out as in this file; expected is vqgan_jax_strongaug.ckpt'): load_released_tokenizer('mage-vqgan', f'{address}/vqgan.ckpt')
    with pytest.raises(FileNotFoundError, match=r"no file vqgan.ckpt; expected is vqgan_jax.*download\('mage-vqgan', 'tokenizer'\) fetches it"):
        load_released_tokenizer('mage-vqgan', 'vqgan.ckpt')


def test_download_by_name(site, monkeypatch):
    folder, address = site
    torch.save(autonat_state(), folder/'nnet_ema.pth')
    monkeypatch.setitem(FILES['generator'], 'autonat', PublishedFile('nnet_ema.pth', f'{address}/nnet_ema.pth', 1, 'torch', 'MIT'))
    assert read_torch(download('autonat')).keys() == autonat_state().keys()
    with pytest.raises(KeyError, match="unknown published file 'autonut'; choose one of: adm-imagenet256, .*autonat"): download('autonut')


OFFLINE = '''
import sys
from kamig.model import load_pretrained, load_released
import torch
x, c = torch.arange(16)[None] % 13, torch.tensor([1])
assert load_pretrained("hf://owner/name")(x, c).shape == (1, 16, 12)
assert load_released("autonat", "hf://owner/name@main/nnet_ema.pth", num_heads=4)(x, c).shape == (1, 16, 12)
for wrong in ("hf://owner/other", "hf://owner/name/none.bin"):
    try: load_pretrained(wrong)
    except FileNotFoundError as e: print(e)
'''

def test_hub_cache_without_a_network(tmp_path):
    "What lies in the hub's cache is used offline; what does not is missed in one sentence"
    place = tmp_path/'hub'/'models--owner--name'
    torch.manual_seed(0)
    model = create_model('autonat', codebook_size=12, seq_len=16, num_classes=3, dim=32, depth=3, num_heads=2)
    snapshot = model.save_pretrained(place/'snapshots'/('0'*40))
    torch.save(autonat_state(), snapshot/'nnet_ema.pth')
    (place/'refs').mkdir()
    (place/'refs'/'main').write_text('0'*40)
    env = os.environ | dict(HF_HUB_OFFLINE='1', HF_HUB_CACHE=str(tmp_path/'hub'), PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, '-c', OFFLINE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 and all('cannot be had: it is not on this machine, and the hub cannot be reached' in line for line in said), said


def test_every_released_name_has_its_file():
    assert FILES['generator'].discover().keys() == RELEASED.discover().keys()
    assert FILES['tokenizer'].discover().keys() == PUBLISHED_TOKENIZERS.discover().keys()
    assert all(row['licence'] for row in published_table())
    assert [row['name'] for row in published_table() if not row['source']] == ['maskgit-openmuse']   # a converter writes it


def test_the_page_is_up_to_date():
    "To write it anew: python -c \"from kamig.downloads import published_page as p; open('docs/weights.md', 'w').write(p())\""
    assert (ROOT/'docs'/'weights.md').read_text() == published_page()
