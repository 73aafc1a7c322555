"""What only a GPU can show"""
import pytest
import torch

from kamig.graphs import build_graphs
from kamig.loop import FitConfig
from kamig.model import augment, create_model, set_trainable
from kamig.tokens import save_tokens
from kamig.training import ObjectiveConfig, draw_batches, train_generator
import kamig.training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

@pytest.fixture
def data(tmp_path):
    torch.manual_seed(0)
    return save_tokens(tmp_path/'ring', torch.randint(6, (400, 9)), torch.arange(400) % 4, codebook_size=6, grid=(3, 3), classes=list('abcd'))

def trained(data, monkeypatch, replay:bool, knowledge:bool, steps:int=12):
    "A generator after some steps, recorded and replayed or one by one"
    torch.manual_seed(1)
    model = create_model('maskgit', codebook_size=6, seq_len=9, num_classes=4, dim=32, depth=2, num_heads=2, dropout=.1)
    if knowledge: model = augment(model, build_graphs(*data.all(), codebook_size=6, num_classes=4, grid=(3, 3)))
    if knowledge: set_trainable(model, 'knowledge')
    fit = kamig.training.fit
    with monkeypatch.context() as m:
        m.setattr(kamig.training, 'fit', lambda *a, **k: fit(*a, **k | dict(replay=replay)))
        found = train_generator(model, data, ObjectiveConfig(), FitConfig(steps, 64, 1e-3, warmup_steps=3, decay='cosine', clip_norm=1., ema_decay=.9, precision='fp32'), 3)
    return model.state_dict(), found

@pytest.mark.parametrize('knowledge', [False, True])
def test_replayed_steps_are_the_same_steps(data, monkeypatch, knowledge):
    (plain,a),(replayed,b) = (trained(data, monkeypatch, r, knowledge) for r in (False, True))
    for k in plain: torch.testing.assert_close(replayed[k], plain[k], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close([r['loss'] for r in a.history], [r['loss'] for r in b.history], atol=1e-5, rtol=1e-5)
    assert any(not v.equal(x) for v,x in zip(trained(data, monkeypatch, True, knowledge, 11)[0].values(), replayed.values()))   # the last step was made, too

def test_batches_are_the_same_on_both_devices(data):
    model = create_model('maskgit', codebook_size=6, seq_len=9, num_classes=4, dim=32, depth=2, num_heads=2)
    here,there = (draw_batches(data, model, ObjectiveConfig('beta'), 64, 5, device)(7) for device in ('cpu', 'cuda'))
    for a,b in zip(here, there): assert a.equal(b.cpu())
