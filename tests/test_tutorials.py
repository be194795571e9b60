import re
import warnings
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import scmimic as sm
from scmimic.train import KeepingTrainRunner

TUTORIALS = Path(__file__).parents[1] / "tutorials"


@pytest.mark.parametrize("name", sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem != "README"))
def test_the_code_of_a_tutorial_runs(name, tmp_path, monkeypatch):
    begin = KeepingTrainRunner.__init__

    def short(self, *args, max_epochs, **kwargs):
        begin(self, *args, max_epochs=2, **kwargs | {"enable_progress_bar": False})

    splat = sm.datasets.splat
    monkeypatch.setattr(KeepingTrainRunner, "__init__", short)
    monkeypatch.setattr(sm.datasets, "splat", lambda n_obs, n_vars, **kwargs: splat(500, 100, **kwargs))
    monkeypatch.setattr(sm.tl, "evaluate", partial(sm.tl.evaluate, n_trees=10))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (TUTORIALS / f"{name}.md").read_text(), re.DOTALL)
    assert blocks
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, f"{name}.md", "exec"), names)
            plt.close("all")
    assert all(model.is_trained_ for model in names.values() if isinstance(model, sm.ACTIVA | sm.MichiGAN))
