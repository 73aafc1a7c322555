"""Weights and captions that a public implementation and ours can both be given (see fixtures/README.md)"""
import zlib

import numpy as np

WORDS = ('a', 'an', 'the', 'photo', 'of', 'dog', 'airplane', "dog's", "don't", 'WE’LL', '“quoted”', 'red,', 'running;', '(brackets)', 'U.S.A.', '3', '1984', '12.5%', 'x2y', 'ﬁne', 'naïve', 'Ünïcode',
         'ſlow', '日本語', 'привет', 'İstanbul', '😀', '👩‍🚀', '&amp;', '&lt;b&gt;', '&amp;quot;', 'it&#39;s', 'schÃ¶n', 'â€œbrokenâ€\x9d', 'a_b', '--', '...', '!?!', '#tag', '@you', 'http://example.org/a?b=c', 'semi-final',
         "rock'n'roll", "'s", "O'Reilly's", '\t', '\n', '  ', '\u00a0', '½', '²', '①', '٣', 'ｆｕｌｌ', 'e\u0301', '\u200b', 'photorealistic', 'antidisestablishmentarianism', 'zzzzqqq', '<start>', '~', '`', '|', '\\', '{}', '€5')

def weight(key:str, shape)->np.ndarray:
    "The float32 tensor of a published name: matrices scaled by their rows' length, vectors near 0, those that scale near 1"
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) > 1: return noise/np.float32(shape[-1]**.5)
    return noise/np.float32(5) + np.float32(key.endswith('weight'))

def captions(number:int)->list[str]:
    "Rows of odd words, of lengths from 0 to beyond the context of CLIP"
    random = np.random.RandomState(0)
    return [''] + [' '.join(WORDS[i] for i in random.randint(len(WORDS), size=1 + random.randint(12) + 60*(n % 20 == 0))) for n in range(1, number)]

def merges()->str:
    "A list of merges in the published form: some pairs of letters, then some words from their beginnings on"
    pairs = [('i', 'n'), ('e', 'r'), ('a', 'n'), ('r', 'e'), ('o', 'n</w>'), ('in', 'g</w>'), ('.', '.'), ('..', '.</w>'), ('Ã', '¯'), ('i', 's')]
    for word in ('photo', 'dog', 'airplane', 'running', 'photorealistic', 'rock', 'don', 'the', 'quoted', '&', 'naïve'.replace('ï', 'Ã¯')):
        letters = [*word[:-1], word[-1] + '</w>']
        for end in range(1, len(letters)): pairs.append((''.join(letters[:end]), letters[end]))
    return '\n'.join(['"a made-up list"', *(f'{a} {b}' for a,b in dict.fromkeys(pairs))])
