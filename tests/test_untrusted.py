"""Files of strangers: nothing in them is run, nothing leaves its folder, nothing fills the memory, and what they claim is checked before it is believed"""
import gzip
import io
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kamig.coco import CocoProtocol, coco_set
from kamig.core import load_tensors, save_tensors, sha256_file, sha256_json, write_json
from kamig.data import image_folder, load_images, read_image
from kamig.downloads import read_weights
from kamig.evaluation import read_adm_reference
from kamig.extractors import clip_extractor, dinov2_extractor
from kamig.features import inception_extractor, load_feature_net
from kamig.files import read_flax, read_safetensors, read_torch
from kamig.graphs import KnowledgeGraphs, load_released_graph, load_released_incompatibility
from kamig.model import load_model, load_pretrained, load_released
from kamig.pickles import read_arrays
from kamig.scoring import FolderImages, NpzImages, check_sources, open_images, read_reference
from kamig.text import BPETokenizer, load_text_tower
from kamig.tokenizers import VQConfig, load_released_tokenizer, load_tokenizer
from kamig.tokens import TokenCache
from small_files import KINDS, content, eye, graphs, known


class Burglar:
    "A pickle that wants to run a command"
    def __init__(self, proof): self.proof = proof
    def __reduce__(self): return os.mkdir, (str(self.proof),)


READERS = dict(torch=read_torch, weights=read_weights, arrays=read_arrays, graph=load_released_graph, incompatibility=load_released_incompatibility, flax=read_flax, safetensors=read_safetensors,
               tokenizer=load_tokenizer, model=load_model, graphs=KnowledgeGraphs.load, features=load_feature_net, inception=inception_extractor, clip=clip_extractor, dinov2=dinov2_extractor,
               tower=load_text_tower, adm=read_adm_reference, npz=NpzImages, released=lambda p: load_released('autonat', p), vqgan=lambda p: load_released_tokenizer('maskgit-vqgan', p), merges=BPETokenizer)

@pytest.mark.parametrize('reader', READERS)
def test_pickles_with_code_are_never_run(reader, tmp_path):
    "As a bare pickle, in torch's two forms, in an .npz and an .npy: refused, and the command has not run"
    proof, path = tmp_path/'proof', tmp_path/'weights.pt'
    def saved(form):
        buffer = io.BytesIO()
        form(buffer)
        return buffer.getvalue()
    evil = np.array([Burglar(proof)], dtype=object)
    forms = [pickle.dumps(Burglar(proof)), saved(lambda f: torch.save({'w': Burglar(proof)}, f)), saved(lambda f: torch.save({'w': Burglar(proof)}, f, _use_new_zipfile_serialization=False)),
             saved(lambda f: np.savez(f, arr_0=evil, mu=evil, sigma=evil)), saved(lambda f: np.save(f, evil))]
    for form in forms:
        path.write_bytes(form)
        with pytest.raises(ValueError): READERS[reader](path)
        assert not proof.exists()

def test_arrays_of_objects_in_a_token_cache(tmp_path):
    KINDS['token cache'].write(tmp_path)
    cache = tmp_path/'cache'
    np.save(cache/'tokens.npy', np.array([[Burglar(tmp_path/'proof')]], dtype=object))
    about = json.loads((cache/'about.json').read_text())
    about['sha256']['tokens.npy'] = sha256_file(cache/'tokens.npy')
    about['checksum'] = sha256_json({k: v for k, v in about.items() if k != 'checksum'})
    write_json(cache/'about.json', about)
    with pytest.raises(ValueError, match='is damaged or no token cache'): TokenCache(cache)
    assert not (tmp_path/'proof').exists()

def test_cifar_batches_that_others_have_changed(tmp_path, monkeypatch):
    "torchvision unpickles CIFAR-10's files, but only those whose hash it knows"
    monkeypatch.setattr('torchvision.datasets.utils.download_url', lambda *a, **k: (_ for _ in ()).throw(OSError('no network')))
    place = tmp_path/'cifar-10-batches-py'
    place.mkdir()
    for name in (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch', 'batches.meta'): (place/name).write_bytes(pickle.dumps(Burglar(tmp_path/'proof')))
    monkeypatch.setattr('torchvision.datasets.cifar.download_and_extract_archive', lambda *a, **k: (_ for _ in ()).throw(OSError('no network')))
    with pytest.raises(FileNotFoundError, match='could not be downloaded'): load_images('cifar10', root=tmp_path)
    assert not (tmp_path/'proof').exists()

def test_nothing_is_ever_unpacked_into_a_folder():
    "So no member of a zip or tar can leave one"
    sources = ''.join(p.read_text() for p in (Path(__file__).parent.parent/'kamig').rglob('*.py'))
    assert not re.search(r'\.extract(all)?\(|unpack_archive|import tarfile|import shelve|import dill|allow_pickle=True|weights_only=False|pickle\.loads?\(|\beval\((?!\))|\bexec\(', sources.replace('.eval()', ''))


# ---------------------------------------------------------------- bombs
def npz_claiming(path, count, packed=1000):
    "An .npz that says its array has `count` bytes, and has but a few"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr='|u1', fortran_order=False, shape=(count//192, 8, 8, 3)))
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('arr_0.npy', header.getvalue() + bytes(packed))

@pytest.mark.parametrize('read', [read_adm_reference, lambda p: NpzImages(p).batch(torch.arange(3)), lambda p: open_images(p), lambda p: check_sources(p, p), lambda p: read_reference(p, eye())])
def test_npz_that_would_fill_the_memory(read, tmp_path):
    path = tmp_path/'bomb.npz'
    npz_claiming(path, 10**13)
    with pytest.raises(ValueError, match='is damaged'): read(path)
    content = path.read_bytes()
    entry = content.index(b'PK\1\2')                                                    # the list of contents, where a real bomb has its size
    path.write_bytes(content[:entry + 24] + struct.pack('<I', 3*2**30) + content[entry + 28:])
    with pytest.raises(ValueError, match='would unpack to 3.0 GiB: at most 100 times its size is allowed'): read(path)

def png(width, height, rows=b''):
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')

@pytest.mark.parametrize('width, height', [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 10**6), (0, 5)])
def test_images_that_would_fill_the_memory(width, height, tmp_path):
    path = tmp_path/'cat'/'0.png'
    path.parent.mkdir()
    path.write_bytes(png(width, height, bytes(2*height if height == 10**6 else 0)))
    for read in (lambda: read_image(path, 256), lambda: FolderImages(tmp_path).batch(torch.tensor([0])), lambda: image_folder(tmp_path, 'train', 256), lambda: image_folder(tmp_path, 'heldout', 256)):
        with pytest.raises(ValueError, match='0.png|holds no (train|heldout) images'): read()

def test_a_list_of_merges_that_would_fill_the_memory(tmp_path):
    path = tmp_path/'merges.txt.gz'
    with gzip.open(path, 'wb') as f:
        for _ in range(20): f.write(b'a b\n'*2**18)
    with pytest.raises(ValueError, match='merges.txt.gz is damaged or no list of merges .*longer than'): BPETokenizer(path)


# ---------------------------------------------------------------- sizes that are not so
ODD = [-1, 0, 10**9, 10**30, 'many', None, True, 2.5, [], {}, float('nan')]

@pytest.mark.parametrize('key', ['codebook_size', 'seq_len', 'num_classes', 'dim', 'depth', 'num_heads', 'dropout', 'backbone', 'stranger'])
def test_a_hub_folder_with_odd_sizes(key, tmp_path):
    "Both files of the folder tell the same lie, with honest hashes: refused in a sentence, at once"
    folder = known().save_pretrained(tmp_path/'hub folder, ü')
    state, about = load_tensors(folder/'model.safetensors', 'model')
    config = json.loads((folder/'config.json').read_text())
    for value in ODD:
        lie = {**about['config'], key: value}
        save_tensors(folder/'model.safetensors', state, 'model', **{**about, 'config': lie})
        (folder/'config.json').write_text(json.dumps({**config, 'model': lie}))
        harmless = key == 'dropout' and value == 0
        if harmless: load_pretrained(folder)
        else:
            for read in (lambda: load_pretrained(folder), lambda: load_model(folder/'model.safetensors', graphs())):
                with pytest.raises(ValueError, match='model.safetensors|config.json'): read()

@pytest.mark.parametrize('key', list(VQConfig.__annotations__) + ['kind', 'stranger'])
def test_a_tokenizer_with_odd_sizes(key, tmp_path):
    path = tmp_path/'t.safetensors'
    KINDS['tokenizer'].write(tmp_path)
    state, about = load_tensors(path, 'tokenizer')
    for value in ODD:
        if key in ('commitment', 'image_size') and isinstance(value, (int, float)) and value not in (-1, True): continue      # weights do not tell these
        save_tensors(path, state, 'tokenizer', config={**about['config'], key: value})
        with pytest.raises(ValueError, match='t.safetensors'): load_tokenizer(path)

def test_headers_that_say_something_else(tmp_path):
    "Honest hashes over a description that is none"
    for kind, read in (('model', load_model), ('tokenizer', load_tokenizer), ('feature network', load_feature_net), ('knowledge graphs', KnowledgeGraphs.load)):
        for about in ({}, dict(config=3), dict(config={}, graphs={}), dict(graphs=[]), dict(graphs=dict(cooccurrence={})), dict(graphs=dict(cooccurrence=dict(kind='token', num_nodes=10**12)), provenance={}), dict(num_classes=-3)):
            path = save_tensors(tmp_path/'x.safetensors', dict(w=torch.ones(2)), kind, **about)
            with pytest.raises(ValueError, match='x.safetensors'): read(path)
    path = save_tensors(tmp_path/'r.safetensors', dict(pool=torch.ones(2, 2)), 'reference', extractor='eye')
    with pytest.raises(ValueError, match='r.safetensors is no reference'): read_reference(path, eye())

@pytest.mark.parametrize('images, annotations', [
    ([dict(id=10**30, file_name='a.jpg')], []), ([dict(id=float('inf'), file_name='a.jpg')], []), ([dict(id=1, file_name='../../a.jpg')], []), ([dict(id=1)], []), (3, []), ([3], []),
    ([dict(id=1, file_name='a.jpg')], [dict(id=1, image_id=2, caption='of no image')]), ([dict(id=1, file_name='a.jpg')], [dict(id='one', image_id=1, caption='x'), dict(id=1, image_id=1, caption='x')]),
    ([dict(id=1, file_name='a.jpg')], [dict(id=1, image_id=1, caption=None)])])
def test_captions_that_are_none(images, annotations, tmp_path):
    KINDS['captions'].write(tmp_path)
    (tmp_path/KINDS['captions'].name).write_text(json.dumps(dict(images=images, annotations=annotations)))
    with pytest.raises(ValueError, match='captions_val2014.json is damaged or no file of COCO captions'): coco_set(tmp_path, CocoProtocol(n=1))


# ---------------------------------------------------------------- names of files
@pytest.mark.parametrize('name', ['two words', 'ünïcode 画像', "it's; $(touch x) & co", '[a]*?', 'emoji 🙂', '-rf', 'a\nb'])
def test_names_of_folders(name, tmp_path):
    "Every kind of file is written and read where its folder has an odd name"
    place = tmp_path/name
    place.mkdir()
    for kind in KINDS.values():
        kind.write(place)
        assert content(kind.read(place)) == content(kind.read(place))
    assert not list(place.rglob('*.part'))

def test_names_that_are_no_text(tmp_path):
    "A Linux file name is bytes; images under such names have a side of the split and a fingerprint"
    folder = os.fsencode(tmp_path/'pictures'/'cats')
    os.makedirs(folder)
    for i in range(30): Path(os.fsdecode(os.path.join(folder, b'\xff\xfe%d.png' % i))).write_bytes(saved_png(i))
    train, heldout = (image_folder(tmp_path/'pictures', split, 8) for split in ('train', 'heldout'))
    assert len(train) + len(heldout) == 30 and len(FolderImages(tmp_path/'pictures').fingerprint) == 64

def saved_png(i):
    buffer = io.BytesIO()
    Image.new('RGB', (8, 8), (i, i, i)).save(buffer, 'png')
    return buffer.getvalue()
