"""Every error crosses processes, so every error pickles, with what it says."""

from __future__ import annotations

import importlib
import pickle
import pkgutil

import pytest

import graphs
import models
import service
import workers
from models.errors import VeridaskError


def all_errors() -> list[type[VeridaskError]]:
    for package in (models, workers, graphs, service):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith(("errors", "aamva")):
                importlib.import_module(info.name)
    found: list[type[VeridaskError]] = [VeridaskError]
    for error in found:
        found += [sub for sub in error.__subclasses__() if sub not in found]
    return found


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_pickles(error: type[VeridaskError]) -> None:
    original = error("what happened")
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301
    assert type(copy) is error
    assert copy.detail == original.detail
    assert copy.code == error.code
    assert str(copy) == str(original) != ""


def test_the_tree_has_its_branches() -> None:
    names = {error.__name__ for error in all_errors()}
    assert {"MediaError", "WeightsError", "ClusterError", "ProfileError", "UntestedBuildError"} <= names
