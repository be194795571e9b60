from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scmimic as sm
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
    axes = panels(pl.training(history, keys="all", show=False))
    assert list(axes)[0] == "loss"
    assert set(axes) == {
        "loss", "negative ELBO", "loss step", "kl weight", "rec", "critic loss", "just two decades",
    }  # fmt: skip
    for title in ("negative ELBO", "loss"):
        assert [line.get_label() for line in axes[title].lines] == ["train", "validation"]
    np.testing.assert_array_equal(axes["negative ELBO"].lines[1].get_xydata(), [[0, 9.5], [1, 6], [2, 5]])
    np.testing.assert_array_equal(axes["kl weight"].lines[0].get_ydata(), [0, 0.5, 1])
    assert sum(len(ax.lines) for ax in axes.values()) == len(history)
    assert axes["loss step"].get_xlabel() == "step"
    assert axes["negative ELBO"].get_xlabel() == "epoch"
    # it falls, while `get_elbo()` is below 0
    assert axes["negative ELBO"].get_ylabel() == "−get_elbo(), nats"
    assert axes["rec"].get_ylabel() == "rec"


def test_logarithm_only_above_two_positive_decades(history):
    scales = {name: ax.get_yscale() for name, ax in panels(pl.training(history, show=False)).items()}
    assert {name for name, scale in scales.items() if scale == "log"} == {"rec"}


def test_what_hardly_changes_looks_level():
    noise = 0.01 * np.random.default_rng(0).normal(size=30)
    history = {
        "cell_type_loss_train": record("a", 8 + noise),
        "classifier_accuracy_train": record("a", 0.9 + noise),
        "elbo_train": record("a", 500 + noise),
        "critic_loss_train": record("a", -500 + noise),
        "kl_local_train": record("a", np.zeros(30) + (np.arange(30) == 3)),
        "wasserstein_train": record("a", noise),
        "reconstruction_loss_train": record("a", np.linspace(900.0, 500.0, 30)),
    }
    limits = {name: ax.get_ylim() for name, ax in panels(pl.training(history, show=False)).items()}
    # what is 0 at best, and shares, begin there
    assert limits["cell-type loss, $L_{CT}$"] == pytest.approx((0, 1.05 * (8 + noise.max())))
    assert limits["classifier accuracy"] == pytest.approx((0, 1.05 * (0.9 + noise.max())))
    assert limits["KL of the codes"] == (0, 1.05)
    # a fifth of the largest value, around the curve
    for name, center in (("negative ELBO", 500), ("critic loss", -500)):
        np.testing.assert_allclose(limits[name], (center - 50, center + 50), rtol=1e-4)
    # what changes fills its panel
    assert np.ptp(limits["Wasserstein estimate"]) == pytest.approx(1.1 * np.ptp(noise))
    assert np.ptp(limits["reconstruction loss"]) == pytest.approx(440)


def test_long_names_stay_within_their_panels():
    name = "a_very_long_name_of_a_loss_of_a_model"
    fig = pl.training({f"{name}_train": record("a", [1.0, 2.0])}, return_fig=True)
    fig.draw_without_rendering()
    (ax,) = fig.axes
    assert ax.get_title().replace("\n", " ") == name.replace("_", " ")
    assert fig.bbox.x0 <= ax.title.get_window_extent().x0 and ax.title.get_window_extent().x1 <= fig.bbox.x1
    assert ax.yaxis.label.get_window_extent().y1 <= fig.bbox.y1


def test_model_and_keys(history):
    model = SimpleNamespace(history=history)
    assert list(panels(pl.training(model, keys=["kl_weight", "elbo"], show=False))) == ["kl weight", "negative ELBO"]
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
    assert len(fig.axes) == 6
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


@pytest.fixture
def game():
    """Two trainings of an ACTIVA in a row: three epochs of warm-up and two of the game, and two and one."""
    played = pd.Index([3, 4, 7], name="epoch")
    of_game = {"kl_real": 3.0, "kl_reconstructed": 2.0, "kl_generated": 1.0, "loss_encoder": 9.0, "loss_generator": 8.0}
    history = {
        "train_loss_epoch": record("a", np.linspace(90.0, 9.0, 8)),
        "train_loss_step": record("a", np.linspace(90.0, 9.0, 8)),
        "elbo_train": record("a", np.linspace(90.0, 10.0, 8)),
        "kl_local_train": record("a", np.linspace(1.0, 3.0, 8)),
        "kl_global_train": record("a", np.zeros(8)),
        "kl_local_validation": record("a", np.linspace(2.0, 3.0, 8)),
        "reconstruction_loss_train": record("a", np.linspace(89.0, 7.0, 8)),
    }
    history |= {f"{name}_train": pd.DataFrame({"a": x - 0.1 * np.arange(3)}, played) for name, x in of_game.items()}
    return history | {"m_train": pd.DataFrame({"a": [5.0] * 3}, played)}


def test_panels_that_matter(game):
    axes = panels(pl.training(game, show=False))
    kl = "KL of the codes, $L_{REG}$"
    assert list(axes) == ["losses of the players", "negative ELBO", kl, "reconstruction loss, $L_{AE}$"]
    players = axes["losses of the players"]
    assert [text.get_text() for text in players.get_legend().get_texts()] == [
        "encoder, $L_{Enc}$", "generator, $L_{Gen}$", "end of the warm-up",
    ]  # fmt: skip
    np.testing.assert_allclose(players.lines[1].get_xydata(), [[3, 8], [4, 7.9], [7, 7.8]])
    assert [text.get_text() for text in axes[kl].get_legend().get_texts()] == [
        "real", "real, validation", "reconstructed", "generated", "hinge, $m$",
    ]  # fmt: skip
    # many names stand above all curves
    axes[kl].figure.draw_without_rendering()
    below = axes[kl].get_legend().get_window_extent().y0
    assert all(axes[kl].transData.transform(line.get_xydata())[:, 1].max() < below for line in axes[kl].lines[:5])
    # what began late stands where it began
    assert len({ax.get_xlim() for ax in axes.values()}) == 1
    assert all(ax.get_ylabel() for ax in axes.values())


def test_ends_of_warm_ups(game):
    for ax in pl.training(game, show=False):
        dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        assert dotted == [2.5, 6.5]
    without = {
        name: frame for name, frame in game.items() if name not in ("loss_encoder_train", "loss_generator_train")
    }
    assert not [line for ax in pl.training(without, show=False) for line in ax.lines if line.get_linestyle() == ":"]
    # a game from the first epoch on has no warm-up
    alone = {"elbo_train": record("a", [2.0, 1.0]), "loss_encoder_train": record("a", [3.0, 2.0])}
    assert not [line for ax in pl.training(alone, show=False) for line in ax.lines if line.get_linestyle() == ":"]


def test_a_player_alone_is_no_pair():
    history = {"critic_loss_train": record("a", [3.0, 1.0]), "kl_weight": record("a", [0.5])}
    assert list(panels(pl.training(history, show=False))) == ["critic loss"]
    pair = history | {"generator_loss_train": record("a", [1.0, 2.0])}
    assert list(panels(pl.training(pair, show=False))) == ["losses of the players"]
    assert list(panels(pl.training(pair, keys="all", show=False))) == ["critic loss", "kl weight", "generator loss"]


def test_nothing_changes():
    """A training that went nowhere is drawn all the same."""
    history = {"loss_train": record("a", [1.0, 1.0]), "kl_weight": record("a", [0.5])}
    assert list(panels(pl.training(history, show=False))) == ["loss", "kl weight"]


@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE", "WGANGP"])
def test_records_of_models_have_units(adata, name):
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    small = (
        {"n_hidden_generator": (8,), "n_hidden_critic": (8,)} if name == "WGANGP" else {"n_latent": 2, "n_hidden": (8,)}
    )
    model = cls(adata, **(small | ({"gene_likelihood": "nb"} if name == "BetaTCVAE" else {})))
    model.train(max_epochs=3, enable_progress_bar=False)
    for title, ax in panels(pl.training(model, show=False)).items():
        assert "_" not in title.replace("$L_{", "")
        assert ax.get_ylabel() and (title == "loss" or ax.get_ylabel() != title)
