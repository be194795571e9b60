import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score

import scmimic as sm

COMMON = {"labels_key": "cell_type", "label": "type_1", "seeds": [0]}
SMALL = {"train_kwargs": {"max_epochs": 2}}


class Sure:
    """Classifier that says what it is told, for cells by name."""

    def __init__(self, answers):
        self.answers = answers

    def predict(self, cells, *, soft):
        assert soft
        return pd.get_dummies(self.answers.loc[cells.obs_names], dtype=float)


def parts(adata, fraction, seed):
    split = sm.pp.balanced_split(adata, "cell_type", test_size=0.25, seed=seed, copy=True).obs["split"]
    test = (split == "test").to_numpy()
    rest = adata[~test].copy()
    return sm.pp.downsample_label(rest, "cell_type", "type_1", fraction=fraction, seed=seed), adata[test].copy()


def test_scores_agree_with_the_steps_by_hand(adata):
    table = sm.tl.rare_classification(
        adata, **COMMON | {"seeds": [3]}, fractions=[0.2], methods=["logistic regression"]
    )
    train, test = parts(adata, 0.2, 3)
    y, y_test = (part.obs["cell_type"].astype(str).to_numpy() for part in (train, test))
    for part in (train, test):
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    x, x_test = train.X.toarray(), test.X.toarray()
    deviation = x.std(axis=0)
    deviation[deviation == 0] = 1
    model = LogisticRegression(C=0.01, max_iter=300).fit(x / deviation, y)
    found, truth = model.predict(x_test / deviation), y_test == "type_1"
    row = table.iloc[0]
    assert row["n_real"] == (y == "type_1").sum() < 20
    assert row["f1"] == pytest.approx(f1_score(truth, found == "type_1"))
    assert row["precision"] == pytest.approx(precision_score(truth, found == "type_1", zero_division=0))
    assert row["recall"] == pytest.approx(recall_score(truth, found == "type_1"))
    assert row["accuracy"] == pytest.approx(accuracy_score(y_test, found))
    probability = model.predict_proba(x_test / deviation)[:, list(model.classes_).index("type_1")]
    assert row["average_precision"] == pytest.approx(average_precision_score(truth, probability))


def test_a_classifier_sees_the_thinned_cells_and_none_held_out(adata):
    adata.obsm["X_pca"], adata.layers["counts"] = np.ones((adata.n_obs, 2)), adata.X.copy()
    truth, seen, asked = adata.obs["cell_type"].astype(str), [], []

    class Asked(Sure):
        def predict(self, cells, *, soft):
            asked.append(cells)
            return super().predict(cells, soft=soft)

    def fit(train, labels_key, layer, seed):
        seen.append((train.copy(), labels_key, layer, seed))
        # a model may spoil what it was given
        train.X.data[:] = 0
        train.layers["counts"].data[:] = 0
        return Asked(truth)

    table = sm.tl.rare_classification(
        adata,
        **COMMON | {"seeds": [0, 7]},
        layer="counts",
        fractions=[1, 0.1],
        classifiers={"sure": fit},
        methods="sure",
    )
    assert (table[["f1", "average_precision", "accuracy"]] == 1).all(axis=None)
    assert table[["seed", "fraction"]].to_numpy().tolist() == [[0, 1], [0, 0.1], [7, 1], [7, 0.1]]
    for (train, key, layer, seed), cells, row in zip(seen, asked, table.itertuples(), strict=True):
        assert (key, layer, seed) == ("cell_type", "counts", row.seed)
        expected, test = parts(adata, row.fraction, row.seed)
        assert train.obs_names.equals(expected.obs_names) and cells.obs_names.equals(test.obs_names)
        assert (train.layers["counts"] != expected.X).nnz == 0 and (cells.layers["counts"] != test.X).nnz == 0
        assert not len(train.obsm) and not len(cells.obsm) and cells.obs.columns.empty


def test_wrong_answers_score_nothing(adata):
    truth = adata.obs["cell_type"].astype(str)
    wrong = {
        "never": truth.replace("type_1", "type_0"),
        "always": truth.map(lambda name: "type_1"),
        "others": truth.map(lambda name: "type_1" if name == "type_1" else "elsewhere"),
    }
    classifiers = {name: lambda *_, answers=answers: Sure(answers) for name, answers in wrong.items()}
    table = sm.tl.rare_classification(adata, **COMMON, fractions=[1], classifiers=classifiers).set_index("method")
    _, test = parts(adata, 1, 0)
    share = (test.obs["cell_type"] == "type_1").mean()
    assert table.loc["never", ["f1", "recall"]].tolist() == [0, 0]
    assert table.loc["never", "accuracy"] == pytest.approx(1 - share)
    assert table.loc["always", "precision"] == pytest.approx(share) == table.loc["always", "accuracy"]
    assert table.loc["always", "average_precision"] == pytest.approx(share)
    # right about the type, and about nothing else
    assert table.loc["others", "f1"] == 1 and table.loc["others", "accuracy"] == pytest.approx(share)


def test_fewer_cells_are_known_worse(adata):
    options = {"seeds": range(3), "fractions": [1, 0.02], "methods": "logistic regression"}
    f1 = sm.tl.rare_classification(adata, **COMMON | options).groupby("fraction")["f1"].mean()
    assert f1[1] > 0.8 > 0.5 > f1[0.02]


def test_the_default_classifiers(adata, monkeypatch):
    trained = []
    train = sm.ACTINN.train

    def spy(self, *args, **kwargs):
        train(self, *args, **kwargs)
        trained.append((self.module.class_weights, self.trainer.current_epoch, self.module.classifier))

    monkeypatch.setattr(sm.ACTINN, "train", spy)
    table = sm.tl.rare_classification(adata, **COMMON, fractions=[0.1], model_kwargs={"n_hidden": (7,)}, **SMALL)
    assert table["method"].tolist() == ["logistic regression", "ACTINN", "ACTINN, class weights"]
    (plain, *_), (balanced, *_) = trained
    counts = parts(adata, 0.1, 0)[0].obs["cell_type"].value_counts().sort_index().to_numpy()
    np.testing.assert_allclose(balanced, counts.sum() / (3 * counts), rtol=1e-6)
    assert plain is None
    assert all(epochs == 2 and 7 in {w.shape[0] for w in net.parameters()} for _, epochs, net in trained)


def test_the_conditioner_of_a_model_is_asked(adata):
    def fit(train, labels_key, layer, seed):
        sm.ACTIVA.setup_anndata(train, labels_key=labels_key, layer=layer)
        model = sm.ACTIVA(train, n_latent=2, n_hidden=(8,))
        model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
        return model

    table = sm.tl.rare_classification(adata, **COMMON, fractions=[0.5], classifiers={"ACTIVA": fit}, n_top_genes=20)
    assert table["method"].tolist() == ["logistic regression", "ACTIVA"]
    assert (table["error"] == "").all() and table["f1"].notna().all()


def test_seeds_repeat_and_are_left_alone(adata):
    state, seed = torch.get_rng_state(), scvi.settings.seed
    runs = [
        sm.tl.rare_classification(adata, **COMMON | {"seeds": seeds}, fractions=[0.1], methods=["ACTINN"], **SMALL)
        for seeds in ([4, 0], [0])
    ]
    assert torch.equal(torch.get_rng_state(), state) and scvi.settings.seed == seed
    first, again = (run[run["seed"] == 0].drop(columns="seconds").reset_index(drop=True) for run in runs)
    pd.testing.assert_frame_equal(first, again)


def test_refusals_files_and_the_picture(adata, tmp_path):
    def refuses(*_):
        raise ValueError("too few cells")

    table = sm.tl.rare_classification(
        adata, **COMMON, fractions=[1, 0.001], classifiers={"mine": refuses}, key_added="rare"
    )
    mine = table[table["method"] == "mine"]
    assert mine["error"].tolist() == ["ValueError: too few cells"] * 2 and mine["f1"].isna().all()
    assert table[table["method"] != "mine"]["n_real"].tolist()[1] == 1
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    stored = read.uns["rare"]
    assert len(stored["results"]) == 4 and stored["params"]["label"] == "type_1"
    ax = sm.pl.augmentation(read, key="rare", score="accuracy", show=False)
    assert ax.get_ylabel() == "accuracy over all types"
    with pytest.raises(KeyError, match="run `sm.tl.rare_classification"):
        sm.pl.augmentation(read, key="rare_classification")


def test_bad_input(adata):
    def run(data=adata, **change):
        return sm.tl.rare_classification(
            data, **{**COMMON, "fractions": [1], "methods": "logistic regression", **change}
        )

    with pytest.raises(KeyError, match="nothing"):
        run(labels_key="nothing")
    with pytest.raises(ValueError, match=r"'type_9'.*type_0"):
        run(label="type_9")
    with pytest.raises(ValueError, match="nothing to tell it from"):
        run(adata[adata.obs["cell_type"] == "type_1"].copy())
    for name, value in {"fractions": [1.5], "seeds": [], "test_size": 2, "n_top_genes": 0, "log1p": "no"}.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            run(**{name: value})
    with pytest.raises(ValueError, match="unknown.*SVM.*Known.*ACTINN, class weights"):
        run(methods=["SVM"])
    with pytest.raises(ValueError, match="`classifiers`: .* those of rivals"):
        run(classifiers={"logistic regression": print})
    with pytest.raises(ValueError, match="leave `classifiers` out"):
        run(classifiers={"mine": print}, methods=None, **SMALL)
    with pytest.raises(ValueError, match="differ in `class_weights`"):
        run(model_kwargs={"class_weights": "balanced"})
    with pytest.raises(TypeError, match="mine: the classifier, object, has neither"):
        run(classifiers={"mine": lambda *_: object()}, methods="mine")
    with pytest.raises(TypeError, match=r"must return a table of probabilities .* not ndarray"):
        run(
            classifiers={"mine": lambda *_: type("C", (), {"predict": lambda self, x, soft: np.ones(3)})()},
            methods="mine",
        )
    assert "rare_classification" not in adata.uns
