"""Files damaged at random and arguments drawn at random (hypothesis): the right answer, or a clear error; never a crash of another kind, never a silent wrong number"""
import math
import resource

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kamig.core import uniform
from kamig.counts import all_pairs, check_labels, cooccurrence_counts, corpus_sample, folded_grid, grid_pairs, js_divergence, position_distributions, position_histogram, sequence_pairs
from kamig.graphs import GRAPHS, GraphConfig, IncompatibilityGraph, TokenGraph, build_graphs, edge_count_normalise, half_split_agreement, keep_largest, keep_smallest
from kamig.masking import MASK_LAWS, mask_counts, masked_cross_entropy, random_mask
from kamig.metrics import (RunningStatistics, chance_ndcg, clip_mmd, clip_scores, density_coverage, feature_statistics, frechet_distance, inception_score, kernel_distance, masked_nll_per_image,
                           ndcg_at_k, paired_difference, precision_recall, psnr, top1_per_image)
from kamig.plans import SCHEDULES, DecodingPlan, guidance_ramp, hidden_ratios
from kamig.presets import make_preset, scaled
from kamig.sampling import SAMPLERS, draw_tokens, least_trusted, make_plan, sample
from small_files import KINDS, content, model

CLEAR = (ValueError, KeyError, FileNotFoundError)
HEALTHY = dict(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False, phases=[Phase.generate])
PROFILES = [pytest.param(25, id='short'), pytest.param(1500, id='full', marks=pytest.mark.slow)]

@pytest.fixture(scope='module', autouse=True)
def little_memory():
    "What asks for absurd amounts of memory is told so at once (not where a GPU wants its address space)"
    old = resource.getrlimit(resource.RLIMIT_AS)
    used = int(open('/proc/self/statm').read().split()[0])*resource.getpagesize() if not torch.cuda.is_available() else None
    if used: resource.setrlimit(resource.RLIMIT_AS, (used + 2**33, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)

def clear(error):
    "One sentence, not a traceback and not a mere word"
    text = str(error)
    assert text and '\n' not in text.strip() and len(text) > 10, f'{type(error).__name__}: {text}'
    return text


# ---------------------------------------------------------------- files
edits = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(['flip', 'set', 'insert', 'delete', 'cut', 'repeat']), st.integers(0, 255)), min_size=1, max_size=4)

def edited(good, changes):
    "The bytes after some changes at random places"
    bad = bytearray(good)
    for where, how, value in changes:
        at = int(where*max(0, len(bad) - 1))
        if how == 'flip' and bad: bad[at] ^= 1 << value % 8
        if how == 'set' and bad: bad[at] = value
        if how == 'insert': bad.insert(at, value)
        if how == 'delete': del bad[at:at + 1 + value % 5]
        if how == 'cut': del bad[at:]
        if how == 'repeat': bad[at:at] = bad[at:at + value]
    return bytes(bad)

@pytest.mark.parametrize('examples', PROFILES)
@pytest.mark.parametrize('name', KINDS)
def test_damaged_bytes(name, examples, tmp_path):
    kind = KINDS[name]
    kind.write(tmp_path)
    path, whole = tmp_path/kind.name, content(kind.read(tmp_path))
    good = path.read_bytes()

    @settings(max_examples=examples, **HEALTHY)
    @given(edits)
    def damage(changes):
        path.write_bytes(edited(good, changes))
        try: found = content(kind.read(tmp_path))
        except CLEAR as e: assert str(tmp_path) in clear(e)
        else: assert found == whole or not kind.checksum
    damage()
    path.write_bytes(good)
    assert content(kind.read(tmp_path)) == whole


# ---------------------------------------------------------------- arguments
sizes = st.sampled_from([-7, -1, 0, 1, 2, 3, 4, 5, 8, 17])
numbers = st.sampled_from([-math.inf, -1., -1e-9, 0., 1e-9, .05, .3, .5, 1., 1.5, 4.5, 1e9, math.inf, math.nan])
words = st.sampled_from(['', 'paper', 'released', 'digits', 'grid', 'small', 'smoke', 'x', None, 3])
seeds = st.integers(0, 2**31)

@st.composite
def tensors(draw, dims=(1, 3), kinds=('whole', 'float', 'odd', 'bool'), sides=st.sampled_from([0, 1, 2, 3, 4, 6])):
    "Tensors of few and odd shapes and numbers"
    shape = draw(st.lists(sides, min_size=dims[0], max_size=dims[1]))
    g = torch.Generator().manual_seed(draw(seeds))
    kind = draw(st.sampled_from(kinds))
    if kind == 'whole': return torch.randint(draw(st.sampled_from([-1, 0])), draw(st.sampled_from([1, 3, 6])), shape, generator=g)
    if kind == 'bool': return torch.rand(shape, generator=g) < .5
    x = torch.randn(shape, generator=g)
    if kind == 'float': return x*draw(st.sampled_from([1., 1e-8, 1e8])) if draw(st.booleans()) else x.sigmoid()
    return torch.where(torch.rand(shape, generator=g) < .2, draw(st.sampled_from([math.nan, math.inf, -math.inf, 0.])), x)

codes = tensors(dims=(2, 2), kinds=('whole', 'whole', 'whole', 'float'))
rows = tensors(dims=(2, 2), kinds=('float', 'float', 'odd', 'whole'))
flat = tensors(dims=(1, 1))
labels = st.one_of(st.none(), tensors(dims=(1, 1), kinds=('whole',)), st.lists(st.integers(-1, 4), max_size=6))

def fine(*values): return all(math.isfinite(v) for v in values)
def share(v): return -1e-6 <= v <= 1 + 1e-6

def same_counts(counts, tokens, V, pairs):
    "The sum over images and pairs, written out"
    expected = torch.zeros(V, V, dtype=torch.long)
    for row in tokens.tolist():
        for i, j in pairs.tolist(): expected[row[i], row[j]] += 1
    return counts.equal(expected)

def good_graphs(graphs, tokens, labels, V, C, grid, *rest):
    return all(g.edge_index.max() < V and g.edge_weight.isfinite().all() and g.edge_weight.min() >= 0 if g.kind == 'token' else
               not g.rows(check_labels(labels, len(tokens), C)).gather(-1, tokens.long()[..., None]).any() for _, g in graphs)

def good_sample(found, labels, sampler, steps, *rest): return found.shape == (len(labels), 16) and 0 <= found.min() and found.max() < 32
def good_plan(plan, name, steps, *rest): return len(plan) == steps and all(0 <= r <= 1 for r in plan.hidden_ratios) and fine(*plan.choice_temperatures, *plan.guidance_scales)

def graphs_of(tokens, labels, V, C, grid, ratio, k, neighbourhood, fidelity): return build_graphs(tokens, labels, V, C, grid, fidelity, ratio, k, neighbourhood)
def sampled(labels, sampler, steps, temperature, scale): return sample(MODEL, labels, sampler, steps, choice_temperature=temperature, guidance_scale=scale)
def smaller(backbone, dataset, scale): return scaled(make_preset(backbone, dataset, 'paper'), scale)
MODEL = model().eval()
grids = st.tuples(sizes, sizes)
triples = tensors(dims=(3, 3), kinds=('float', 'odd'))

FUNCTIONS = dict(
    grid_pairs=(grid_pairs, [sizes, sizes], lambda p, h, w: len(p) == sum(1 for a in range(h*w) for b in range(h*w) if a != b and abs(a//w - b//w) < 2 and abs(a%w - b%w) < 2)),
    sequence_pairs=(sequence_pairs, [sizes], lambda p, n: len(p) == 2*(n - 1)),
    all_pairs=(all_pairs, [sizes], lambda p, n: len(p) == n*(n - 1)),
    folded_grid=(folded_grid, [sizes], lambda g, n: g[0]*g[1] == n and g[0] <= g[1]),
    cooccurrence_counts=(cooccurrence_counts, [codes, sizes, tensors(dims=(2, 2), kinds=('whole',), sides=st.sampled_from([0, 2, 2, 3]))], same_counts),
    position_histogram=(position_histogram, [codes, sizes], lambda h, t, V: h.sum() == t.numel() and (h.sum(1) == torch.bincount(t.flatten(), minlength=V)).all()),
    position_distributions=(position_distributions, [tensors(dims=(2, 2)), words], lambda p, *_: p.isfinite().all() and torch.allclose(p.sum(1), torch.ones(len(p)).double())),
    js_divergence=(js_divergence, [tensors(dims=(2, 2)), words], lambda d, h, *_: d.isfinite().all() and torch.allclose(d, d.T) and 0 <= d.min() and d.max() <= math.log(2) + 1e-9),
    corpus_sample=(corpus_sample, [codes, labels, st.one_of(st.none(), sizes)], lambda s, t, l, n: len(s[0]) == (len(t) if n is None else n)),
    keep_largest=(keep_largest, [tensors(dims=(2, 2), kinds=('whole',)), numbers], lambda k, c, r: not k.diagonal().any() and (k & (c == 0)).sum() == 0),
    keep_smallest=(keep_smallest, [tensors(dims=(2, 2), kinds=('float',)), tensors(dims=(1, 1), kinds=('bool',)), sizes], lambda k, d, u, n: (k.sum(1) <= n).all() and not k.diagonal().any()),
    edge_count_normalise=(edge_count_normalise, [tensors(dims=(2, 2), kinds=('whole',), sides=st.sampled_from([2, 2, 3])), flat, sizes], lambda w, *_: w.isfinite().all()),
    token_graph=(TokenGraph, [tensors(dims=(2, 2), kinds=('whole',), sides=st.sampled_from([2, 2, 3])), flat, sizes], lambda g, *_: g.overlap(g) == 1),
    incompatibility=(IncompatibilityGraph.from_dense, [tensors(dims=(3, 3), kinds=('bool', 'bool', 'float'))], lambda g, d: g.dense().equal(d)),
    build_graphs=(graphs_of, [codes, labels, sizes, sizes, grids, numbers, sizes, st.sampled_from(['grid', 'folded', 'sequence', 'all', 'x']), words], good_graphs),
    half_split=(lambda t, l, V, C, g, r, k: half_split_agreement(t, l, GraphConfig(V, C, g, prune_ratio=r, top_k=k)), [codes, labels, sizes, sizes, grids, numbers, sizes], lambda f, *_: all(map(share, f.values()))),
    mask_laws=(lambda name, u: MASK_LAWS[name](u), [st.sampled_from([*MASK_LAWS, 'x']), tensors(kinds=('float',)).map(lambda u: u.sigmoid())], lambda r, *_: ((r >= -1e-6) & (r <= 1)).all()),
    mask_counts=(mask_counts, [tensors(dims=(1, 1), kinds=('float', 'odd', 'whole')), sizes], lambda c, r, n: ((c >= 1) & (c <= n)).all() and ((c - r*n).abs() <= 1).all()),
    random_mask=(random_mask, [tensors(dims=(1, 1), kinds=('whole',)), tensors(dims=(1, 1), kinds=('whole',)), sizes], lambda m, c, s, n: m.sum(1).equal(c)),
    masked_cross_entropy=(masked_cross_entropy, [triples, codes, tensors(dims=(2, 2), kinds=('bool',)), numbers, numbers, st.sampled_from(['mean', 'sum', 'x'])], lambda v, l, *_: v.isfinite() or v == math.inf and (l == -math.inf).any()),
    hidden_ratios=(hidden_ratios, [st.sampled_from([*SCHEDULES, 'x']), sizes, sizes], lambda r, s, n, t: len(r) == n and ((r > 0) & (r <= 1)).all() and (r.diff() <= 0).all()),
    guidance_ramp=(guidance_ramp, [numbers, st.sampled_from(['constant', 'linear', 'cosine', 'x']), sizes], lambda g, w, d, n: len(g) == n and g.isfinite().all()),
    plan=(lambda *v: DecodingPlan(*v), [st.lists(numbers, max_size=3).map(tuple)]*4, lambda p, *_: all(fine(*x) for x in vars(p).values())),
    make_plan=(lambda n, s, t, *o: make_plan(n, s, t, choice_temperature=o[0], guidance_scale=o[1]), [st.sampled_from(['maskgit', 'titok', 'autonat', 'x']), sizes, sizes, numbers, numbers], good_plan),
    draw_tokens=(draw_tokens, [triples, numbers, tensors(dims=(2, 2), kinds=('float',)).map(lambda u: u.sigmoid())], lambda t, l, *_: t.shape == l.shape[:2] and (t.numel() == 0 or 0 <= t.min() and t.max() < l.shape[2])),
    least_trusted=(least_trusted, [rows, tensors(dims=(1, 1), kinds=('whole',))], lambda m, c, n: m.sum(1).equal(n.clamp(0, c.shape[1]))),
    sample=(sampled, [st.one_of(tensors(dims=(1, 1), kinds=('whole', 'float')), st.lists(st.integers(-1, 5), max_size=3)), st.sampled_from(['maskgit', 'titok', 'x']), sizes, numbers, numbers], good_sample),
    feature_statistics=(feature_statistics, [rows], lambda s, x: torch.allclose(s[0], x.double().mean(0)) and torch.allclose(s[1], torch.atleast_2d(x.double().T.cov()), rtol=1e-4)),
    frechet_distance=(frechet_distance, [rows, rows], lambda d, a, b: fine(d) and d >= 0),
    kernel_distance=(kernel_distance, [rows, rows, sizes, sizes], lambda d, *_: fine(d)),
    inception_score=(inception_score, [rows, sizes, st.one_of(st.none(), sizes)], lambda s, x, *_: 1 - 1e-9 <= s <= x.shape[1] + 1e-6),
    precision_recall=(precision_recall, [rows, rows, sizes], lambda f, *_: all(map(share, f))),
    density_coverage=(density_coverage, [rows, rows, sizes], lambda f, *_: fine(*f) and share(f[1])),
    clip_mmd=(clip_mmd, [rows, rows, numbers], lambda d, *_: fine(d)),
    clip_scores=(clip_scores, [rows, rows], lambda s, *_: s.isfinite().all() and s.min() >= 0 and s.max() <= 100 + 1e-4),
    nll=(masked_nll_per_image, [triples, codes, tensors(dims=(2, 2), kinds=('bool',))], lambda v, *_: (v >= -1e-6).all()),
    ndcg=(ndcg_at_k, [triples, codes, tensors(dims=(2, 2), kinds=('bool',)), sizes], lambda v, *_: share(v)),
    top1=(top1_per_image, [triples, codes, tensors(dims=(2, 2), kinds=('bool',))], lambda v, *_: ((v >= 0) & (v <= 1)).all()),
    chance=(chance_ndcg, [sizes, sizes], lambda v, *_: share(v)),
    paired_difference=(paired_difference, [flat, flat], lambda d, a, b: fine(*d) and d[1] >= 0),
    psnr=(psnr, [tensors(dims=(3, 4), kinds=('float',)), tensors(dims=(3, 4), kinds=('float',))], lambda p, *_: not p.isnan().any()),
    make_preset=(make_preset, [st.sampled_from(['maskgit', 'autonat', 'titok', 'x', None, 3]), words, words, st.sampled_from([(), ('cooccurrence',), ('x',)]), words], lambda p, b, *_: p.backbone == b),
    scaled=(smaller, [st.sampled_from(['maskgit', 'maskgen', 'x']), st.sampled_from(['digits', 'imagenet']), words], lambda p, b, d, s: p.scale == s),
    uniform=(lambda s, n: uniform(s, n, shape=(3,)), [tensors(dims=(1, 1), kinds=('whole',)), seeds], lambda u, *_: ((u > 0) & (u < 1)).all()),
)

@pytest.mark.parametrize('examples', PROFILES)
@pytest.mark.parametrize('name', FUNCTIONS)
def test_odd_arguments(name, examples):
    function, drawn, right = FUNCTIONS[name]

    @settings(max_examples=2*examples, **HEALTHY)
    @given(st.tuples(*drawn))
    def call(arguments):
        try: found = function(*arguments)
        except CLEAR as e: clear(e)
        else: assert right(found, *arguments), f'{name}{arguments} gives {found}'
    call()
