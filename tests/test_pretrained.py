"""Folders of `save_pretrained` for every class-conditional backbone, with and without graphs"""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, RepoUrl

import kamig
from kamig.core import generator
from kamig.graphs import build_graphs
from kamig.layers import BACKBONES, ClassConditional
from kamig.model import KAMIG, create_model, from_pretrained, load_pretrained
from rules import ROOT

NAMES = [name for name, kind in sorted(BACKBONES.discover().items()) if kind.check_condition is ClassConditional.check_condition]
FILES = {False: ['config.json', 'model.safetensors'], True: ['config.json', 'graphs.safetensors', 'model.safetensors']}

LABELS = torch.arange(60) % 3
IMAGES = torch.randint(4, (60, 16), generator=generator(0)) + 4*LABELS[:, None]
GRAPHS = build_graphs(IMAGES, LABELS, codebook_size=12, num_classes=3, grid=(4, 4))


@pytest.fixture(params=[(n, g) for n in NAMES for g in (False, True)], ids=lambda p: f'{p[0]}{"-ka" if p[1] else ""}')
def model(request):
    "A small model with random numbers in every parameter, so that the fusion is not zero"
    name, with_graphs = request.param
    made = create_model(name, GRAPHS if with_graphs else None, codebook_size=12, seq_len=16, num_classes=3, dim=32, depth=3, num_heads=2)
    for i, p in enumerate(made.parameters()): torch.nn.init.normal_(p, std=.2, generator=generator(i))
    return made.eval()


def logits(model):
    hidden = IMAGES[:8].masked_fill(torch.rand(8, 16, generator=generator(1)) < .6, model.mask_token_id)
    return model(hidden, LABELS[:8])


def names(folder): return sorted(f.name for f in Path(folder).iterdir())


def test_round_trip(model, tmp_path):
    folder = model.save_pretrained(tmp_path/'model')
    assert names(folder) == FILES[isinstance(model, KAMIG)]
    config = json.loads((folder/'config.json').read_text())
    assert config['kamig'] == kamig.__version__ and config['model'] == json.loads(json.dumps(model.config))
    assert list(config['graphs']) == (sorted(n for n, _ in GRAPHS) if isinstance(model, KAMIG) else [])
    again = load_pretrained(folder)
    assert type(again) is type(model) and not again.training
    assert logits(again).equal(logits(model))
    assert logits(from_pretrained(type(model), str(folder))).equal(logits(model))
    assert logits(load_pretrained(again.save_pretrained(tmp_path/'again'))).equal(logits(model))   # once more, from what was read
    assert (tmp_path/'again'/'config.json').read_text() == (folder/'config.json').read_text()


def test_what_is_uploaded(model, monkeypatch):
    "Exactly the files of the folder, in one commit, and nothing else is called"
    seen = []
    def upload(self, *, repo_id, folder_path, **options):
        seen.append((repo_id, names(folder_path), options['revision']))
        assert logits(load_pretrained(folder_path)).equal(logits(model))
        return 'the address'
    monkeypatch.setattr(HfApi, 'create_repo', lambda self, repo_id, **options: RepoUrl(f'https://huggingface.co/{repo_id}'))
    monkeypatch.setattr(HfApi, 'upload_folder', upload)
    assert model.push_to_hub('owner/name', branch='first') == 'the address'
    assert seen == [('owner/name', FILES[isinstance(model, KAMIG)], 'first')]


def test_graphs_of_another_model_are_refused(tmp_path):
    one, other = (create_model(NAMES[0], g, dim=32, depth=3, num_heads=2).save_pretrained(tmp_path/n)
                  for n, g in (('one', GRAPHS), ('other', build_graphs(IMAGES.flip(1), LABELS, 12, 3, grid=(4, 4)))))
    for file in ('graphs', 'model'):
        kept = (one/f'{file}.safetensors').read_bytes()
        (one/f'{file}.safetensors').write_bytes((other/f'{file}.safetensors').read_bytes())
        with pytest.raises(ValueError, match='other graphs|their graphs differ'): load_pretrained(one)
        (one/f'{file}.safetensors').write_bytes(kept)
    load_pretrained(one)


FRESH = 'import sys\nimport kamig.model\nassert not [m for m in sys.modules if m.split(".")[0] == "huggingface_hub"]\nkamig.model.load_pretrained(sys.argv[1])\n'

def test_the_hubs_library_waits_until_it_is_needed(tmp_path):
    "`kamig.model` comes without huggingface_hub, and a folder is read in a fresh interpreter by its path alone"
    folder = create_model(NAMES[0], GRAPHS, dim=32, depth=3, num_heads=2).save_pretrained(tmp_path/'model')
    done = subprocess.run([sys.executable, '-c', FRESH, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
