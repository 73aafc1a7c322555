"""What a program sees of the package: the names at its top, what they load, their types"""
import ast
import json
import subprocess
import sys

import pytest

import kamig
from rules import ROOT

LAZY = ('torch', 'numpy', 'pandas', 'matplotlib', 'torchvision', 'torch_fidelity', 'sklearn', 'huggingface_hub')   # not by `import kamig`
HEAVY = ('pandas', 'matplotlib', 'torchvision', 'torch_fidelity', 'sklearn', 'papermill', 'IPython', 'wandb')     # not by any public name


def in_a_fresh_interpreter(program):
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_is_light():
    loaded = in_a_fresh_interpreter(f'import sys, json, kamig; print(json.dumps([m for m in {LAZY} if m in sys.modules]))')
    assert loaded == []


def test_names_leave_heavy_libraries_alone():
    loaded = in_a_fresh_interpreter(f'import sys, json\nfrom kamig import *\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))')
    assert loaded == []


def test_type_checkers_see_the_same_names():
    branch = next(n for n in ast.parse((ROOT/'kamig'/'__init__.py').read_text()).body if isinstance(n, ast.If))
    seen = {a.name: n.module for n in branch.body for a in n.names}
    assert sorted(seen) == sorted(kamig.__all__)
    assert {name: f'kamig.{kamig._HOME[name]}' for name in seen} == seen


def test_every_name_is_documented_and_typed():
    for name in kamig.__all__:
        value = getattr(kamig, name)
        assert value.__doc__, name
        if not isinstance(value, type): assert 'return' in value.__annotations__ or name == 'records_frame', name
    assert set(kamig.__all__) <= set(dir(kamig)) and '__version__' in dir(kamig)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'kamig' has no attribute 'build_graph'"): kamig.build_graph
    with pytest.raises(ImportError): from kamig import build_graph  # noqa: F401


def test_typed_programs_check():
    pytest.importorskip('mypy', reason='mypy is not installed')
    assert (ROOT/'kamig'/'py.typed').exists()
    done = subprocess.run([sys.executable, '-m', 'mypy'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
