"""What users see of results and generators takes a line, whatever they hold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import scmimic as sm
from scmimic._reprs import short_repr


@short_repr
@dataclass
class Thing:
    value: object


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.123456, "0.1235"),
        (np.float32(0.5), "0.5"),
        (2.0, "2.0"),
        (np.nan, "nan"),
        (123456, "123456"),
        (np.int64(123456), "123456"),
        (True, "True"),
        (None, "None"),
        ("text", "'text'"),
        ("x" * 100, "<str>"),
        ((0.123456, 1), "(0.1235, 1)"),
        ((1.0,), "(1.0,)"),
        (list(range(9)), "<9 x int>"),
        ((Thing(1), Thing(2)), "<2 x Thing>"),
        ((), "()"),
        ({"a": 0.123456, "b": np.ones(3)}, "{'a': 0.1235, 'b': <3 ndarray>}"),
        (dict.fromkeys(range(9)), "<9 entries>"),
        (np.ones((200, 3)), "<200 x 3 ndarray>"),
        (pd.DataFrame({"a": [1, 2]}), "<2 x 1 DataFrame>"),
    ],
)
def test_values(value, expected):
    assert repr(Thing(value)) == f"Thing(value={expected})"


def test_results_and_generators():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 200, 4))
    result = sm.metrics.discriminator_auc(x, y, n_trees=5, return_folds=True)
    interval = tuple(float(f"{end:.4g}") for end in result.interval)
    assert repr(result) == f"DiscriminatorResult(auc={result.auc:.4g}, folds=<5 x RocFold>, interval={interval})"
    for one in (sm.metrics.precision_recall_density_coverage(x, y), sm.metrics.distance_to_closest_record(x, y, z)):
        assert len(repr(one)) < 150 and "\n" not in repr(one)
    cells = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    cells.layers["counts"] = cells.X
    generator = sm.baselines.IndependentNB(cells, labels_key="cell_type", layer="counts")
    text = "IndependentNB: 60 cells x 20 genes, 3 types of 'cell_type', layer 'counts', "
    assert repr(generator) == f"{text}not fitted"
    assert repr(generator.fit(seed=2)) == f"{text}fitted with seed 2"
    assert repr(sm.baselines.Memoriser(cells, labels_key=None)) == "Memoriser: 60 cells x 20 genes, not fitted"
    assert repr(sm.baselines.PPCA(cells, n_latent=3)) == "PPCA: 60 cells x 20 genes, 3 dimensions, not fitted"


def test_what_a_model_holds_takes_a_line_each():
    cells = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    sm.ACTIVA.setup_anndata(cells, labels_key="cell_type")
    model = sm.ACTIVA(cells, n_latent=2, n_hidden=(8,))
    model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    assert repr(model.margins_) == "GeneMargins: 3 labels x 20 genes"
    for held in (model.posterior_, model.fitted_codes_["mixture"]):
        assert repr(held).startswith(f"{type(held).__name__}(")
        assert len(repr(held)) < 600 and "\n" not in repr(held)


def test_models_say_what_they_were_set_up_with(tmp_path, capsys):
    cells = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    cells.layers["counts"] = cells.X
    cells.obs["plate"], cells.obs["donor"], cells.obs["dose"], cells.obs["sf"] = "p1", ["a", "b"] * 30, range(60), 1.0
    cells.obsm["X_pca"] = np.random.default_rng(0).normal(size=(60, 2))
    sizes = {"n_latent": 2, "n_hidden": (8,)}
    sm.ACTIVA.setup_anndata(
        cells,
        layer="counts",
        labels_key="cell_type",
        batch_key="plate",
        categorical_covariate_keys=["donor"],
        continuous_covariate_keys=["dose"],
        size_factor_key="sf",
    )
    model = sm.ACTIVA(cells, **sizes)
    model.train(1, warmup_epochs=1, enable_progress_bar=False)
    network = "ACTIVA: 20 genes, 2 latent dimensions, hidden layers (8,), gene_likelihood='nb'"
    told = "3 types of 'cell_type', 1 batch of 'plate', covariates 'donor', 'dose', size factors 'sf'"
    assert repr(model) == f"{network}\nTraining status: Trained\nData: 60 cells, layer 'counts', {told}"
    model.save(tmp_path / "m")
    assert repr(sm.ACTIVA.load(tmp_path / "m")) == repr(model)
    assert "\nData: 9 cells, layer 'counts'" in repr(sm.ACTIVA.load(tmp_path / "m", adata=cells[:9].copy()))
    sm.BetaTCVAE.setup_anndata(cells)
    assert repr(sm.BetaTCVAE(cells, **sizes, gene_likelihood="nb")).endswith("Not Trained\nData: 60 cells")
    sm.MichiGAN.setup_anndata(cells, code_key="X_pca", labels_key="plate")
    model = sm.MichiGAN(cells, n_hidden_generator=(8,), n_hidden_critic=(8,))
    assert repr(model).endswith("\nData: 60 cells, 1 type of 'plate', codes 'X_pca'")
    assert not capsys.readouterr().out
