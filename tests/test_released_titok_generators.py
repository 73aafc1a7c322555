"""TiTok's generators: their logits against those of the public implementation, and knowledge attached at their full depth"""
import pytest
import torch
from safetensors.torch import save_file

from kamig.graphs import build_graphs
from kamig.layers import check_backbone
from kamig.model import augment, create_model, load_released, set_trainable
from test_released import TOLERANCE, check_every_tensor_counts, difference, fixture

DEPTHS = {'titok-b64': 3, 'titok-s128': 5}
FULL = {'titok': 24, 'titok-uvit': 21}        # blocks of the published networks

@pytest.mark.parametrize('name', DEPTHS)
def test_logits(name, tmp_path):
    "A file of torch, one of safetensors and a folder of the hub, with and without class"
    known,state = fixture(name)
    torch.save(state, tmp_path/'generator.bin')
    save_file(state, tmp_path/'model.safetensors')
    (tmp_path/'config.json').write_text('{}')
    for weights in (tmp_path/'generator.bin', tmp_path/'model.safetensors', tmp_path):
        model = load_released(name, weights, num_heads=4)
        assert (model.codebook_size, model.mask_token_id, model.seq_len, model.num_classes, model.dim, model.depth) == (24, 24, 16, 5, 32, DEPTHS[name])
        assert not model.is_grid and model.num_classes in known['labels']
        assert difference(model, known) < TOLERANCE
    assert difference(load_released(name, state), known) > .1           # sixteen heads: another function
    with pytest.raises(ValueError, match='dim 32 cannot be split among 5 heads'): load_released(name, state, num_heads=5)

def test_the_numbers_of_old_files():
    known,state = fixture('titok-b64')
    numbers = torch.arange(17)[None]
    assert difference(load_released('titok-b64', state | {'model.embeddings.position_ids': numbers}, num_heads=4), known) < TOLERANCE
    assert difference(load_released('titok-l32', state, num_heads=4), known) < TOLERANCE
    for wrong in (numbers.flip(1), numbers[:,1:]):
        with pytest.raises(ValueError, match='that are not 0..16'): load_released('titok-b64', state | {'model.embeddings.position_ids': wrong}, num_heads=4)

@pytest.mark.parametrize('name', DEPTHS)
def test_every_tensor_counts(name): check_every_tensor_counts(name, fixture(name)[1], num_heads=4)

@pytest.fixture(scope='module')
def world():
    "40 sequences of 12 codes in four classes, and their three graphs"
    labels = torch.arange(40) % 4
    tokens = torch.randint(5, (40, 12), generator=torch.Generator().manual_seed(0)) + 5*labels[:,None]
    return tokens, labels, build_graphs(tokens, labels, codebook_size=20, num_classes=4, grid=(3, 4))

def entering(model, tokens, labels):
    "What enters each block of a model"
    seen,blocks = [],getattr(model, 'backbone', model).blocks
    hooks = [b.register_forward_pre_hook(lambda _,args: seen.append(args[0].clone())) for b in blocks]
    model(tokens, labels)
    for h in hooks: h.remove()
    return seen

@pytest.mark.parametrize('name', FULL)
def test_residuals_reach_every_block_of_the_published_depth(name):
    "Each residual is added before its own block, at image positions, and moves nothing earlier"
    check_backbone(name, depth=FULL[name])

@torch.no_grad()
@pytest.mark.parametrize('name', FULL)
def test_knowledge_is_added_before_every_block(name, world):
    "At the start not a bit is different; then each block receives what its own residual says, and the class is left alone"
    tokens,labels,graphs = world
    torch.manual_seed(0)
    backbone = create_model(name, codebook_size=20, seq_len=12, num_classes=4, dim=16, depth=FULL[name], num_heads=2).eval()
    model = augment(backbone, graphs)
    assert {n for n,_ in graphs} == {'cooccurrence', 'similarity', 'incompatibility'} and not model.is_grid
    hidden = tokens.masked_fill(torch.rand(40, 12, generator=torch.Generator().manual_seed(1)) < .5, model.mask_token_id)
    for condition in (labels, torch.full_like(labels, 4)): assert model(hidden, condition).equal(backbone(hidden, condition))

    for p in model.fusion.parameters(): p += .1*torch.randn(p.shape)
    residuals = list(model.residuals(hidden, labels))
    assert len(residuals) == FULL[name] and all(r.abs().min(-1).values.max() > 0 for r in residuals)
    found = entering(model, hidden, labels)
    expected = []                                   # the same by hand: blocks see what hooks add
    hooks = [b.register_forward_pre_hook(lambda _,args,r=r: expected.append(args[0] + torch.nn.functional.pad(r, (0, 0, 1, 0))) or (expected[-1], *args[1:])) for b,r in zip(backbone.blocks, residuals)]
    by_hand = backbone(hidden, labels)
    for h in hooks: h.remove()
    assert len(found) == FULL[name] and all(torch.allclose(a, b, atol=1e-5) for a,b in zip(found, expected))
    torch.testing.assert_close(model(hidden, labels), by_hand, atol=1e-5, rtol=1e-5)

@pytest.mark.parametrize('name', FULL)
def test_the_head_is_trained_and_nothing_of_the_input(name, world):
    model = augment(create_model(name, codebook_size=20, seq_len=12, num_classes=4, dim=16, depth=5, num_heads=2), world[2])
    set_trainable(model, 'knowledge')
    assert [n for n,p in model.backbone.named_parameters() if p.requires_grad] == ['lm_head.weight', 'lm_head.bias']
