"""A fifth backbone is one notebook and nothing else: it is exported into a copy of the package and used by its name"""
import json
import os
import shutil
import subprocess
import sys

from rules import KERNEL, ROOT, export

CELLS = [
    '#| default_exp backbones.mixer',
    '''#| export
import torch
from torch import Tensor, nn

from kamig.layers import BACKBONES, MLP, Backbone''',
    '''#| export
class MixerBlock(nn.Module):
    "An MLP over positions, then an MLP over features"
    def __init__(self, length:int, dim:int):
        super().__init__()
        self.norm1,self.positions = nn.LayerNorm(dim),MLP(length, 2*length, nn.GELU())
        self.norm2,self.features = nn.LayerNorm(dim),MLP(dim, 2*dim, nn.GELU())

    def forward(self, x:Tensor)->Tensor:
        x = x + self.positions(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.features(self.norm2(x))''',
    '''#| export
@BACKBONES.register('mixer')
class Mixer(Backbone):
    "A masked generator without attention; its head shares the table of its input"
    def __init__(self, codebook_size:int, seq_len:int, num_classes:int, dim:int, depth:int, num_heads:int=1, dropout:float=0.):
        super().__init__(codebook_size, seq_len, num_classes, dim, depth, mask_token_id=codebook_size)
        self.table,self.classes = nn.Embedding(codebook_size+1, dim),nn.Embedding(num_classes+1, dim)
        self.blocks = nn.ModuleList(MixerBlock(seq_len+1, dim) for _ in range(depth))
        self.fc,self.scores = nn.Linear(dim, dim),nn.Linear(dim, codebook_size+1)
        self.scores.weight = self.table.weight

    def hidden(self, tokens:Tensor, condition, residuals=None)->Tensor:
        return self.run_blocks(torch.cat([self.classes(condition)[:,None], self.table(tokens)], 1), residuals)[:,1:]

    def head(self, hidden:Tensor)->Tensor: return self.scores(torch.tanh(self.fc(hidden)))[..., :-1]
    def token_embedding(self)->Tensor: return self.table.weight[:self.codebook_size]
    def head_parameters(self)->list[nn.Parameter]: return [*self.fc.parameters(), self.scores.bias]''',
]

LIFE = '''
import json, sys
from pathlib import Path
import torch
from kamig.experiment import Experiment, check_parameters, run_experiment
from kamig.graphs import build_graphs
from kamig.layers import check_backbone
from kamig.loop import FitConfig
from kamig.model import augment, create_model, load_model, load_pretrained, save_model, set_trainable
from kamig.presets import make_preset
from kamig.sampling import sample

folder = Path(sys.argv[1])
torch.manual_seed(0)
check_backbone('mixer')                                                                     # created
labels = torch.arange(60) % 3
images = torch.randint(4, (60, 16)) + 4*labels[:,None]
backbone = create_model('mixer', codebook_size=12, seq_len=16, num_classes=3, dim=32, depth=3).eval()
model = augment(backbone, build_graphs(images, labels, 12, 3, grid=(4, 4)))                 # augmented
hidden = images.masked_fill(torch.rand(60, 16) < .5, model.mask_token_id)
assert model(hidden, labels).equal(backbone(hidden, labels))

set_trainable(model, 'knowledge')                                                           # trained
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
losses = []
for _ in range(10):
    loss = torch.nn.functional.cross_entropy(model(hidden, labels).flatten(0, 1), images.flatten())
    optimiser.zero_grad(); loss.backward(); optimiser.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]

tokens = sample(model, labels[:4], num_steps=4, seeds=torch.arange(4))                      # sampled
assert tokens.shape == (4, 16) and int(tokens.max()) < 12

shared = model.save_pretrained(folder/'shared')                                             # saved and loaded, the shared table once in memory
for again in (load_pretrained(shared), load_model(save_model(folder/'model.safetensors', model), model.graphs)):
    assert again(hidden, labels).equal(model(hidden, labels))
    assert again.backbone.scores.weight is again.backbone.table.weight
    assert sample(again, labels[:4], num_steps=4, seeds=torch.arange(4)).equal(tokens)

record = run_experiment(Experiment(make_preset('mixer', 'digits', 'smoke')))                # from images to scores, by its name
assert check_parameters(backbone='mixer', dataset='digits', scale='smoke', seed=0, graphs='similarity', fidelity='paper', out='').backbone == 'mixer'
print(json.dumps(dict(name=record.name, arms=sorted(record.arms), nll=record.arms['ka']['nll'])))
'''

def notebook(cells):
    "A notebook of code cells"
    code = [dict(cell_type='code', id=f'cell{i}', metadata={}, execution_count=None, outputs=[], source=source) for i, source in enumerate(cells)]
    return json.dumps(dict(cells=code, metadata=dict(kernelspec=KERNEL), nbformat=4, nbformat_minor=5))


def test_one_notebook_makes_a_backbone(tmp_path):
    shutil.copytree(ROOT/'kamig', tmp_path/'kamig', ignore=shutil.ignore_patterns('__pycache__'))
    module = export({'settings.ini': (ROOT/'settings.ini').read_text(), 'nbs/36_backbones.mixer.ipynb': notebook(CELLS)})['kamig/backbones/mixer.py']
    (tmp_path/'kamig'/'backbones'/'mixer.py').write_bytes(module)                           # the one file that is added; none is changed
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | dict(PYTHONPATH=str(tmp_path), KAMIG_DATA=str(tmp_path/'data'))
    done = subprocess.run([sys.executable, '-c', LIFE, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said['name'], said['arms']) == ('digits-mixer-smoke-seed0', ['backbone', 'head', 'ka']) and 0 < said['nll'] < 10
