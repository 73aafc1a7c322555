"""Scale `paper`: published weights take the place of training. Small weights in the published layouts, a folder laid out like ImageNet"""
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kamig.evaluation import to_uint8
from kamig.experiment import Experiment, samples
from kamig.loop import FitConfig
from kamig.presets import make_preset
from kamig.text import TextCondition
from kamig.tokenizers import VQConfig
from made_up import merges
from made_up import weight as text_weight
from test_maskgen import FIXTURE as MASKGEN
from test_released import fixture, weight
from test_released_titok import weights as titok_weights
from test_released_tokenizers import save, weights
from test_text import FIXTURE as TEXT


@pytest.fixture
def data(tmp_path, monkeypatch):
    "An ImageNet of two classes with four training images each"
    monkeypatch.setenv('KAMIG_DATA', str(tmp_path))
    random = np.random.default_rng(0)
    for split,number in (('train', 4), ('val', 1)):
        for wnid in ('n01440764', 'n01443537'):
            for i in range(number):
                path = tmp_path/'imagenet'/split/wnid/f'{i}.JPEG'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (8, 9, 3), dtype=np.uint8)).resize((288, 256)).save(path)
    (tmp_path/'weights').mkdir()
    return tmp_path


def autonat(codes, positions, classes):
    "The state dict of a small AutoNAT"
    _,state = fixture('autonat')
    sizes = {'token_emb.word_embeddings.weight': (codes+1, 32), 'token_emb.position_embeddings.weight': (positions, 32), 'context_embed.word_embeddings.weight': (classes+1, 32), 'mlm_layer.bias': (1, 1, codes+1)}
    return state | {k: weight(k, shape) for k,shape in sizes.items()}


def small(preset):
    "The preset with a fine-tune of two steps and four samples"
    fit = FitConfig(2, 4, 1e-3)
    return replace(preset, finetune=fit, evaluation=replace(preset.evaluation, num_samples=4, feature_fit=fit))


def test_published_weights_are_used(data):
    save('mage-vqgan', weights('mage-vqgan', 'small'), data/'weights'/'vqgan_jax_strongaug.ckpt')
    torch.save(autonat(64, 256, 2), data/'weights'/'nnet_ema.pth')
    experiment = Experiment(small(make_preset('autonat', 'imagenet', 'paper')))
    assert experiment.name == 'imagenet-autonat-paper-seed0'
    backbone,tokenizer = experiment.arm('backbone').module,experiment.tokenizer.module
    assert (backbone.codebook_size, backbone.seq_len, backbone.num_classes, backbone.depth) == (64, 256, 2, 5) and tokenizer.grid == (16, 16)
    assert backbone.state_dict()['tokens.words.weight'].equal(weight('token_emb.word_embeddings.weight', (65, 32)))
    tokens = experiment.tokens('train')
    assert tokens.tokens.shape == (8, 256) and len(np.unique(tokens.tokens)) > 15
    ka = experiment.arm('ka').module
    assert ka.backbone.state_dict()['tokens.words.weight'].equal(backbone.state_dict()['tokens.words.weight']) and any(p.any() for p in ka.fusion.token_convs.parameters())
    assert samples(experiment, 'ka').shape == (4, 3, 256, 256)
    again = Experiment(small(make_preset('autonat', 'imagenet', 'paper')))
    assert again.arm('ka').folder == experiment.arm('ka').folder and to_uint8(again.tokenizer.module.decode(torch.zeros(1, 256).long())).shape == (1, 3, 256, 256)


def resized(layout, sizes):
    "Made-up tensors of a layout in which some numbers stand for others"
    return {k: torch.from_numpy(text_weight(k, tuple(sizes.get(n, n) for n in shape))) for k,shape in json.loads(str(layout)).items()}


def test_text_is_read_by_the_published_tower(data):
    "MaskGen: CLIP's text tower, a tokenizer whose decoder is guided by text, sentences about the classes"
    folder = data/'weights'
    tower = resized(TEXT['small.layout'], {32: 768, 96: 3*768, 128: 4*768, 20: 768, 24: 77})
    maskgen = resized(MASKGEN['small.layout'], {20: 768, 276: 768 + 256, 12: 128, 24 + 1002: 1024 + 1002})
    torch.save({k: v for k,v in tower.items() if 'resblocks' not in k or 'resblocks.0' in k}, folder/'ViT-L-14-336px.pt')
    torch.save(maskgen | {'lm_head.weight': maskgen['embeddings.weight']}, folder/'maskgen_vq_l.bin')
    torch.save(titok_weights('tatitok-bl128', 'small'), folder/'tatitok_bl128_vq.bin')
    (folder/'bpe_simple_vocab_16e6.txt.gz').write_bytes(gzip.compress(merges().encode()))
    preset = make_preset('maskgen', 'imagenet', 'paper')
    experiment = Experiment(small(replace(preset, tokenizer=VQConfig(32, 16), sampler=replace(preset.sampler, num_steps=2))))
    condition = experiment.condition(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert isinstance(condition, TextCondition) and condition.states.shape == (2, 77, 768) and not condition.states[0].equal(condition.states[1])
    assert (experiment.tokens('train').codebook_size, experiment.tokens('train').seq_len) == (1024, 128)
    assert sorted(n for n,_ in experiment.arm('ka').module.graphs) == ['cooccurrence', 'similarity']
    assert samples(experiment, 'ka').shape == (4, 3, 32, 32)


@pytest.mark.parametrize('backbone, files', [('maskgit', 2), ('autonat', 2), ('titok', 2), ('titok-uvit', 2), ('maskgen', 4)])
def test_missing_files_are_all_named_at_once(data, backbone, files):
    with pytest.raises(FileNotFoundError) as e: Experiment(make_preset(backbone, 'imagenet', 'paper'))
    assert str(e.value).count('kamig.downloads.download(') == files and len(str(e.value).split('\n')) == 1
    assert not (data/'cache').exists()                                    # nothing was begun
