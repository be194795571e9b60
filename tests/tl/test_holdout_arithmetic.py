import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
from learning import SEED
from lightning.pytorch.callbacks import Callback
from scipy.stats import spearmanr, wilcoxon
from sklearn.preprocessing import normalize

import scmimic as sm
from scmimic.tl._holdout_arithmetic import compare_methods
from scmimic.tl.holdout._trial import changed_genes

KEYS = {"group_key": "group", "condition_key": "condition", "log1p": False, "n_trees": 10}


@pytest.fixture
def positive(linear_world):
    """A world without negative expression, in which mean shifts in gene space are exact too."""

    def make(interaction=None):
        adata, model, codes = linear_world(interaction)
        # nothing is cut off at 0
        adata.X = adata.X + 20
        axes = model.axes
        model.get_latent_representation = lambda adata, return_dist=True: (
            (adata.X - 20) @ axes.T,
            np.full((adata.n_obs, 2), 0.01),
        )
        decode = model.decode

        def raised(z, seed=None):
            cells = decode(z)
            cells.X = cells.X + 20
            return cells

        model.decode = raised
        return adata, model

    return make


def test_additive_world(positive):
    adata, model = positive()
    seen = []

    def fit(train, seed):
        seen.append((set(zip(train.obs["group"], train.obs["condition"], strict=True)), seed))
        return model

    table = sm.tl.holdout_arithmetic(adata, **KEYS, fit=fit, control="control", seeds=[3], n_cells=100)
    # every drug and other combination of three groups, fitted without its own cells
    assert len(table) == 6 * 6
    targets = table[["group", "condition"]].drop_duplicates().itertuples(index=False, name=None)
    for target, (pairs, seed) in zip(targets, seen, strict=True):
        assert target not in pairs and len(pairs) == 8 and seed == 3
    by = table.groupby("method")
    exact = ["model", "model, mean codes", "mean shift", "mean shift, similar groups", "linear model"]
    assert (by["r2"].min()[exact] > 0.99).all()
    assert (by["correlation_change"].min()[exact] > 0.99).all()
    assert by["r2"].max()["control cells"] < 0.9
    assert by["rf_error"].max()["control cells"] < by["rf_error"].min()["mean shift"]
    assert table.loc[table["method"] == "mean shift", "rf_error"].min() > 15
    assert (table["error"] == "").all()
    stored = adata.uns["holdout_arithmetic"]
    assert (stored["params"]["min_cells"], stored["params"]["shift"]) == (30, "condition")
    against = stored["tests"].set_index(["method", "rival"]).loc[("model, mean codes", "control cells")]
    assert against["median_gain"] > 10
    # six gains, all above 0
    assert against["wilcoxon_p"] == pytest.approx(1 / 64)


HELD = [("A", "drug"), ("B", "other"), ("C", "drug")]


@pytest.mark.parametrize("shift", ["condition", "group"])
def test_combinations_held_out_together(positive, shift):
    """Each is predicted as if the cells of the others had never been measured, by every method."""
    adata, model = positive({("A", "drug"): [1, 0]})
    options = KEYS | {
        "shift": shift,
        "seeds": [3],
        "n_cells": 60,
        "vae": {"max_epochs": 1} if shift == "group" else False,
    }
    seen = []

    def fit(train, seed):
        seen.append((set(zip(train.obs["group"], train.obs["condition"], strict=True)), seed))
        return model

    table = sm.tl.holdout_arithmetic(adata, **options, fit=fit, targets=HELD, together=True)
    pairs = {(group, condition) for group in "ABC" for condition in ("control", "drug", "other")}
    assert seen == [(pairs - set(HELD), 3)]
    assert len(table) == 3 * (6 + (shift == "group")) and (table["error"] == "").all()
    assert adata.uns["holdout_arithmetic"]["params"]["together"]
    assert (adata.uns["holdout_arithmetic"]["tests"]["n"] == 3).all()
    left, _ = sm.pl.holdout_arithmetic(adata, show=False)
    assert len(left.collections[0].get_offsets()) == 3
    pair = list(zip(adata.obs["group"], adata.obs["condition"], strict=True))
    for target in HELD:
        without = adata[[one == target or one not in HELD for one in pair]].copy()
        alone = sm.tl.holdout_arithmetic(without, **options, fit=fit, targets=[target])
        rows = table[(table["group"] == target[0]) & (table["condition"] == target[1])].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows.drop(columns="seconds"), alone.drop(columns="seconds"))


def test_one_refusal_does_not_end_the_others(positive):
    adata, model = positive()

    def encode(cells, return_dist=True):
        if set(zip(cells.obs["group"], cells.obs["condition"], strict=True)) == {HELD[1]}:
            raise ValueError("not these")
        return (cells.X - 20) @ model.axes.T, np.full((cells.n_obs, 2), 0.01)

    model.get_latent_representation = encode
    options = {"fit": lambda train, seed: model, "targets": HELD, "together": True, "codes": ["mean"]}
    table = sm.tl.holdout_arithmetic(adata, **KEYS, **options)
    errors = table[table["method"] == "model, mean codes"]["error"].tolist()
    assert errors == ["", "ValueError: not these", ""]


def test_combinations_that_cannot_be_held_out_together(positive):
    adata, model = positive()

    def run(targets, **kwargs):
        fit = {"fit": lambda train, seed: model}
        sm.tl.holdout_arithmetic(adata, **KEYS, **fit, targets=targets, **{"together": True} | kwargs)

    with pytest.raises(ValueError, match="`together=True` needs `targets`"):
        run(None)
    with pytest.raises(ValueError, match="`targets` is empty"):
        run([])
    for together in (True, False):
        with pytest.raises(ValueError, match=r"\[\('A', 'drug'\)\] more than once"):
            run([("A", "drug"), ("B", "drug"), ("A", "drug")], together=together)
        with pytest.raises(ValueError, match="no cell has 'D'"):
            run([("A", "drug"), ("D", "drug")], together=together)
    with pytest.raises(ValueError, match=r"no cell of \['A'\] in `adata.obs\['group'\]` is left"):
        run([("A", "control"), ("A", "drug"), ("A", "other")])
    with pytest.raises(ValueError, match=r"no cell of \['drug'\] in `adata.obs\['condition'\]` is left"):
        run([("A", "drug"), ("B", "drug"), ("C", "drug")])
    # B under the drug is held out too
    with pytest.raises(ValueError, match="No jointly observed combination"):
        run([("A", "drug"), ("B", "drug")], reference_group="B")
    with pytest.raises(ValueError, match="`together` must be True or False"):
        run([("A", "drug")], together="yes")
    assert "holdout_arithmetic" not in adata.uns


def test_delta_entropy_follows_the_interaction(positive):
    adata, model = positive({("C", "other"): [0, 3]})
    table = sm.tl.holdout_arithmetic(
        adata,
        **KEYS,
        fit={"mine": lambda train, seed: model},
        targets=[("C", "other"), ("C", "drug")],
        control="control",
        codes=["mean"],
    )
    mine = table[table["method"] == "mine, mean codes"].set_index("condition")
    assert mine["delta_entropy"]["other"] > mine["delta_entropy"]["drug"] + 10
    assert mine["rf_error"]["other"] < mine["rf_error"]["drug"] - 10
    # wrong in the same way: A and B lack the interaction
    assert table.query("method == 'mean shift' and condition == 'other'")["r2"].item() < 0.9


def test_linear_model_is_least_squares_on_the_cells(positive):
    from scmimic.tl._combinations import Combinations
    from scmimic.tl.holdout._trial import HoldoutTrial

    adata, _ = positive({("B", "other"): [1, 1], ("A", "control"): [0, 2]})
    target = ("A", "drug")
    held = ((adata.obs["group"] == "A") & (adata.obs["condition"] == "drug")).to_numpy()
    train = adata[~held].copy()
    combinations = Combinations(train, "group", "condition")
    trial = HoldoutTrial(train.X, combinations, target, combinations.routes(target), adata.X[held])
    design = pd.get_dummies(train.obs, dtype=float)
    fitted = np.linalg.lstsq(design.to_numpy(), train.X, rcond=None)[0]
    expected = fitted[design.columns.get_loc("group_A")] + fitted[design.columns.get_loc("condition_drug")]
    np.testing.assert_allclose(trial._additive_mean(), expected)
    cells = trial.rival("linear model", 320, np.random.default_rng(0))
    np.testing.assert_allclose(cells.mean(axis=0), expected, rtol=1e-5)
    # cells of B under the drug, moved by the mean difference of A and B under the two other conditions
    trial = HoldoutTrial(train.X, combinations, target, combinations.routes(target, None, "B", "group"), adata.X[held])
    mean = {pair: train.X[rows].mean(axis=0) for pair, rows in combinations.rows.items()}
    step = np.mean([mean["A", c] - mean["B", c] for c in ("control", "other")], axis=0)
    cells = trial.rival("mean shift", 400, np.random.default_rng(0))
    np.testing.assert_allclose(cells.mean(axis=0), mean["B", "drug"] + step, rtol=1e-5)
    np.testing.assert_allclose(trial.control_mean, mean["B", "drug"])


def test_genes_that_change():
    rng = np.random.default_rng(0)
    control, real = rng.normal(size=(50, 5)), rng.normal(size=(60, 5)) + [0, 3, 0, -5, 0]
    real[:, 4] = control[:, 4].mean()
    control[:, 4] = control[:, 4].mean()
    assert list(changed_genes(control, real, 2)) == [3, 1]


def test_comparison_of_methods():
    rng = np.random.default_rng(1)
    rows = []
    for i in range(8):
        for seed in (0, 1):
            base = rng.uniform(0, 20)
            rows += [
                (f"g{i}", "c", seed, "model", base + i - 2, -float(i)),
                (f"g{i}", "c", seed, "control cells", base, np.nan),
            ]
    table = pd.DataFrame(rows, columns=["group", "condition", "seed", "method", "rf_error", "delta_entropy"])
    row = compare_methods(table).iloc[0]
    gain = np.arange(8) - 2
    assert row["median_gain"] == pytest.approx(1.5)
    assert row["wilcoxon_p"] == pytest.approx(wilcoxon(gain, alternative="greater").pvalue, abs=0.02)
    assert row["spearman"] == pytest.approx(spearmanr(-np.arange(8), gain).statistic)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, TypeError])
def test_what_is_done_outlives_a_stop(positive, caplog, stop):
    adata, model = positive()
    done = []

    def fit(train, seed):
        if len(done) == 2:
            raise stop
        done.append(seed)
        return model

    with pytest.raises(stop):
        sm.tl.holdout_arithmetic(adata, **KEYS, fit=fit, control="control", n_cells=30)
    stored = adata.uns["holdout_arithmetic"]
    assert len(stored["results"]) == 2 * 6
    assert len(stored["tests"]) and stored["params"]["n_cells"] == 30
    assert "12 rows so far" in caplog.text


class Interrupt(Callback):
    def on_train_epoch_end(self, *args):
        raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["model", "representation", "rival"])
def test_an_interrupted_training_ends_the_experiment(positive, place):
    adata, model = positive()
    halted = {"max_epochs": 3, "callbacks": [Interrupt()], "enable_progress_bar": False}

    def fit(train, seed):
        if place == "rival":
            return model
        sm.BetaTCVAE.setup_anndata(train)
        vae = sm.BetaTCVAE(train, n_hidden=(8,))
        vae.train(**halted)
        if place == "model":
            return vae
        gan = sm.MichiGAN.from_representation(vae, n_hidden_generator=(8,), n_hidden_critic=(8,))
        gan.train(1, enable_progress_bar=False)
        return gan

    options = {"targets": [("A", "drug")], "vae": halted if place == "rival" else False}
    with pytest.raises(KeyboardInterrupt, match="BetaTCVAE"):
        sm.tl.holdout_arithmetic(adata, **KEYS, fit=fit, **options)


def test_a_fit_that_fails_leaves_the_rivals(positive, tmp_path):
    adata, _ = positive()

    def fit(train, seed):
        raise ValueError("too few cells")

    table = sm.tl.holdout_arithmetic(adata, **KEYS, fit=fit, targets=[("A", "drug")], key_added="mine")
    failed = table["method"].str.startswith("model")
    assert set(table.loc[failed, "error"]) == {"ValueError: too few cells"}
    assert table.loc[failed, "rf_error"].isna().all() and table.loc[~failed, "rf_error"].notna().all()
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert len(ad.read_h5ad(tmp_path / "x.h5ad").uns["mine"]["results"]) == 6


def test_bad_input(positive):
    adata, model = positive()

    def run(**kwargs):
        sm.tl.holdout_arithmetic(adata, **KEYS | {"fit": lambda train, seed: model} | kwargs)

    with pytest.raises(ValueError, match="names .* are those of rivals"):
        run(fit={"mean shift": lambda train, seed: model})
    with pytest.raises(ValueError, match="must be a callable"):
        run(fit={})
    with pytest.raises(ValueError, match="`codes` must be"):
        run(codes=["median"])
    with pytest.raises(ValueError, match="has 160 cells"):
        run(targets=[("A", "drug")], min_cells=200)
    with pytest.raises(ValueError, match="No combination of"):
        run(min_cells=10_000)
    with pytest.raises(ValueError, match="at least 5"):
        run(min_cells=2)
    for name, values in {"n_trees": [0, 1.5], "n_cells": [3], "seeds": [[], [0, 0], [-1], [0.5]]}.items():
        for value in values:
            with pytest.raises(ValueError, match=f"`{name}`"):
                run(**{name: value})
    with pytest.raises(TypeError, match=r"`seeds=\[0\]`"):
        run(seeds=0)
    with pytest.raises(TypeError, match="`vae` must be True, False"):
        run(vae=1)
    assert "holdout_arithmetic" not in adata.uns


@pytest.fixture
def logged():
    """Counts, and log expression as a layer, of two groups under two conditions."""
    adata = sm.datasets.synthetic_counts(n_obs=400, n_vars=30, n_labels=2, n_batches=2, seed=0)
    adata.layers["log"] = (normalize(adata.X, norm="l1") * 1e4).log1p()
    return adata


SETTINGS = {
    "group_key": "cell_type",
    "condition_key": "batch",
    "targets": [("type_0", "batch_1")],
    "n_trees": 10,
    "seeds": [SEED],
}


def test_log_models_stand_beside_count_models(logged):
    """A model whose cells are the real ones of a layer is perfect in every unit that the layer may have."""
    x, held = logged.X, (logged.obs["cell_type"] == "type_0") & (logged.obs["batch"] == "batch_1")

    class Perfect:
        def __init__(self, layer, values):
            self.registry_, self.values = {"setup_args": {"layer": layer}}, values

        def get_latent_representation(self, adata):
            return adata.layers[self.layer] if self.layer else adata.X

        layer = property(lambda self: self.registry_["setup_args"]["layer"])

        def decode(self, z):
            rows = np.random.default_rng(0).choice(np.flatnonzero(held), len(z))
            return ad.AnnData(self.values[rows], var=logged.var[[]].copy())

    logged.layers["raw log"] = x.log1p()
    fits = {
        name: lambda train, seed, name=name, values=values: Perfect(name, values)
        for name, values in {None: x, "log": logged.layers["log"], "raw log": logged.layers["raw log"]}.items()
    }
    fits = {str(name): fit for name, fit in fits.items()}
    table = sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fits, codes=["mean"], layers=["log", "raw log"])
    scores = table.set_index("method")[["rf_error", "r2", "r2_de", "correlation_change"]]
    own = scores.loc["None, mean codes"]
    assert own["r2"] > 0.97
    for name in ("log", "raw log"):
        other = scores.loc[f"{name}, mean codes"]
        assert other["rf_error"] == pytest.approx(own["rf_error"], abs=5)
        np.testing.assert_allclose(other.to_numpy()[1:], own.to_numpy()[1:], rtol=1e-3)


def test_beta_tcvae_on_a_log_layer(logged, learned):
    def fit(train, seed):
        scvi.settings.seed = seed
        sm.BetaTCVAE.setup_anndata(train, layer="log")
        model = sm.BetaTCVAE(train, beta=0, n_latent=4, n_hidden=(16,), n_comps=None)
        model.train(40, batch_size=32, enable_progress_bar=False)
        return model

    table = sm.tl.holdout_arithmetic(logged, **SETTINGS, fit={"VAE": fit}, layers=["log"]).set_index("method")
    assert (table["error"] == "").all()
    # taken for counts, log expression has an R2 far below 0
    learned("R2", table["r2"]["VAE, mean codes"], above=0.5)


def test_a_model_of_logarithms_that_decodes_counts(logged):
    models = []

    def fit(train, seed):
        # the training cells are the same for both tables
        if models:
            return models[0]
        scvi.settings.seed = seed
        sm.BetaTCVAE.setup_anndata(train, layer="log")
        vae = sm.BetaTCVAE(train, n_latent=3, n_hidden=(16,))
        vae.train(10, enable_progress_bar=False)
        gan = sm.MichiGAN.from_representation(vae, n_hidden_generator=(16, 32), n_hidden_critic=(32, 16))
        gan.train(60, plan_kwargs={"lr": 1e-3}, n_faithfulness_cells=0, enable_progress_bar=False)
        models.append(gan)
        return gan

    tables = [
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit={"GAN": fit}, layers=["log"], codes=["mean"], **options)
        for options in ({}, {"decode_kwargs": {"as_counts": True}})
    ]
    values, counts = (table.set_index("method").loc["GAN, mean codes"] for table in tables)
    assert values["error"] == counts["error"] == ""
    # the same cells but for the noise of counts; taken for logarithms, counts are far from any cell
    assert counts["r2"] == pytest.approx(values["r2"], abs=0.3)


def test_mistakes_with_layers(logged):
    def fit(change):
        def make(train, seed):
            layer = change(train)
            sm.BetaTCVAE.setup_anndata(train, layer=layer)
            model = sm.BetaTCVAE(train, n_latent=2, n_hidden=(8,))
            model.train(1, enable_progress_bar=False)
            return model

        return make

    def in_place(train):
        train.X = train.X.log1p()

    def made(train):
        train.layers["mine"] = train.X.log1p()
        return "mine"

    with pytest.raises(ValueError, match="changed the values"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(in_place))
    with pytest.raises(ValueError, match="'mine', which its `fit` made"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(made))
    with pytest.raises(KeyError, match="'mine'"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(made), layers=["mine"])
    with pytest.raises(TypeError, match="`layers` must be a list"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(made), layers="log")
    with pytest.raises(ValueError, match="needs `log1p=True`"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(made), layers=["log"], log1p=False)
    logged.layers["scaled"] = logged.layers["log"].toarray() - 1.3
    with pytest.raises(ValueError, match="neither the values"):
        sm.tl.holdout_arithmetic(logged, **SETTINGS, fit=fit(made), layers=["scaled"])


@pytest.fixture
def stimulated():
    """Counts whose first five genes every type raises under the second condition."""
    adata = sm.datasets.synthetic_counts(n_obs=400, n_vars=40, n_labels=3, n_batches=2, seed=0)
    x = adata.X.toarray()
    x[np.ix_((adata.obs["batch"] == "batch_1").to_numpy(), range(5))] += 30
    adata.X = x
    return adata


def beside_a_vae(adata, **kwargs):
    def fit(train, seed):
        raise ValueError("no model of its own")

    table = sm.tl.holdout_arithmetic(adata, **SETTINGS, fit=fit, codes=["mean"], **kwargs)
    return table.set_index("method")


def test_arithmetic_in_a_vae(stimulated, learned):
    table = beside_a_vae(stimulated, vae={"max_epochs": 60})
    row = table.loc["VAE arithmetic"]
    learned("correlation of the change", row["correlation_change"], above=0.5)
    learned("R2 less that of control cells", row["r2"] - table.loc["control cells", "r2"], above=0)


def test_the_vae_is_a_rival(stimulated):
    before = scvi.settings.seed
    table = beside_a_vae(stimulated, vae={"max_epochs": 2})
    assert scvi.settings.seed == before
    assert list(table.index) == [
        "model, mean codes",
        "VAE arithmetic",
        "control cells",
        "mean shift",
        "mean shift, similar groups",
        "linear model",
    ]
    row = table.loc["VAE arithmetic"]
    assert row["seconds"] > 0
    # not a model that rivals are compared with
    assert stimulated.uns["holdout_arithmetic"]["tests"]["method"].unique().tolist() == ["model, mean codes"]
    assert "VAE arithmetic" in stimulated.uns["holdout_arithmetic"]["tests"]["rival"].tolist()
    again = beside_a_vae(stimulated, vae={"max_epochs": 2}).loc["VAE arithmetic"]
    assert row.drop("seconds").equals(again.drop("seconds"))
    assert "VAE arithmetic" not in beside_a_vae(stimulated).index
    with pytest.raises(TypeError, match="bank"):
        beside_a_vae(stimulated, vae={"plan_kwargs": {"bank": 1}})


def test_a_model_that_is_told_both_is_asked_for_the_combination():
    """ACTIVA with the condition among its covariates predicts without arithmetic; it has one row."""
    rng = np.random.default_rng(0)
    adata = sm.datasets.synthetic_counts(n_obs=900, n_vars=40, n_labels=3, seed=0)
    adata.obs["condition"] = rng.choice(["ctrl", "stim"], 900)
    rate = adata.X.toarray()
    rate[:, :8] *= np.where(adata.obs["condition"] == "stim", 8, 1)[:, None]
    adata.X = type(adata.X)(rng.poisson(rate).astype(np.float32))
    asked = []

    def fit(train, seed):
        scvi.settings.seed = seed
        sm.ACTIVA.setup_anndata(train, labels_key="cell_type", categorical_covariate_keys=["condition"])
        model = sm.ACTIVA(train, n_latent=4, n_hidden=(32,))
        model.train(100, enable_progress_bar=False)
        generate = model.generate
        model.generate = lambda *args, **options: asked.append((args, options)) or generate(*args, **options)
        return model

    keys = {"group_key": "cell_type", "condition_key": "condition", "control": "ctrl", "n_trees": 20}
    table = sm.tl.holdout_arithmetic(adata, **keys, fit={"ACTIVA": fit}, targets=[("type_1", "stim")])
    assert table["method"].tolist()[:3] == ["ACTIVA", "control cells", "mean shift"]
    (args, options), *_ = asked
    assert args[1] == "type_1" and options["covariates"] == {"condition": "stim"}
    own, control = (table.set_index("method")["r2"][name] for name in ("ACTIVA", "control cells"))
    assert own > control + 0.03
    assert np.isfinite(table["delta_entropy"][0])
