"""Tokenizer and text tower against open_clip (`fixtures/README.md` says how its numbers were made)"""
import gzip, json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from kamig.core import data_dir
from kamig.text import BPETokenizer, load_text_tower, text_features
from made_up import captions, merges, weight

FIXTURE = np.load(Path(__file__).parent/'fixtures'/'text.npz')
TOLERANCE = 2e-4                                                        # at features of about 1, in float32

@pytest.fixture
def published_merges():
    "OpenAI's list of merges: in the data folder, or where open_clip is installed"
    open_clip = find_spec('open_clip')
    places = [data_dir(), *map(Path, open_clip.submodule_search_locations if open_clip else [])]
    found = [p/'bpe_simple_vocab_16e6.txt.gz' for p in places if (p/'bpe_simple_vocab_16e6.txt.gz').is_file()]
    if not found: pytest.skip(f'needs bpe_simple_vocab_16e6.txt.gz in {places[0]}')
    return found[0]

def small_tokenizer(folder):
    (folder/'merges.txt.gz').write_bytes(gzip.compress(merges().encode()))
    return BPETokenizer(folder/'merges.txt.gz', context_length=24)

def same_ids(tokenizer, known):
    "Every caption gives the ids of open_clip"
    texts = captions(len(known))
    found = tokenizer(texts).numpy()
    assert [t for t,a,b in zip(texts, found, known) if not np.array_equal(a, b)] == []
    assert (found[:,-1] == tokenizer.end).sum() > 10                    # some are cut off

def test_same_ids_with_made_up_merges(tmp_path): same_ids(small_tokenizer(tmp_path), FIXTURE['captions.small_ids'])

def test_same_ids_with_the_published_merges(published_merges, tmp_path):
    tokenizer = BPETokenizer(published_merges)
    assert (tokenizer.start, tokenizer.end, tokenizer.vocabulary) == (49406, 49407, 49408)
    same_ids(tokenizer, FIXTURE['captions.ids'])

def weights(size): return {k: torch.from_numpy(weight(k, s)) for k,s in json.loads(str(FIXTURE[f'{size}.layout'])).items()}

def difference(features, tag):
    "Largest difference at the places that were kept, relative to the spread of the values where it is above 1"
    worst = []
    for name,found in features._asdict().items():
        known = FIXTURE[f'{tag}.{name}']
        assert known.std() > .5
        worst.append(np.abs(found[tuple(torch.from_numpy(FIXTURE[f'{tag}.{name}.pick']).long())].numpy() - known).max()/max(1, known.std()))
    return max(worst)

@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
def test_small_tower(activation, tmp_path):
    ids = small_tokenizer(tmp_path)(captions(5))
    assert difference(text_features(load_text_tower(weights('small'), activation, num_heads=4), ids), f'small.{activation}') < TOLERANCE
    other = dict(quick_gelu='gelu', gelu='quick_gelu')[activation]
    assert difference(text_features(load_text_tower(weights('small'), other, num_heads=4), ids), f'small.{activation}') > 10*TOLERANCE

@pytest.mark.slow
def test_full_tower():
    "CLIP ViT-L/14-336"
    tower = load_text_tower(weights('full'))
    assert sum(p.numel() for p in tower.parameters()) == 123_650_304
    worst = difference(text_features(tower, torch.from_numpy(FIXTURE['captions.ids'][:3].astype(np.int64))), 'full')
    print(f'largest difference {worst:.1e}')
    assert worst < TOLERANCE
