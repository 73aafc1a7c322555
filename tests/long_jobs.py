"""The long jobs at a tiny size, each as one command that can be cut off and given again: python tests/long_jobs.py JOB FOLDER"""
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from kamig.core import load_tensors, locked, save_tensors, sha256_file, sha256_state, write_json
from kamig.data import Images
from kamig.evaluation import to_uint8
from kamig.features import Extractor, FeatureNet
from kamig.graphs import KnowledgeGraphs, build_graphs
from kamig.loop import FitConfig
from kamig.material import cached_stage
from kamig.model import create_model, set_trainable
from kamig.sampling import sample
from kamig.scoring import evaluate, kept_images
from kamig.tokenizers import VQConfig, VQTokenizer
from kamig.tokens import TokenCache, save_tokens, tokenize
from kamig.training import ObjectiveConfig, train_generator

SIZES = dict(codebook_size=32, seq_len=16, num_classes=4, dim=32, depth=3, num_heads=2)

def heed_ctrl_c():
    "Also where these tests run in the background, whose processes ignore it"
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def random(*shape, high, seed=0): return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))

def pictures(n, seed=0): return Images(random(n, 3, 8, 8, high=256, seed=seed).to(torch.uint8), random(n, high=4, seed=seed + 1), list('abcd'), 'noise')

def vq():
    torch.manual_seed(0)
    tokenizer = VQTokenizer(VQConfig(8, 2, codebook_size=32, width=16)).eval()
    tokenizer.quantizer.codebook.normal_()
    return tokenizer

def corpus(n=200): return random(n, 16, high=32).numpy(), random(n, high=4, seed=1).numpy()

def tokens_of(folder):
    "A token cache of random codes, made anew where it is not whole"
    try: return TokenCache(folder/'corpus')
    except FileNotFoundError: pass
    shutil.rmtree(folder/'corpus', ignore_errors=True)
    return save_tokens(folder/'corpus', *corpus(), 32, (4, 4), list('abcd'))

def tokenizing(folder):
    cache = tokenize(pictures(600), vq(), folder/'tokens', batch_size=2)
    return [sha256_file(cache.folder/n) for n in ('tokens.npy', 'labels.npy', 'about.json')]

def graphs(folder):
    path = folder/'graphs.safetensors'
    with locked(path):
        if not path.exists(): build_graphs(random(20_000, 16, high=256), random(20_000, high=4, seed=1), 256, 4, grid=(4, 4)).save(path)
    return [sha256_file(path), len(KnowledgeGraphs.load(path))]

def fit_config(steps): return FitConfig(steps, 8, 1e-3, warmup_steps=5, decay='cosine', ema_decay=.9, clip_norm=1., precision='fp32', checkpoint_every=7)

def stage(folder, name, make, part):
    data = tokens_of(folder)
    def train(place):
        model = make()
        set_trainable(model, part)
        return model, train_generator(model, data, ObjectiveConfig(), fit_config(40), seed=3, folder=place)
    os.environ['KAMIG_DATA'] = str(folder)
    done = cached_stage(name, [data.fingerprint], train, lambda path, m: save_tensors(path, m.state_dict(), 'model'), lambda path: loaded(make(), path))
    return [done.fingerprint, done.history, {k: v for k, v in done.about.items() if k == 'inputs'}]

def loaded(model, path):
    model.load_state_dict(load_tensors(path, 'model')[0])
    return model

def plain():
    torch.manual_seed(0)
    return create_model('maskgit', dropout=.1, **SIZES)

def augmented():
    torch.manual_seed(0)
    return create_model('maskgit', build_graphs(*corpus(), 32, 4, grid=(4, 4)), dropout=.1, **SIZES)

def pretraining(folder): return stage(folder, 'backbone', plain, 'all')

def finetuning(folder): return stage(folder, 'ka', augmented, 'knowledge')

def sampling(folder):
    model,tokenizer = plain().eval(),vq()
    def make(at): return to_uint8(tokenizer.decode(sample(model, at % 4, num_steps=4, seeds=at)))
    images = kept_images(make, 400, folder/'samples', part=20)
    return [images.fingerprint, sha256_state(dict(pixels=images.batch(torch.arange(400))))]

def evaluation(folder):
    torch.manual_seed(0)
    extractor = Extractor(FeatureNet(4, 16, 16), 'tiny', 'distance of a tiny network')
    return evaluate(pictures(1600), pictures(1100, 7), extractor, metrics=('frechet_distance', 'inception_score'), folder=folder/'features')

JOBS = dict(tokenizing=tokenizing, graphs=graphs, pretraining=pretraining, finetuning=finetuning, sampling=sampling, evaluation=evaluation)

def run(job, folder):
    "Do a job; what came out, in result.json, is written last"
    torch.set_num_threads(1)
    folder = Path(folder)
    (folder/'started').touch()
    write_json(folder/'result.json', JOBS[job](folder))

def serve():
    "Read lines JOB<tab>FOLDER; do each in a process of its own, whose number is written first and whose fate afterwards"
    import torch_fidelity
    for line in sys.stdin:
        if not (child := os.fork()):
            run(*line.rstrip('\n').split('\t'))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

if __name__ == '__main__': run(*sys.argv[1:]) if len(sys.argv) > 1 else serve()
