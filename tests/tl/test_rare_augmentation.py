import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

import scmimic as sm
import scmimic.tl as tl
from scmimic.tl import _rare_augmentation

COMMON = {"labels_key": "cell_type", "label": "type_1", "n_trees": 20, "n_synthetic": 50}
LIGHT = ["none", "class weights", "oversampling", "SMOTE", "independent NB", "Gaussian copula"]
SMALL_ACTIVA = {
    "model_kwargs": {"n_latent": 2, "n_hidden": (8,)},
    "train_kwargs": {"max_epochs": 2, "warmup_epochs": 1},
}


class Recorder:
    """Generator that keeps what it was given and repeats its cells of the label."""

    def __init__(self):
        self.seen = []

    def __call__(self, train, labels_key, layer, seed):
        self.seen.append((train.copy(), labels_key, layer, seed))
        generator = sm.baselines.Memoriser(train.copy(), labels_key=labels_key, layer=layer).fit()
        # a model may spoil what it was given
        train.X.data[:] = 0
        return generator


def held_out(adata, seed, test_size=0.25):
    split = sm.pp.balanced_split(adata, "cell_type", test_size=test_size, seed=seed, copy=True).obs["split"]
    return adata.obs_names[split == "test"]


def poison(adata, seeds=(0,)):
    """The same training cells beside held-out cells that say something else altogether."""
    names = set().union(*(held_out(adata, seed) for seed in seeds))
    rows = adata.obs_names.isin(names)
    x = adata.X.toarray()
    x[rows] = np.random.default_rng(9).poisson(500, x[rows].shape)
    other = adata.copy()
    other.X = sp.csr_matrix(x)
    other.obs.loc[rows, "library_size"] = -1
    return other


def test_held_out_cells_reach_no_generator(adata):
    adata.obsm["X_pca"], adata.uns["rank_genes_groups"] = np.ones((300, 2)), {"of": "all cells"}
    adata.layers["counts"] = adata.X.copy()
    recorder = Recorder()
    tl.rare_augmentation(
        adata,
        **COMMON,
        layer="counts",
        fractions=[0.5, 0.1],
        seeds=[0, 7],
        generators={"recorder": recorder},
        methods=["recorder", "class weights"],
    )
    assert [seed for *_, seed in recorder.seen] == [0, 0, 7, 7]
    for (train, key, layer, seed), fraction in zip(recorder.seen, [0.5, 0.1] * 2, strict=True):
        assert (key, layer) == ("cell_type", "counts")
        test = held_out(adata, seed)
        assert not set(train.obs_names) & set(test)
        rest = adata[~adata.obs_names.isin(test)]
        expected = sm.pp.downsample_label(rest, "cell_type", "type_1", fraction=fraction, seed=seed)
        assert train.obs_names.equals(expected.obs_names)
        assert (train.layers["counts"] != expected.layers["counts"]).nnz == 0
        assert (train.X != expected.X).nnz == 0
        assert not len(train.obsm) and not train.uns and train.raw is None


def test_held_out_cells_change_nothing_that_is_learned_or_added(adata, monkeypatch):
    def added_cells(data):
        seen = []

        def spy(trial, added, **kwargs):
            seen.append((trial, added))
            return dict.fromkeys(_rare_augmentation.SCORES, 0.0)

        monkeypatch.setattr(_rare_augmentation, "score_forest", spy)
        tl.rare_augmentation(data, **COMMON, fractions=[0.3], seeds=[0], n_top_genes=25, **SMALL_ACTIVA)
        return seen

    clean, poisoned = added_cells(adata), added_cells(poison(adata))
    assert len(clean) == len(poisoned) == 7
    for (trial, added), (other, other_added) in zip(clean, poisoned, strict=True):
        assert list(trial.train.var_names) == list(other.train.var_names)
        assert trial.train.n_vars == 25
        assert (trial.x_train != other.x_train).nnz == 0
        # the poison is there, but where it belongs
        assert (trial.x_test != other.x_test).nnz > 0
        if added is not None:
            assert added.shape == (50, 25)
            assert (added != other_added).nnz == 0


@pytest.mark.parametrize("method", ["none", "class weights", "recorder"])
def test_scores_agree_with_the_steps_by_hand(adata, method):
    result = tl.rare_augmentation(
        adata, **COMMON, fractions=[0.2], seeds=[3], generators={"recorder": Recorder()}, methods=[method]
    )
    test = adata.obs_names.isin(held_out(adata, 3))
    train = sm.pp.downsample_label(adata[~test].copy(), "cell_type", "type_1", fraction=0.2, seed=3)
    cells = [train]
    if method == "recorder":
        cells.append(sm.baselines.Memoriser(train, labels_key="cell_type").fit().generate(50, "type_1", seed=3))
    cells.append(adata[test].copy())
    for part in cells:
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    x = np.vstack([part.X.toarray() for part in cells[:-1]])
    y = np.concatenate([(part.obs["cell_type"] == "type_1").to_numpy() for part in cells])
    y, y_test = y[: len(x)], y[len(x) :]
    forest = RandomForestClassifier(20, class_weight=None if method == "none" else "balanced", random_state=3).fit(x, y)
    x_test = cells[-1].X.toarray()
    row = result.iloc[0]
    assert row["f1"] == pytest.approx(f1_score(y_test, forest.predict(x_test)))
    assert row["precision"] == pytest.approx(precision_score(y_test, forest.predict(x_test), zero_division=0))
    assert row["recall"] == pytest.approx(recall_score(y_test, forest.predict(x_test)))
    assert row["average_precision"] == pytest.approx(
        average_precision_score(y_test, forest.predict_proba(x_test)[:, 1])
    )
    assert (row["n_real"], row["n_added"]) == (int(y.sum()) - 50 * (method == "recorder"), 50 * (method == "recorder"))


def test_good_cells_help_and_bad_cells_harm(adata):
    """Upper and lower end: cells of all the type's real cells, and cells of another type in its place."""

    def oracle(train, labels_key, layer, seed):
        return sm.baselines.Memoriser(adata[:, train.var_names].copy(), labels_key=labels_key).fit()

    def liar(train, labels_key, layer, seed):
        wrong = train.copy()
        wrong.obs[labels_key] = wrong.obs[labels_key].cat.rename_categories({"type_1": "type_0", "type_0": "type_1"})
        return sm.baselines.IndependentNB(wrong, labels_key=labels_key).fit()

    table = tl.rare_augmentation(
        adata,
        **COMMON | {"n_synthetic": 200},
        fractions=[0.05],
        seeds=range(3),
        generators={"oracle": oracle, "liar": liar},
        methods=["oracle", "class weights", "liar"],
    )
    mean = table.groupby("method")[["f1", "average_precision"]].mean()
    assert mean.loc["oracle", "f1"] > 0.95
    assert mean.loc["oracle", "f1"] > mean.loc["class weights", "f1"] + 0.2
    assert mean.loc["liar", "average_precision"] < mean.loc["class weights", "average_precision"]


def test_a_method_that_refuses_does_not_stop_the_others(adata, caplog):
    def refuses(train, labels_key, layer, seed):
        raise ValueError("too few cells")

    def other_genes(train, labels_key, layer, seed):
        return sm.baselines.Memoriser(train[:, :10].copy(), labels_key=labels_key).fit()

    generators = {"refuses": refuses, "other genes": other_genes}
    table = tl.rare_augmentation(
        adata,
        **COMMON,
        fractions=[0.001],
        seeds=[0],
        generators=generators,
        methods=["refuses", "SMOTE", "other genes", "oversampling"],
    ).set_index("method")
    assert (table["n_real"] == 1).all()
    assert table.loc["refuses", "error"] == "ValueError: too few cells"
    assert "there is 1" in table.loc["SMOTE", "error"]
    assert "same genes" in table.loc["other genes", "error"]
    assert table.loc["oversampling", "error"] == ""
    assert table["f1"].notna().tolist() == [False, False, False, True]
    assert table["n_added"].tolist() == [0, 0, 0, 50]
    assert "refuses with 1 cells of 'type_1'" in caplog.text


def test_mistakes_in_a_program_come_through(adata):
    def broken(train, labels_key, layer):
        """Lacks the seed."""

    with pytest.raises(TypeError, match="positional"):
        tl.rare_augmentation(adata, **COMMON, generators={"broken": broken}, methods=["broken"])


def test_one_cell_is_enough_for_the_default_generators(adata):
    table = tl.rare_augmentation(
        adata, **COMMON, fractions=[0.001], seeds=[0], methods=LIGHT[4:] + ["ACTIVA"], **SMALL_ACTIVA
    )
    assert (table["error"] == "").all() and (table["n_added"] == 50).all() and (table["n_real"] == 1).all()


def test_rows_are_ordered_and_repeatable(adata):
    arguments = {**COMMON, "fractions": [0.3, 0.1], "seeds": [1, 0], "methods": LIGHT}
    table = tl.rare_augmentation(adata, **arguments)
    expected = [(s, f, m) for s in (1, 0) for f in (0.3, 0.1) for m in LIGHT]
    assert list(table[["seed", "fraction", "method"]].itertuples(index=False, name=None)) == expected
    again = tl.rare_augmentation(adata, **arguments)
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), again.drop(columns="seconds"))
    part = tl.rare_augmentation(adata, **arguments | {"seeds": [0], "fractions": [0.1], "methods": ["SMOTE"]})
    whole = table[(table["seed"] == 0) & (table["fraction"] == 0.1) & (table["method"] == "SMOTE")]
    assert part["f1"].tolist() == whole["f1"].tolist()


def test_activa_gets_its_options_and_leaves_the_seeds_alone(adata, monkeypatch):
    epochs = []
    train = sm.ACTIVA.train

    def spy(self, *args, **kwargs):
        train(self, *args, **kwargs)
        epochs.append((self.trainer.current_epoch, self.module.n_latent))

    monkeypatch.setattr(sm.ACTIVA, "train", spy)
    state, seed = torch.get_rng_state(), scvi.settings.seed
    table = tl.rare_augmentation(adata, **COMMON, fractions=[0.3], seeds=[5], methods=["ACTIVA"], **SMALL_ACTIVA)
    assert epochs == [(2, 2)]
    assert torch.equal(torch.get_rng_state(), state) and scvi.settings.seed == seed
    assert table["error"].tolist() == [""]


def test_an_interrupted_training_is_not_scored(adata):
    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, plan):
            raise KeyboardInterrupt

    options = SMALL_ACTIVA | {"train_kwargs": {"max_epochs": 3, "callbacks": [Interrupt()]}}
    with pytest.raises(KeyboardInterrupt, match="experiment"):
        tl.rare_augmentation(adata, **COMMON, fractions=[0.3], seeds=[0], methods=["ACTIVA"], **options)
    assert "rare_augmentation" not in adata.uns


def test_results_survive_a_file(adata, tmp_path):
    table = tl.rare_augmentation(
        adata, **COMMON, fractions=[0.001, 0.1], seeds=[0], methods=["SMOTE", "class weights"], key_added="mine"
    )
    assert "rare_augmentation" not in adata.uns
    adata.write_h5ad(tmp_path / "a.h5ad")
    stored = ad.read_h5ad(tmp_path / "a.h5ad").uns["mine"]
    read = stored["results"].reset_index(drop=True)
    pd.testing.assert_frame_equal(read, table, check_dtype=False, check_categorical=False)
    params = stored["params"]
    assert params["label"] == "type_1" and params["layer"] == "None" and params["n_synthetic"] == 50
    assert params["fractions"].tolist() == [0.001, 0.1] and list(params["methods"]) == ["SMOTE", "class weights"]


def test_logged_values_and_dense_input(adata):
    arguments = {**COMMON, "fractions": [0.2], "seeds": [0], "methods": ["class weights", "SMOTE"]}
    counts = tl.rare_augmentation(adata, **arguments)
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    logged.X = logged.X.toarray()
    result = tl.rare_augmentation(logged, **arguments, log1p=False)
    np.testing.assert_allclose(result["f1"], counts["f1"])


def test_bad_input(adata):
    def run(data=adata, **change):
        return tl.rare_augmentation(data, **{**COMMON, "methods": ["none"], **change})

    with pytest.raises(KeyError, match="nothing"):
        run(labels_key="nothing")
    with pytest.raises(KeyError, match="counts"):
        run(layer="counts")
    with pytest.raises(ValueError, match=r"'type_9'.*type_0"):
        run(label="type_9")
    with pytest.raises(ValueError, match="nothing to tell it from"):
        run(adata[adata.obs["cell_type"] == "type_1"].copy())
    with pytest.raises(ValueError, match="fractions"):
        run(fractions=[0.1, 0])
    with pytest.raises(ValueError, match="fractions"):
        run(fractions=[])
    with pytest.raises(ValueError, match="seeds"):
        run(seeds=[])
    with pytest.raises(ValueError, match="`n_synthetic` must be a whole number at least 1"):
        run(n_synthetic=0)
    with pytest.raises(ValueError, match="unknown.*SMOTEN.*Known.*ACTIVA"):
        run(methods=["SMOTEN"])
    with pytest.raises(ValueError, match="those of rivals"):
        run(generators={"SMOTE": Recorder()})
    with pytest.raises(ValueError, match="leave `generators` out"):
        run(generators={"mine": Recorder()}, train_kwargs={"max_epochs": 1})
    with pytest.raises(ValueError, match="`test_size` must be"):
        run(test_size=2)
    with pytest.raises(ValueError, match="no held-out cell"):
        run(test_size=0.005)
    negative = adata.copy()
    negative.X = negative.X.toarray() - 1
    with pytest.raises(ValueError, match="log1p=False"):
        run(negative)
    repeated = adata.copy()
    repeated.obs_names = ["same"] * 300
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        run(repeated)
    single = adata[(adata.obs["cell_type"] != "type_1") | (adata.obs_names == adata.obs_names[5])].copy()
    single.obs["cell_type"] = np.where(np.arange(single.n_obs) == 0, "type_1", "type_0")
    with pytest.raises(ValueError, match="single cell"):
        run(single)
