"""Full disks, folders that may not be written, damaged files, numbers that run away, too little memory, a second run: one clear sentence each"""
import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import kamig.core
import kamig.tokens
import long_jobs
import small_trainings
from kamig.core import save_tensors, write_json
from kamig.evaluation import sample_images, write_adm_samples
from kamig.features import cached_features
from kamig.loop import FitConfig, fit
from kamig.material import cached_facts, cached_stage
from kamig.model import save_model
from kamig.scoring import kept_images, write_npz, write_reference
from kamig.tokens import save_tokens, tokenize
from small_files import KINDS, LABELS, PIXELS, TOKENS, content, eye, graphs, model


def sentence(error, path):
    "The message, if it is one sentence that names the file"
    text = str(error.value if hasattr(error, 'value') else error)
    assert '\n' not in text and str(path) in text and len(text) < 1000, text
    return text


# ---------------------------------------------------------------- a full disk, a folder that may not be written
@contextmanager
def small_disk(size=3000):
    "No file may grow beyond `size` bytes"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)

def trained(folder):
    torch.manual_seed(0)
    net = torch.nn.Linear(40, 40)
    fit(net, lambda x: net(x).square().mean(), lambda step: torch.full((2, 40), step/9.), FitConfig(12, 2, 1e-2, checkpoint_every=4, precision='fp32'), folder=folder)
    return net

def cached(folder): return cached_features(eye(), long_jobs.pictures(700), folder/'features').pool

WRITERS = dict(
    tensors=lambda d: save_tensors(d/'t.safetensors', dict(w=torch.zeros(2000)), 'weights'),
    json=lambda d: write_json(d/'r.json', list(range(3000))),
    graphs=lambda d: graphs().save(d/'g.safetensors'),
    model=lambda d: save_model(d/'m.safetensors', model()),
    pretrained=lambda d: model().save_pretrained(d/'hub'),
    npz=lambda d: write_npz(d/'s.npz', long_jobs.pictures(100)),
    samples=lambda d: write_adm_samples(d/'a.npz', long_jobs.pictures(100).pixels),
    parts=lambda d: kept_images(lambda at: PIXELS[at % 6], 40, d/'parts', part=20).batch(torch.arange(40)),
    tokens=lambda d: save_tokens(d/'cache', TOKENS.repeat(40, 0), LABELS.repeat(40), 32, (4, 4), list('abcd')).all(),
    tokenizing=lambda d: tokenize(long_jobs.pictures(300), long_jobs.vq(), d/'tokens', batch_size=2).all(),
    features=cached,
    reference=lambda d: write_reference(d/'r.safetensors', eye(), long_jobs.pictures(700), folder=d/'features'),
    training=trained,
)

@pytest.mark.parametrize('name', WRITERS)
def test_full_disk(name, tmp_path):
    "It is said which file had no room, nothing half-written stays, and with room the same call succeeds"
    with small_disk(), pytest.raises(OSError) as refused: WRITERS[name](tmp_path)
    assert 'cannot be written: it would be larger than files may be here' in sentence(refused, tmp_path) or 'cannot be written: the disk is full' in str(refused.value)
    assert not list(tmp_path.rglob('*.part'))
    if name == 'tokens': (tmp_path/'cache').rmdir()                         # `save_tokens` asks for a folder that is not there yet
    again, found = tmp_path/'with room', WRITERS[name](tmp_path)
    again.mkdir()
    if not isinstance(found, (str, os.PathLike)): assert content(found) == content(WRITERS[name](again))

@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize('name', [n for n in WRITERS if n != 'tokenizing'])
def test_folder_that_may_not_be_written(name, number, tmp_path, monkeypatch):
    "The superuser may write anywhere, so the operating system's answer is played"
    def refuse(path, **_): raise OSError(number, os.strerror(number), str(path))
    monkeypatch.setattr(Path, 'touch', refuse)
    with pytest.raises(OSError) as refused: WRITERS[name](tmp_path)
    assert refused.value.errno == number and 'make room or choose another place' in sentence(refused, tmp_path)

def test_what_is_complete_is_read_where_nothing_may_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv('KAMIG_DATA', str(tmp_path))
    def work():
        stage = cached_stage('line', [1], lambda folder: (torch.nn.Linear(2, 2), None), lambda p, m: save_tensors(p, m.state_dict(), 'line'), lambda p: torch.nn.Linear(2, 2))
        return tokenize(long_jobs.pictures(20), long_jobs.vq(), tmp_path/'tokens').all(), cached_facts('facts', [1], lambda: dict(n=1)), stage.about
    expected = work()
    def refuse(path): raise PermissionError(errno.EACCES, 'Permission denied', str(path))
    for module in (kamig.tokens, kamig.material): monkeypatch.setattr(module, 'locked', refuse)
    assert content(work()) == content(expected)


# ---------------------------------------------------------------- damaged files
def check_spoiled(kind, folder, whole):
    "A spoiled file is refused in one sentence; or what was spoiled says nothing (a picture may do without its last byte)"
    try: found = content(kind.read(folder))
    except (ValueError, FileNotFoundError) as e: return sentence(e, folder)
    assert found == whole

@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files(kind, tmp_path):
    "Nothing, half, emptied, something else: refused in a sentence with the file's name; whole again: read again"
    kind = KINDS[kind]
    kind.write(tmp_path)
    path, whole = tmp_path/kind.name, content(kind.read(tmp_path))
    good = path.read_bytes()
    for bad in (good[:len(good)//2], b'', b'\x93NUMPY something else', b'<html><title>Not found</title></html>', good[:-1]):
        path.write_bytes(bad)
        check_spoiled(kind, tmp_path, whole)
    if kind.checksum:
        path.write_bytes(good[:-40] + bytes([good[-40] ^ 1]) + good[-39:])
        check_spoiled(kind, tmp_path, whole)
    path.unlink()
    with pytest.raises((FileNotFoundError, ValueError)) as missing: kind.read(tmp_path)
    sentence(missing, tmp_path)
    path.write_bytes(good)
    assert content(kind.read(tmp_path)) == whole

def test_damaged_parts_say_what_to_do(tmp_path):
    cached(tmp_path)
    part = sorted((tmp_path/'features').glob('*/*.safetensors'))[0]
    part.write_bytes(part.read_bytes()[:-3] + b'xyz')
    with pytest.raises(ValueError, match='remove it and make it again'): cached(tmp_path)
    part.unlink()
    cached(tmp_path)
    images = kept_images(lambda at: PIXELS[at % 6], 40, tmp_path/'parts', part=20)
    path = images.parts[1].path
    path.write_bytes(path.read_bytes().replace(PIXELS[2].permute(1, 2, 0).numpy().tobytes(), bytes(192)))
    with pytest.raises(ValueError, match='Bad CRC-32.*remove it, and make or fetch it again'): kept_images(lambda at: 1/0, 40, tmp_path/'parts', part=20).batch(torch.tensor([30]))
    path.unlink()
    assert kept_images(lambda at: PIXELS[at % 6], 40, tmp_path/'parts', part=20).batch(torch.tensor([30])).equal(PIXELS[[0]])


# ---------------------------------------------------------------- trainings: damaged checkpoints, numbers that run away
class Stopped(Exception): "The training is cut off"

class Fault:
    "A loss that is handed on until the call of this number, and then spoiled"
    def __init__(self, call, spoil): self.call, self.spoil, self.calls = call, spoil, 0

    def __call__(self, loss):
        self.calls += 1
        return self.spoil(loss) if self.calls == self.call else loss

def stop(loss): raise Stopped

def no_number(loss): return loss*float('nan')

def steep(loss): return loss + (loss - loss).sqrt()              # the same loss, but with the gradient inf - inf: the weights of the next step are no numbers

def checkpoint_of(folder, way): return sorted(p for p in folder.rglob('checkpoint.pt') if way != 'arm' or p.parent.name.startswith('ka-'))[0]

def files(folder): return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file() and '.lock' not in p.name}

@pytest.fixture(autouse=True)
def own_data(monkeypatch):
    monkeypatch.setenv('KAMIG_DATA', '')                                # and back, whatever a training sets

@pytest.mark.parametrize('way', small_trainings.WAYS)
def test_damaged_checkpoint(way, tmp_path):
    "Half of it, or one bit turned: refused by its name, nothing else is touched; whole again, the training goes on to the same end"
    whole, cut = tmp_path/'whole', tmp_path/'cut'
    for folder in (whole, cut): folder.mkdir()
    expected = content(small_trainings.result(way, whole))
    with pytest.raises(Stopped): small_trainings.result(way, cut, Fault(10, stop))
    path = checkpoint_of(cut, way)
    good = path.read_bytes()
    at = len(good)//2
    for bad in (good[:at], good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]):
        path.write_bytes(bad)
        before = files(cut)
        with pytest.raises(ValueError) as refused: small_trainings.result(way, cut)
        assert 'is damaged or no checkpoint' in sentence(refused, path) and 'remove it to train from the start' in str(refused.value)
        assert files(cut) == before
    path.write_bytes(good)
    assert content(small_trainings.result(way, cut, again := Fault(99, stop))) == expected
    assert again.calls == 4                                             # steps 9 to 12

@pytest.mark.parametrize('call, spoil, what, good', [(4, no_number, 'the loss is nan near step 4 of 12', 0), (8, steep, 'the weights are not finite near step 8 of 12', 4),
                                                     (10, no_number, 'the loss is nan near step 12 of 12', 8)])
@pytest.mark.parametrize('way', small_trainings.WAYS)
def test_numbers_that_run_away(way, call, spoil, what, good, tmp_path):
    "Where the training was is said, and which checkpoint is good; and from there it goes on as if nothing had been"
    whole, cut = tmp_path/'whole', tmp_path/'cut'
    for folder in (whole, cut): folder.mkdir()
    expected = content(small_trainings.result(way, whole))
    with pytest.raises(FloatingPointError) as stopped: small_trainings.result(way, cut, Fault(call, spoil))
    assert not list(cut.rglob('ka-*/weights.safetensors')) and not list(cut.rglob('map-*/weights.safetensors'))
    assert what in str(stopped.value)
    if good:
        state = torch.load(path := checkpoint_of(cut, way), weights_only=True)
        assert f'the last good checkpoint is {path}' in sentence(stopped, path)
        assert state['step'] == good and all(t.isfinite().all() for kept in ('module', 'average') for t in state[kept].values())
    else: assert 'no checkpoint has been written yet' in str(stopped.value)
    assert content(small_trainings.result(way, cut, again := Fault(99, stop))) == expected
    assert again.calls == 12 - good


# ---------------------------------------------------------------- memory
def greedy(limit):
    "A network that has memory for `limit` images"
    class Greedy(type(eye().network)):
        def forward(self, images):
            if len(images) > limit: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB')
            return super().forward(images)
    torch.manual_seed(0)
    return Greedy(3, 4, 4).eval()

def test_out_of_memory_names_the_batch_size_to_try(tmp_path):
    extractor = eye()
    expected = extractor(PIXELS).pool
    extractor.network = greedy(3)
    for look in (lambda n: extractor(PIXELS, n), lambda n: cached_features(extractor, long_jobs.pictures(6), tmp_path, n)):
        with pytest.raises(torch.OutOfMemoryError, match='computing features at batch_size 6 does not fit into memory: try batch_size 3'): look(6)
        assert torch.allclose(look(3).pool, expected)
    generator, tokenizer = model().eval(), long_jobs.vq()
    def decode(ids): raise torch.OutOfMemoryError('CUDA out of memory')
    tokenizer.decode = decode
    with pytest.raises(torch.OutOfMemoryError, match='sampling at batch_size 4 does not fit into memory: try batch_size 2'):
        sample_images(generator, tokenizer, torch.arange(4), torch.arange(4), 4, num_steps=2)


# ---------------------------------------------------------------- two runs in one place
HOLD = 'import sys, time; from kamig.core import claim; kept = claim(sys.argv[1]); print("mine", flush=True); time.sleep(100)'

def test_a_second_run_is_refused_and_a_killed_one_leaves_the_place(tmp_path):
    place = tmp_path/'results, mine'
    first = subprocess.Popen([sys.executable, '-c', HOLD, place], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == 'mine\n'
    with pytest.raises(ValueError, match='another run is writing to .*results, mine: wait for its end, or choose another folder'): kamig.core.claim(place)
    first.kill()
    first.communicate()
    kamig.core.claim(place).lock.release()

def start(way, folder):
    "A training that does a step for each line it is sent"
    return subprocess.Popen([sys.executable, small_trainings.__file__, way, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def end(run, folder):
    "What it came to"
    error = run.communicate('\n'*12)[1]
    assert run.returncode == 0, error
    return content(torch.load(f'{folder} of {run.pid}.pt', weights_only=True))

def test_a_second_fit_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path):
    expected = content(small_trainings.result('fit', tmp_path/'whole'))
    first = start('fit', tmp_path/'run')
    assert first.stdout.readline() == 'at work\n'
    with pytest.raises(ValueError, match='another run is writing to .*run: wait for its end, or choose another folder'): small_trainings.result('fit', tmp_path/'run')
    assert end(first, tmp_path/'run') == expected == content(small_trainings.result('fit', tmp_path/'run'))

def test_a_second_run_of_the_same_stage_waits_and_reads(tmp_path):
    expected = content(small_trainings.result('cached_stage', tmp_path/'whole'))
    first = start('cached_stage', tmp_path/'run')
    assert first.stdout.readline() == 'at work\n'
    second = start('cached_stage', tmp_path/'run')
    with pytest.raises(subprocess.TimeoutExpired): second.wait(6)
    assert end(first, tmp_path/'run') == expected
    assert second.stdout.read() == '' and end(second, tmp_path/'run') == expected       # it was never at work
