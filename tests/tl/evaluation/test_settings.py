"""One place for a setting: signatures, docstrings, checks and recorded parameters come from its description."""

import inspect

import numpydoc.docscrape
import pytest

import scmimic as sm
from scmimic.tl.evaluation._settings import Settings, complete, described, recorded

FUNCTIONS = (sm.evaluate, sm.tl.evaluate, sm.report)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_have_every_setting(function):
    parameters = inspect.signature(function).parameters
    documented = {entry.name: entry.desc for entry in numpydoc.docscrape.FunctionDoc(function)["Parameters"]}
    assert list(documented) == list(parameters)
    for name, (_, setting) in described(Settings).items():
        assert parameters[name].default == setting.default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert " ".join(documented[name]) == setting.meaning


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unknown_settings_are_named(function, adata):
    with pytest.raises(TypeError, match=r"does not take `n_tree`: is `n_trees` meant\?"):
        function(adata, adata, n_tree=5)


def test_cells_are_not_recorded():
    cells = sm.datasets.synthetic_counts(n_obs=20, n_vars=5)
    settings = recorded(complete({"train": cells, "baselines": {"mine": cells}}))
    assert settings["baselines"] == ["mine"]
    assert not set(settings) & {"train", "reference", "n_jobs"}
