"""What `test_distributed.py` starts in one process and in two: graphs, samples, training, metrics at a tiny size"""
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

import long_jobs
from kamig.core import generator, sha256_file
from kamig.distributed import rank, together, wait_for_all
from kamig.evaluation import sample_images
from kamig.experiment import draw_maps
from kamig.features import FeatureNet, local_extractor
from kamig.graphs import build_graphs
from kamig.loop import FitConfig
from kamig.model import augment, create_model, set_trainable
from kamig.presets import SamplerChoice
from kamig.scoring import evaluate, kept_images
from kamig.tokenizers import VQConfig, VQTokenizer
from kamig.tokens import TokenCache, save_tokens, tokenize
from kamig.training import ObjectiveConfig, train_generator

OUT = Path(sys.argv[1])
CODES, CLASSES, GRID = 12, 3, (4, 4)
labels = torch.randint(CLASSES, (91,), generator=generator(1))
tokens = ((labels[:, None] + torch.arange(16)) % CODES + torch.randint(3, (91, 16), generator=generator(2))) % CODES
FIT = FitConfig(steps=40, batch_size=7, learning_rate=3e-3, warmup_steps=3, clip_norm=1., ema_decay=.9, precision='fp32', checkpoint_every=4)

def fresh():
    torch.manual_seed(3 + rank())                           # whatever the others begin with: the first process's weights count
    return create_model('maskgit', codebook_size=CODES, seq_len=16, num_classes=CLASSES, dim=16, depth=2, num_heads=2, dropout=0.)

def train(model, data, objective, config=FIT, folder=None):
    fit = train_generator(model, data, objective, config, seed=5, folder=folder)
    return dict(losses=[row['loss'] for row in fit.history], weights={k: v.clone() for k, v in model.state_dict().items()} | {f'average {k}': v for k, v in fit.average.items()})

def trained(data, graphs):
    objectives = dict(plain=ObjectiveConfig(), visible=ObjectiveConfig(visible_weight=.2), sum=ObjectiveConfig(reduction='sum'))
    found = {kind: train(fresh(), data, objective) for kind, objective in objectives.items()}
    model = augment(fresh(), graphs)
    set_trainable(model, 'knowledge')
    return found | dict(knowledge=train(model, data, ObjectiveConfig()))

class Cut(Exception): "The training is interrupted"

def resumed(data):
    "The plain training, cut off after its ninth step, the last checkpoint being that of the eighth"
    model, steps = fresh(), []
    def cut(module, *rest):
        steps.append(1)
        if len(steps) == 10: raise Cut
    hook = model.register_forward_pre_hook(cut)
    try: train(model, data, ObjectiveConfig(), folder=OUT/'resumed')
    except Cut: hook.remove()
    return train(fresh(), data, ObjectiveConfig(), folder=OUT/'resumed')

def encoded(name, cut=None):
    "Files of the tokens of some pictures, and how many pictures this process encoded; cut off before batch number `cut`"
    tokenizer, counts = long_jobs.vq(), []
    encode = tokenizer.encode
    def watched(images):
        if len(counts) == cut: raise Cut
        counts.append(len(images))
        return encode(images)
    tokenizer.encode = watched
    cache = tokenize(long_jobs.pictures(303), tokenizer, OUT/name, batch_size=2)
    return {p.name: sha256_file(p) for p in cache.folder.iterdir()}, sum(counts)

with together():
    tokenized = encoded('tokenized')
    try: encoded('tokenized in two goes', cut=60)
    except Cut: pass
    tokenized_again = encoded('tokenized in two goes')
    graphs = build_graphs(tokens, labels, CODES, CLASSES, GRID)
    if rank() == 0: save_tokens(OUT/'tokens', tokens, labels, codebook_size=CODES, grid=GRID, classes=list('abc'))
    wait_for_all()
    data = TokenCache(OUT/'tokens')
    training = trained(data, graphs)
    again = resumed(data)

    model = fresh()
    model.load_state_dict({k: v for k, v in training['plain']['weights'].items() if k in model.state_dict()})
    tokenizer = VQTokenizer(VQConfig(image_size=8, patch=2, codebook_size=CODES, width=8)).eval()
    torch.manual_seed(7)
    for p in tokenizer.parameters(): torch.nn.init.normal_(p, std=.3)
    torch.nn.init.normal_(tokenizer.codebook, generator=generator(8))
    drawn = []
    def make(at):
        drawn.append(len(at))
        return sample_images(model.eval(), tokenizer, labels[at], at, num_steps=4)
    images = kept_images(make, 30, OUT/'samples', part=12)
    experiment = SimpleNamespace(arm=lambda arm: SimpleNamespace(module=model), seed=1, condition=lambda labels, seeds: labels,
                                 train=SimpleNamespace(classes=range(CLASSES)), preset=SimpleNamespace(evaluation=SimpleNamespace(labels='balanced')))
    maps, passes = draw_maps(experiment, 'ka', 11, SamplerChoice(num_steps=4), batch_size=3)
    torch.manual_seed(9)
    extractor = local_extractor(FeatureNet(CLASSES, 4, 8))
    real = torch.randint(256, (700, 3, 8, 8), dtype=torch.uint8, generator=generator(10))
    metrics = evaluate(images, real, extractor, folder=OUT/'features')

tensors = {f'{name}.{k}': v for name, graph in graphs for k, v in graph.tensors().items()}
torch.save(dict(graphs=tensors, samples=images.batch(torch.arange(30)), drawn=len(drawn), maps=maps, tokenized=tokenized, tokenized_again=tokenized_again, training=training, resumed=again,
                metrics={k: v for k, v in metrics.items() if isinstance(v, (int, float))}), OUT/f'results-{rank()}.pt')
