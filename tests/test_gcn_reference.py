"""Our graph convolution against PyTorch Geometric's, which the released code uses; skipped where that library is absent"""
import pytest
import torch

from kamig.core import generator
from kamig.encoders import GCN, gcn_matrix
from kamig.graphs import TokenGraph
from test_released_graphs import load

GCNConv = pytest.importorskip('torch_geometric.nn', reason='torch-geometric is not installed').GCNConv

def reference(gcn, graph, x):
    "The encoder made of GCNConv layers with the weights of `gcn`: the mean of the ReLU outputs"
    edges = graph.edge_index if graph.flow == 'source_to_target' else graph.edge_index.flip(0)
    outputs = []
    for layer in gcn.layers:
        conv = GCNConv(x.shape[1], x.shape[1]).to(x.dtype)
        conv.load_state_dict({'lin.weight': layer.linear.weight, 'bias': layer.bias})
        x = conv(x, edges, graph.edge_weight.to(x.dtype)).relu()
        outputs.append(x)
    return torch.stack(outputs).mean(0)

def random_gcn(dim, seed):
    "An encoder with random weights and biases"
    torch.manual_seed(seed)
    gcn = GCN(dim)
    for layer in gcn.layers: torch.nn.init.normal_(layer.bias)
    return gcn

@torch.no_grad()
def difference(graph, dim=16, seed=0, dtype=torch.float32):
    "Largest difference between the two, at outputs of about 1"
    gcn,x = random_gcn(dim, seed).to(dtype), torch.randn(graph.num_nodes, dim, generator=generator(seed), dtype=dtype)
    return (gcn(x, gcn_matrix(graph).to(dtype)) - reference(gcn, graph, x)).abs().max().item()

@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('flow', ['source_to_target', 'target_to_source'])
def test_random_graphs(seed, flow):
    "Random directed graphs, some codes with a self-loop and some without"
    chosen = torch.rand(12, 12, generator=generator(seed)) < .25
    edges = chosen.nonzero().T
    graph = TokenGraph(edges, torch.rand(edges.shape[1], generator=generator(seed, 1)) + .1, 12, flow)
    assert difference(graph, seed=seed) < 1e-5

@pytest.mark.parametrize('name', ['cooccurrence', 'similarity'])
def test_released_graphs(name, shared_data):
    graph = load(name, shared_data)
    worst = difference(graph)
    print(f'{name}: largest difference {worst:.1e}')
    assert worst < 5e-5
