"""One small whole file of every kind that kamig reads: how it is written, how it is read, and what its content comes to"""
import json
import pickle
from dataclasses import dataclass
from typing import Callable

import msgpack
import numpy as np
import safetensors.torch
import torch
from PIL import Image

import long_jobs
import small_trainings
from kamig.coco import CocoProtocol, coco_set
from kamig.core import sha256_state
from kamig.data import read_image
from kamig.evaluation import read_adm_reference, write_adm_samples
from kamig.features import Extractor, FeatureNet, load_feature_net, save_feature_net
from kamig.files import named_tensors, read_flax, read_safetensors, read_torch
from kamig.graphs import KnowledgeGraphs, build_graphs, load_released_graph, load_released_incompatibility
from kamig.model import create_model, load_model, load_pretrained, save_model
from kamig.scoring import NpzImages, read_reference, write_reference
from kamig.tokenizers import load_tokenizer, save_tokenizer
from kamig.tokens import TokenCache, save_tokens

PIXELS = long_jobs.pictures(6).pixels
TOKENS, LABELS = long_jobs.corpus(30)


@dataclass(frozen=True)
class Kind:
    "A kind of file"
    name: str                  # of the file that is spoiled, under the folder
    write: Callable            # (folder) -> None
    read: Callable             # (folder) -> content, as something that can be compared
    checksum: bool = True      # does the file hold a checksum of its content, so that no change goes unnoticed?


def content(value):
    "Anything as something that can be compared"
    if isinstance(value, torch.Tensor): return value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray): return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, torch.nn.Module): return content(value.state_dict())
    if isinstance(value, dict): return {k: content(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)): return [content(v) for v in value]
    return value


def graphs(): return build_graphs(TOKENS, LABELS, 32, 4, grid=(4, 4))

def eye(): torch.manual_seed(0); return Extractor(FeatureNet(3, 4, 4), 'eye', 'distance')

def state(): return {'a.weight': torch.arange(6.).view(2, 3), 'b': torch.tensor([1, 2])}

def pickled(folder): (folder/'graph.pkl').write_bytes(pickle.dumps([torch.tensor([[0, 1], [1, 0]]), torch.ones(2)]))

def flax(folder):
    array = msgpack.ExtType(1, msgpack.packb(((2, 3), 'float32', np.arange(6, dtype=np.float32).tobytes())))
    (folder/'w.msgpack').write_bytes(msgpack.packb({'params': {'kernel': array}}))

def coco(folder):
    for d in ('annotations', 'val2014'): (folder/d).mkdir(exist_ok=True)
    (folder/'val2014'/'a.jpg').touch()
    (folder/'annotations'/'captions_val2014.json').write_text(json.dumps(dict(images=[dict(id=1, file_name='a.jpg')], annotations=[dict(id=1, image_id=1, caption='a dog')])))

def cache(folder):
    if not (folder/'cache').exists(): save_tokens(folder/'cache', TOKENS, LABELS, 32, (4, 4), list('abcd'), dict(source='noise'))

def opened(folder):
    found = TokenCache(folder/'cache')
    return found.all(), found.codebook_size, found.grid, found.about

def reference(folder):
    found = read_reference(folder/'r.safetensors', eye())
    return found.pooled, found.features.pool, found.fingerprint

def whole_images(folder):
    images = NpzImages(folder/'s.npz')
    return images.batch(torch.arange(len(images)))

def statistics(folder): np.savez(folder/'adm.npz', arr_0=PIXELS.permute(0, 2, 3, 1), mu=np.arange(3.), sigma=np.eye(3))

def finished(folder):
    if not (folder/'run'/'checkpoint.pt').exists(): raise FileNotFoundError(f'{folder}/run/checkpoint.pt: without it the training begins anew')
    return small_trainings.result('fit', folder/'run')

def picture(folder, suffix): Image.fromarray(PIXELS[0].permute(1, 2, 0).numpy()).resize((40, 30)).save(folder/f'i.{suffix}')

def model(): torch.manual_seed(0); return create_model('maskgit', **long_jobs.SIZES)

def known(): torch.manual_seed(0); return create_model('maskgit', graphs(), **long_jobs.SIZES)


KINDS = {
    'torch':          Kind('w.pt', lambda d: torch.save(state(), d/'w.pt'), lambda d: named_tensors(d/'w.pt', read_torch, 'x')),
    'safetensors':    Kind('w.safetensors', lambda d: safetensors.torch.save_file(state(), d/'w.safetensors'), lambda d: read_safetensors(d/'w.safetensors'), checksum=False),
    'flax':           Kind('w.msgpack', flax, lambda d: named_tensors(d/'w.msgpack', read_flax, 'params'), checksum=False),
    'pickle':         Kind('graph.pkl', pickled, lambda d: load_released_graph(d/'graph.pkl').tensors(), checksum=False),
    'pickled table':  Kind('table.pkl', lambda d: (d/'table.pkl').write_bytes(pickle.dumps(np.ones((3, 2, 8), np.float32)*np.arange(8).__gt__(3)/4)), lambda d: load_released_incompatibility(d/'table.pkl').bits, checksum=False),
    'graphs':         Kind('g.safetensors', lambda d: graphs().save(d/'g.safetensors'), lambda d: [(n, g.tensors(), g.facts()) for n, g in KnowledgeGraphs.load(d/'g.safetensors')]),
    'tokenizer':      Kind('t.safetensors', lambda d: save_tokenizer(d/'t.safetensors', long_jobs.vq()), lambda d: load_tokenizer(d/'t.safetensors')),
    'features':       Kind('f.safetensors', lambda d: save_feature_net(d/'f.safetensors', eye().network), lambda d: load_feature_net(d/'f.safetensors')),
    'model':          Kind('m.safetensors', lambda d: save_model(d/'m.safetensors', model()), lambda d: load_model(d/'m.safetensors')),
    'pretrained':     Kind('hub/config.json', lambda d: known().save_pretrained(d/'hub'), lambda d: load_pretrained(d/'hub'), checksum=False),
    'reference':      Kind('r.safetensors', lambda d: write_reference(d/'r.safetensors', eye(), PIXELS, folder=d/'features'), reference),
    'checkpoint':     Kind('run/checkpoint.pt', lambda d: small_trainings.by_fit(d/'run'), finished),
    'token cache':    Kind('cache/tokens.npy', cache, opened),
    'labels':         Kind('cache/labels.npy', cache, opened),
    'description':    Kind('cache/about.json', cache, opened),
    'npz':            Kind('s.npz', lambda d: write_adm_samples(d/'s.npz', PIXELS), whole_images),
    'statistics':     Kind('adm.npz', statistics, lambda d: read_adm_reference(d/'adm.npz')),
    'png':            Kind('i.png', lambda d: picture(d, 'png'), lambda d: read_image(d/'i.png', 8), checksum=False),
    'jpeg':           Kind('i.jpg', lambda d: picture(d, 'jpg'), lambda d: read_image(d/'i.jpg', 8), checksum=False),
    'captions':       Kind('annotations/captions_val2014.json', coco, lambda d: (coco_set(d, CocoProtocol(n=1)).captions, coco_set(d, CocoProtocol(n=1)).image_ids), checksum=False),
}
