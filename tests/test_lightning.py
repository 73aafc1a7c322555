"""A knowledge-augmented generator in the training loop of another framework"""
import pytest
import torch

from kamig import augment, build_graphs, create_model, sample, set_trainable
from kamig.masking import masked_cross_entropy

lightning = pytest.importorskip('lightning', reason='lightning is not installed')

LABELS = torch.arange(96) % 3
TOKENS = torch.randint(4, (96, 16), generator=torch.Generator().manual_seed(0)) + 4*LABELS[:, None]


class Generator(lightning.LightningModule):
    "What a user writes: the model, the loss, the optimiser"
    def __init__(self, model):
        super().__init__()
        self.model, self.losses = model, []

    def training_step(self, batch, index):
        tokens, labels = batch
        mask = torch.rand(tokens.shape, device=tokens.device) < .5
        loss = masked_cross_entropy(self.model(tokens.masked_fill(mask, self.model.mask_token_id), labels), tokens, mask)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self): return torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], 1e-2)


def test_lightning_trains_the_knowledge_and_nothing_else(tmp_path):
    torch.manual_seed(0)
    graphs = build_graphs(TOKENS, LABELS, codebook_size=12, num_classes=3, grid=(4, 4))
    model = augment(create_model('autonat', codebook_size=12, seq_len=16, num_classes=3, dim=32, depth=3), graphs)
    set_trainable(model, 'knowledge')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    module = Generator(model)
    trainer = lightning.Trainer(max_epochs=5, accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path)
    trainer.fit(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(TOKENS, LABELS), batch_size=32))
    assert len(module.losses) == 15 and sum(module.losses[-3:]) < sum(module.losses[:3])
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all(model.state_dict()[k].equal(before[k]) for k in frozen)
    assert sample(model, [0, 1, 2], num_steps=4).shape == (3, 16)
