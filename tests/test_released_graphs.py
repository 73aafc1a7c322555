"""The two graph files shipped with the released code: what is in them, and that they are read and encoded as they are"""
import pytest
import torch

from kamig.encoders import gcn_matrix
from kamig.graphs import load_released_graph

FILES = dict(cooccurrence='codebook_co_occurrence_norm_self_50.pkl', similarity='codebook_replace_graph_norm_self.pkl')
V = 1024

def load(name, folder):
    "One of the two graphs"
    path = folder/'released_graphs'/FILES[name]
    if not path.exists(): pytest.skip(f'the released graph file {path} is not here')
    return load_released_graph(path)

@pytest.fixture(scope='module', params=FILES)
def named(request, shared_data): return request.param, load(request.param, shared_data)

@pytest.fixture(scope='module')
def cooccurrence(shared_data): return load('cooccurrence', shared_data)

@pytest.fixture(scope='module')
def similarity(shared_data): return load('similarity', shared_data)


def in_degree(graph): return graph.adjacency().sum(0)


def out_degree(graph): return torch.bincount(graph.edge_index[0], minlength=V)


def mutual(graph):
    a = graph.adjacency()
    return int((a & a.T).sum())


def raw_weights(graph):
    "Weights before the edge-count normalisation, in float64"
    degree = out_degree(graph).double()
    return graph.edge_weight.double()*(degree[graph.edge_index[0]]*degree[graph.edge_index[1]]).sqrt()


def test_layout(named):
    name,graph = named
    edges = graph.edge_index
    assert (graph.num_nodes, graph.flow, edges.dtype, graph.edge_weight.dtype) == (V, 'source_to_target', torch.int64, torch.float32)
    assert edges.shape[1] == dict(cooccurrence=53_193, similarity=3_072)[name]
    assert edges[:,-V:].equal(torch.arange(V).expand(2, V))                 # self-loops last, in order
    key = edges[0,:-V]*V + edges[1,:-V]
    assert (key.diff() > 0).all()                                           # the others row by row, none twice
    torch.testing.assert_close(raw_weights(graph)[-V:], torch.ones(V).double(), rtol=0, atol=1e-6)


def test_cooccurrence_edges(cooccurrence):
    g = cooccurrence
    degree = out_degree(g)
    assert {int(d): int(n) for d,n in zip(*degree.unique(return_counts=True))} == {50: 3, 51: 49, 52: 972}
    assert (degree == 50).nonzero().flatten().tolist() == [213, 566, 793]
    incoming = in_degree(g)
    assert (incoming == 0).nonzero().flatten().tolist() == [18, 130, 139, 225, 237, 239, 370, 611, 835, 897, 998]
    assert (incoming.median(), incoming[764], incoming[893], incoming.max()) == (35, 598, 460, 598)
    assert mutual(g) == 22_344 and int(g.adjacency().sum()) == 52_169
    assert g.edge_index[:,:3].T.tolist() == [[0, 54], [0, 82], [0, 89]]
    torch.testing.assert_close(g.edge_weight[:3], torch.tensor([5.0192308, 3.8269231, 5.4038463]), rtol=0, atol=1e-6)


def test_cooccurrence_counts(cooccurrence):
    g = cooccurrence
    raw = raw_weights(g)[:-V]
    assert (raw - raw.round()).abs().max() < 6e-4                           # the counts, once the normalisation is undone
    table = torch.zeros(V, V, dtype=torch.long)
    table[tuple(g.edge_index[:,:-V])] = raw.round().long()
    assert (table[table > 0].min(), table.max(), table.sum()) == (34, 9546, 17_789_070)
    assert (table[604,764], table[764,604], table[764,102], table[764,620]) == (9546, 9546, 8693, 7905)
    assert (table[1023,2], table[2,1023]) == (396, 0)                       # one way only: row 2 keeps 404 and more
    assert table[2][table[2] > 0].min() == 404
    both = (table > 0) & (table.T > 0)
    assert table[both].equal(table.T[both])                                 # counts are symmetric where both ends kept them
    w = g.edge_weight[:-V]
    assert abs(w.min() - .66679) < 1e-5 and abs(w.max() - 183.57692) < 1e-4 and abs(w.mean() - 6.562) < 1e-3


def test_similarity_edges(similarity):
    g = similarity
    assert (out_degree(g) == 3).all()
    incoming = in_degree(g)
    assert (int((incoming == 0).sum()), int(incoming.max()), int(incoming.argmax())) == (412, 26, 568)
    assert mutual(g) == 456
    assert g.edge_index[:,:6].T.tolist() == [[0, 436], [0, 934], [1, 71], [1, 794], [2, 602], [2, 870]]
    expected = torch.tensor([.3296260, .3300284, .3322633, .3326013, .3306088, .3301737])
    torch.testing.assert_close(g.edge_weight[:6], expected, rtol=0, atol=1e-7)
    w = g.edge_weight[:-V]
    assert abs(w.min() - .3241905) < 1e-7 and abs(w.max() - .3331650) < 1e-7


def recovered_js(g):
    "(V, 2) chosen codes, nearest first, and their divergences: w = exp(-5 JS) / 3"
    js = -(3*g.edge_weight[:-V].double()).log().view(V, 2)/5
    js,order = js.sort(1)
    return g.edge_index[1,:-V].view(V, 2).gather(1, order), js


def test_similarity_divergences(similarity):
    codes,js = recovered_js(similarity)
    for value,expected,atol in ((js.min(), 1.0104e-4, 1e-7), (js.max(), 5.5623e-3, 1e-6), (js.mean(), 1.9000e-3, 1e-6), (js.flatten().quantile(.5), 1.9271e-3, 1e-6)):
        assert abs(value - expected) < atol
    assert len(codes[:,0].unique()) == 476                                  # distinct nearest codes
    nearest = {1013: ((463, 658), (1.053e-4, 1.958e-4)), 204: ((348, 425), (1.071e-4, 1.886e-4)), 685: ((997, 1021), (5.519e-3, 5.562e-3))}
    for code,(chosen,values) in nearest.items():
        assert tuple(codes[code].tolist()) == chosen
        torch.testing.assert_close(js[code], torch.tensor(values).double(), rtol=0, atol=1e-6)
    others = {259: (806, 449), 36: (438, 190), 185: (136, 522), 764: (662, 604)}
    assert {c: tuple(codes[c].tolist()) for c in others} == others
    assert js[:,0].argsort(stable=True)[:13].sort().values.tolist() == sorted([309, 1022, 424, 1013, 463, 204, 348, 710, 865, 425, 743, 721, 658])
    assert js[:,0].argsort(descending=True)[:13].tolist() == [685, 259, 157, 738, 278, 791, 262, 590, 363, 828, 896, 455, 36]


def test_propagation(named):
    name,graph = named
    a = gcn_matrix(graph).double()
    low,high,norm = dict(cooccurrence=(.116, 10.0, 11.18), similarity=(.672, 3.68, 1.515))[name]
    total = a.sum(1)
    assert abs(total.min() - low) < 1e-3 and abs(total.max() - high) < .05
    assert abs(torch.linalg.matrix_norm(a, 2) - norm) < .01
    own = a.diagonal()/total
    assert abs(own.median() - dict(cooccurrence=8e-5, similarity=.5)[name]) < dict(cooccurrence=1e-5, similarity=.01)[name]
    alone = (in_degree(graph) == 0).sum()                                   # chosen by nobody: hears only itself
    assert int((own == 1).sum()) == int(alone) == dict(cooccurrence=11, similarity=412)[name]
