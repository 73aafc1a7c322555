"""What `test_distributed.py` starts in one process and in two: the command `kamig train` in the data folder FOLDER, and a look at what it left"""
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ['KAMIG_DATA'] = sys.argv[1]

import kamig.experiment
from kamig.cli import main
from kamig.core import write_json
from kamig.distributed import rank, together
from kamig.experiment import ARMS, Experiment, sampled_maps, samples
from kamig.presets import make_preset

def preset(*args, **options):
    "As usual, but without dropout, whose random numbers differ from process to process, and in float32"
    p = make_preset(*args, **options)
    return replace(p, size=replace(p.size, dropout=0.), **{k: replace(getattr(p, k), precision='fp32') for k in ('tokenizer_fit', 'pretrain', 'finetune')})

kamig.experiment.make_preset = preset
assert main(['train', '--scale', 'smoke']) == 0
with together():
    experiment = Experiment(preset('maskgit', 'digits', 'smoke'))
    found = dict(tokens=experiment.tokens('train').fingerprint, tokenizer=experiment.tokenizer.fingerprint, weights=[experiment.arm(a).fingerprint for a in ARMS],
                 maps=sampled_maps(experiment, 'ka').tolist(), samples=samples(experiment, 'ka').sum((1, 2, 3)).tolist())
write_json(Path(sys.argv[1])/f'seen-{rank()}.json', found)
