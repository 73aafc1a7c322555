"""The optional log for TensorBoard."""
import pytest
import torch
from torch import nn

from kamig.loop import FitConfig, fit


def test_losses_reach_tensorboard(tmp_path):
    events = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator', reason='tensorboard is not installed')
    line = nn.Linear(1, 1)
    result = fit(line, lambda batch: line(batch).square().mean(), lambda step: torch.ones(4, 1), FitConfig(6, 4), folder=tmp_path, log_every=2, tensorboard=True)
    found = events.EventAccumulator(str(tmp_path)).Reload().Scalars('loss')
    assert [e.step for e in found] == [2, 4, 6]
    assert [e.value for e in found] == pytest.approx([r['loss'] for r in result.history])
