from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scmimic.pl as pl


def record(name, values, index="epoch"):
    return pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name=index))


@pytest.fixture
def history():
    curves = {
        "elbo_train": [9.0, 5.0, 4.0],
        "elbo_validation": [9.5, 6.0, 5.0],
        "train_loss_step": [8.0, 7.0],
        "train_loss_epoch": [8.0, 4.0, 3.0],
        "validation_loss": [8.5, 5.0, 4.5],
        "kl_weight": [0.0, 0.5, 1.0],
        "rec_train": [1e5, 1e3, 10.0],
        "critic_loss_train": [-500.0, -3.0, 1.0],
        "just_two_decades_train": [100.0, 10.0, 1.0],
    }
    return {k: record(k, v, "step" if k.endswith("step") else "epoch") for k, v in curves.items()}


def panels(axes):
    return {ax.get_title(): ax for ax in axes}


def test_every_record_is_drawn_once_in_the_right_panel(history):
    axes = panels(pl.training(history, show=False))
    assert list(axes)[0] == "loss"
    assert set(axes) == {
        "loss", "elbo", "loss step", "kl weight", "rec", "critic loss", "just two decades",
    }  # fmt: skip
    assert [line.get_label() for line in axes["elbo"].lines] == ["train", "validation"]
    assert [line.get_label() for line in axes["loss"].lines] == ["train", "validation"]
    np.testing.assert_array_equal(axes["elbo"].lines[1].get_xydata(), [[0, 9.5], [1, 6], [2, 5]])
    np.testing.assert_array_equal(axes["kl weight"].lines[0].get_ydata(), [0, 0.5, 1])
    assert sum(len(ax.lines) for ax in axes.values()) == len(history)
    assert axes["loss step"].get_xlabel() == "step"
    assert axes["elbo"].get_xlabel() == "epoch"


def test_logarithm_only_above_two_positive_decades(history):
    scales = {name: ax.get_yscale() for name, ax in panels(pl.training(history, show=False)).items()}
    assert {name for name, scale in scales.items() if scale == "log"} == {"rec"}


def test_model_and_keys(history):
    model = SimpleNamespace(history=history)
    assert list(panels(pl.training(model, keys=["kl_weight", "elbo"], show=False))) == ["kl weight", "elbo"]
    assert list(panels(pl.training(model, keys="validation_loss", show=False))) == ["loss"]
    with pytest.raises(KeyError, match="nothing"):
        pl.training(model, keys="nothing")


def test_object_columns_gaps_and_single_epochs():
    history = {
        "a_train": record("a_train", [1.0, None, np.nan, "3"]).astype(object),
        "b_train": record("b_train", [2.0]),
        "empty": record("empty", [np.nan, np.inf]),
    }
    axes = panels(pl.training(history, show=False))
    assert set(axes) == {"a", "b"}
    np.testing.assert_array_equal(axes["a"].lines[0].get_xydata(), [[0, 1], [3, 3]])
    assert axes["b"].lines[0].get_marker() == "o"


def test_names_that_would_collide_keep_apart():
    history = {"loss_train": record("a", [1.0, 2.0]), "train_loss": record("b", [3.0, 4.0])}
    assert set(panels(pl.training(history, show=False))) == {"loss", "train loss"}


def test_layout_title_and_unchanged_history(history):
    before = {k: v.copy() for k, v in history.items()}
    fig = pl.training(history, n_cols=3, title="Run", return_fig=True)
    assert len(fig.axes) == 7
    assert fig.get_suptitle() == "Run"
    for name, frame in history.items():
        pd.testing.assert_frame_equal(frame, before[name])
    _, ax = plt.subplots()
    assert pl.training(history, keys="elbo", ax=ax, show=False) == [ax]


@pytest.mark.parametrize("nothing", [None, {}, SimpleNamespace(history=None), SimpleNamespace()])
def test_untrained(nothing):
    with pytest.raises(ValueError, match="train the model first"):
        pl.training(nothing)


def test_history_without_a_value():
    with pytest.raises(ValueError, match="no finite value"):
        pl.training({"a": record("a", [np.nan])})
