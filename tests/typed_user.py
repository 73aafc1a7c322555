"""A program as a user with a type checker writes it; `test_public.py` has mypy read it and never runs it"""
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import Tensor

from kamig import (KAMIG, Experiment, FitConfig, GraphFusion, KnowledgeGraphs, RunRecord, augment, build_graphs, create_model, download, fit, load_model, load_pretrained, make_preset, run_experiment,
                   sample, save_pretrained, set_trainable, track)
from kamig.fusion import Residuals
from kamig.kinds import IncompatibilityGraph, TokenGraph
from kamig.layers import Backbone
from kamig.presets import Preset
from kamig.sampling import Sampled

tokens, labels = np.zeros((100, 64), np.int16), np.zeros(100, np.int64)
graphs = build_graphs(tokens, labels, codebook_size=512, num_classes=10, grid=(8, 8))
assert_type(graphs, KnowledgeGraphs)
assert_type(graphs.cooccurrence, TokenGraph | None)
assert_type(graphs.incompatibility, IncompatibilityGraph | None)
assert_type(KnowledgeGraphs.load(graphs.save('graphs.safetensors')), KnowledgeGraphs)

model = create_model('autonat', graphs)
assert_type(model, Backbone | KAMIG)
assert_type(sample(model, torch.tensor([3, 3, 7]), sampler='autonat'), Tensor)
assert_type(sample(model, [3, 3, 7], return_trajectory=True), tuple[Tensor, Tensor])
assert_type(sample(model, [3, 3, 7], return_info=True), Sampled)
assert_type(model.codebook_size + model.seq_len, int)
logits: Tensor = model(torch.zeros(1, 64, dtype=torch.long), torch.zeros(1, dtype=torch.long))
assert_type(model.save_pretrained('folder'), Path)
assert_type(load_pretrained('folder'), Backbone | KAMIG)
assert_type(load_model('weights.safetensors', graphs), Backbone | KAMIG)
assert_type(save_pretrained(model, 'folder'), Path)
if isinstance(model, Backbone): assert_type(augment(model, graphs, alpha=.5), KAMIG)
assert_type(set_trainable(model, 'knowledge'), int)

fusion = GraphFusion(64, 3, graphs)
residuals: Residuals = fusion(torch.zeros(512, 64), torch.zeros(2, 64, dtype=torch.long))
assert_type(residuals[0], Tensor)
history = fit(torch.nn.Linear(1, 1), lambda batch: batch.sum(), lambda step: torch.ones(1), FitConfig(steps=3)).history
assert_type(history, list[dict])
assert_type(track('tensorboard'), list[str])

preset = make_preset('maskgit', 'digits', 'smoke')
assert_type(preset, Preset)
record = run_experiment(Experiment(preset, seed=1))
assert_type(record, RunRecord)
assert_type(download('autonat'), Path)
