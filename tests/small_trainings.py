"""One short training by each public way: `fit`, `cached_stage`, `Experiment.arm`; alone as a command: python tests/small_trainings.py WAY FOLDER"""
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

import kamig.training
import long_jobs
from kamig.core import load_tensors, save_tensors
from kamig.loop import FitConfig, fit
from kamig.material import cached_stage

PLAN = FitConfig(12, 8, 1e-2, ema_decay=.9, checkpoint_every=4, precision='fp32')   # checkpoints after steps 4, 8 and 12

def unspoiled(loss): return loss

def by_fit(folder, spoil=unspoiled):
    "A linear map that forgets; `spoil` is handed every loss. Its module, and its log"
    torch.manual_seed(0)
    net = torch.nn.Linear(40, 40)
    return net, fit(net, lambda x: spoil(net(x).square().mean()), lambda step: torch.full((2, 40), step/9.), PLAN, folder=folder, log_every=4)

def by_stage(folder, spoil=unspoiled):
    "The same as a stage that is kept"
    os.environ['KAMIG_DATA'] = str(folder)
    def load(path):
        net = torch.nn.Linear(40, 40)
        net.load_state_dict(load_tensors(path, 'map')[0])
        return net
    stage = cached_stage('map', [1], lambda place: by_fit(place, spoil), lambda path, net: save_tensors(path, net.state_dict(), 'map'), load)
    return stage.module, stage

def by_arm(folder, spoil=unspoiled):
    "The knowledge-augmented fine-tune of an experiment on random tokens; its backbone is trained unspoiled"
    from kamig.experiment import Experiment
    from kamig.presets import make_preset
    os.environ['KAMIG_DATA'] = str(folder)
    experiment = Experiment(replace(make_preset('maskgit', 'digits', 'smoke'), pretrain=PLAN, finetune=PLAN))
    experiment._tokens = dict.fromkeys(('train', 'heldout'), long_jobs.tokens_of(folder))      # which spares us images and a tokenizer
    experiment.arm('backbone')
    score = kamig.training.masked_cross_entropy
    kamig.training.masked_cross_entropy = lambda *args: spoil(score(*args))
    try: stage = experiment.arm('ka')
    finally: kamig.training.masked_cross_entropy = score
    return stage.module, stage

WAYS = dict(fit=by_fit, cached_stage=by_stage, arm=by_arm)

def result(way, folder, spoil=unspoiled):
    "Weights and log of a training"
    module, found = WAYS[way](folder, spoil)
    return dict(module.state_dict(), history=found.history)

if __name__ == '__main__':
    def wait(loss):
        "At every step, for a line to read"
        print('at work', flush=True)
        sys.stdin.readline()
        return loss
    torch.save(result(sys.argv[1], Path(sys.argv[2]), wait), f'{sys.argv[2]} of {os.getpid()}.pt')
