"""Version, dependencies, pins and every text file keep the rules of `rules.py`"""
import pytest

from rules import PACKAGE_RULES, ROOT, Project

PROJECT = Project(ROOT)

@pytest.mark.parametrize('rule', PACKAGE_RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    if found := rule(PROJECT): pytest.fail('\n'.join((rule.__doc__, *found)), pytrace=False)
