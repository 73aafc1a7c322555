"""Our graph encoders against PyTorch Geometric's layers, which the released code uses; skipped where that library is absent"""
import pytest
import torch

from kamig.core import generator
from kamig.encoders import ENCODERS
from kamig.graphs import TokenGraph
from test_released_graphs import load

layers = pytest.importorskip('torch_geometric.nn', reason='torch-geometric is not installed')

def convolution(layer, graph, x, edges):
    "A GCNConv with the weights of `layer`"
    conv = layers.GCNConv(x.shape[1], x.shape[1]).to(x.dtype)
    conv.load_state_dict({'lin.weight': layer.linear.weight, 'bias': layer.bias})
    return conv(x, edges, graph.edge_weight.to(x.dtype))

def attention(layer, graph, x, edges):
    "A GATConv with the weights of `layer`; it has no use for edge weights"
    conv = layers.GATConv(x.shape[1], x.shape[1], heads=1).to(x.dtype)
    conv.load_state_dict({'lin.weight': layer.linear.weight, 'bias': layer.bias, 'att_src': layer.source[None], 'att_dst': layer.target[None]})
    return conv(x, edges)

def reference(name, encoder, graph, x):
    "The encoder made of their layers: the mean of the outputs, with a ReLU after each (after the last only for the GCN)"
    edges = graph.edge_index if graph.flow == 'source_to_target' else graph.edge_index.flip(0)
    outputs = []
    for i,layer in enumerate(encoder.layers):
        x = dict(gcn=convolution, gat=attention)[name](layer, graph, x, edges)
        if name == 'gcn' or i < len(encoder.layers)-1: x = x.relu()
        outputs.append(x)
    return torch.stack(outputs).mean(0)

def random_encoder(name, dim, seed):
    "An encoder with random weights and biases"
    torch.manual_seed(seed)
    encoder = ENCODERS[name](dim)
    for layer in encoder.layers: torch.nn.init.normal_(layer.bias)
    return encoder

@torch.no_grad()
def difference(name, graph, dim=16, seed=0, dtype=torch.float32):
    "Largest difference between the two, at outputs of about 1"
    encoder,x = random_encoder(name, dim, seed).to(dtype), torch.randn(graph.num_nodes, dim, generator=generator(seed), dtype=dtype)
    adj = encoder.reads(graph)
    return (encoder(x, adj.to(dtype) if adj.is_floating_point() else adj) - reference(name, encoder, graph, x)).abs().max().item()

@pytest.mark.parametrize('name', ['gcn', 'gat'])
@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('flow', ['source_to_target', 'target_to_source'])
def test_random_graphs(name, seed, flow):
    "Random directed graphs, some codes with a self-loop and some without"
    chosen = torch.rand(12, 12, generator=generator(seed)) < .25
    edges = chosen.nonzero().T
    graph = TokenGraph(edges, torch.rand(edges.shape[1], generator=generator(seed, 1)) + .1, 12, flow)
    assert difference(name, graph, seed=seed) < 1e-5

@pytest.mark.parametrize('encoder', ['gcn', 'gat'])
@pytest.mark.parametrize('name', ['cooccurrence', 'similarity'])
def test_released_graphs(encoder, name, shared_data):
    graph = load(name, shared_data)
    worst = difference(encoder, graph)
    print(f'{encoder}, {name}: largest difference {worst:.1e}')
    assert worst < 5e-5

def test_initial_weights():
    "Both start from the same distribution: Glorot's bounds, and a bias of zero"
    torch.manual_seed(0)
    theirs,ours = layers.GATConv(64, 64), ENCODERS['gat'](64).layers[0]
    for a,b in ((theirs.lin.weight, ours.linear.weight), (theirs.att_src, ours.source), (theirs.att_dst, ours.target)):
        assert a.numel() == b.numel() and abs(a.abs().max() - b.abs().max()) < .05*b.abs().max()
    assert not theirs.bias.any() and not ours.bias.any()
