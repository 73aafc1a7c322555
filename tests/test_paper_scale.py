"""Scale `paper`: published weights take the place of training. Small weights in the published layouts, a folder laid out like ImageNet"""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kamig.evaluation import to_uint8
from kamig.experiment import Experiment, samples
from kamig.loop import FitConfig
from kamig.presets import make_preset
from test_released import fixture, weight
from test_released_tokenizers import save, weights


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


@pytest.mark.parametrize('backbone, files', [('maskgit', 2), ('autonat', 2), ('titok', 2), ('titok-uvit', 2), ('maskgen', 4)])
def test_missing_files_are_all_named_at_once(data, backbone, files):
    with pytest.raises(FileNotFoundError) as e: Experiment(make_preset(backbone, 'imagenet', 'paper'))
    assert str(e.value).count('kamig.downloads.download(') == files and len(str(e.value).split('\n')) == 1
    assert not (data/'cache').exists()                                    # nothing was begun
