"""The notebooks, and the package written from them, keep the rules of `rules.py`"""
import pytest

from rules import NOTEBOOK_RULES, ROOT, Project

PROJECT = Project(ROOT)

def test_there_is_something_to_check():
    assert PROJECT.numbered and PROJECT.modules

@pytest.mark.parametrize('rule', NOTEBOOK_RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    if found := rule(PROJECT): pytest.fail('\n'.join((rule.__doc__, *found)), pytrace=False)
