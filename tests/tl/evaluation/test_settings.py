"""One place for a setting: signatures, docstrings, checks and recorded parameters come from its description."""

import inspect
from typing import Annotated, Any

import numpydoc.docscrape
import pytest

import scmimic as sm
from scmimic._arguments import PROBABILITY
from scmimic.tl.evaluation._settings import Setting, Settings, complete, described, recorded, takes

FUNCTIONS = (sm.evaluate, sm.tl.evaluate, sm.report)


class Wider(Settings, total=False):
    """The settings, and one more."""

    doubt: Annotated[float, Setting(0.25, PROBABILITY, "How much to doubt.")]


def test_one_more_setting_is_written_once():
    @takes(Wider)
    def tool(adata: int, synthetic: int, *, key_added: str = "x", **settings: Any) -> None:
        """Do something.

        Parameters
        ----------
        adata
            Cells.
        synthetic
            More.
        **settings
            Of the evaluation,
            in two lines.
        key_added
            Key.
        """

    parameters = inspect.signature(tool).parameters
    assert list(parameters) == ["adata", "synthetic", *described(Settings), "doubt", "key_added"]
    assert parameters["doubt"].default == 0.25
    assert parameters["doubt"].annotation == "float"
    assert parameters["doubt"].kind is inspect.Parameter.KEYWORD_ONLY
    documented = numpydoc.docscrape.FunctionDoc(tool)["Parameters"]
    assert [entry.name for entry in documented] == list(parameters)
    assert documented[-2].desc == ["How much to doubt."]
    settings = complete({"doubt": 0.5}, Wider)
    assert recorded(settings, Wider)["doubt"] == 0.5
    with pytest.raises(ValueError, match="`doubt` must be"):
        complete({"doubt": 2}, Wider)
    with pytest.raises(TypeError, match=r"does not take `doubts`: is `doubt` meant\?"):
        complete({"doubts": 0.5}, Wider)


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
