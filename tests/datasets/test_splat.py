import dataclasses

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats
from scipy.interpolate import make_interp_spline

from scmimic.datasets import SplatParameters, _splat_cells, splat
from scmimic.datasets._splat_genes import bridges, lognormal_factors, path_order

ONE = {"n_batches": 1, "n_groups": 1}


def plain(**changes):
    """Every cell expects the same counts."""
    return SplatParameters(lib_scale=0, out_prob=0, bcv_df=float("inf"), **changes)


def shares(adata):
    """Counts over the library size."""
    return adata.X.toarray().astype(float) / adata.obs["library_size"].to_numpy()[:, None]


def test_contents():
    adata = splat(103, 40, n_batches=3, n_paths=2, n_steps=5)
    assert adata.shape == (103, 40)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.X.has_sorted_indices
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert adata.X.data.min() >= 1
    assert adata.obs["batch"].value_counts().tolist() == [35, 34, 34]
    assert list(adata.obs["path"].cat.categories) == ["path_0", "path_1"]
    assert adata.obs["step"].between(1, 5).all()
    assert (adata.obs["total_counts"] == adata.X.toarray().sum(axis=1)).all()
    tenth = adata.obs["library_size_quantile"]
    assert sorted(tenth.unique()) == list(range(10))
    order = adata.obs.sort_values("library_size")["library_size_quantile"]
    assert order.is_monotonic_increasing
    assert set(adata.varm) == {"step_factors_path_0", "step_factors_path_1"}
    assert adata.varm["step_factors_path_0"].shape == (40, 5)


def test_cells_of_a_batch_do_not_stand_together():
    batch = splat(400, 10).obs["batch"].cat.codes.to_numpy()
    assert 150 < (batch[1:] != batch[:-1]).sum() < 250


def test_seed():
    first, again, other = (splat(60, 30, step="nonlinear", seed=seed) for seed in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    assert (first.X != other.X).nnz > 0
    assert (first.var["mean"] != other.var["mean"]).all()


def test_genes_do_not_depend_on_the_number_of_cells():
    few, many = splat(10, 30, step="nonlinear"), splat(50, 30, step="nonlinear")
    pd.testing.assert_frame_equal(few.var, many.var)
    np.testing.assert_array_equal(few.varm["step_factors_path_1"], many.varm["step_factors_path_1"])


@pytest.mark.parametrize(("bcv_common", "bcv_df"), [(0.1, 60.0), (0.5, float("inf")), (0.3, 10.0)])
def test_mean_and_variance_have_their_closed_form(bcv_common, bcv_df):
    n = 6000
    parameters = SplatParameters(
        lib_loc=np.log(3000), lib_scale=0, out_prob=0, mean_shape=1, bcv_common=bcv_common, bcv_df=bcv_df
    )
    adata = splat(n, 60, parameters=parameters, **ONE)
    x = adata.X.toarray().astype(float)
    mean = 3000 * adata.var["mean"].to_numpy() / adata.var["mean"].sum()
    bcv = (bcv_common + 1 / np.sqrt(mean)) * adata.var["bcv_factor"].to_numpy()
    variance = mean + mean**2 * bcv**2
    z = (x.mean(axis=0) - mean) / np.sqrt(variance / n)
    assert 0.75 < z.std() < 1.3
    assert abs(z.mean()) < 0.5
    # the standard error of a variance, from the data's own fourth moment
    deviation = (x - mean) ** 2
    z = (deviation.mean(axis=0) - variance) / (deviation.std(axis=0) / np.sqrt(n))
    assert abs(np.mean(z)) < 0.6
    assert 0.6 < z.std() < 1.5


def test_counts_are_gamma_poisson():
    parameters = plain(lib_loc=np.log(200), bcv_common=0.4)
    adata = splat(5000, 20, parameters=parameters, **ONE)
    mean = 200 * adata.var["mean"].to_numpy() / adata.var["mean"].sum()
    size = 1 / (0.4 + 1 / np.sqrt(mean)) ** 2
    zeros = stats.nbinom.pmf(0, size, size / (size + mean))
    found = (adata.X.toarray() == 0).mean(axis=0)
    z = (found - zeros) / np.sqrt(zeros * (1 - zeros) / 5000 + 1e-9)
    assert np.abs(z).max() < 4


def test_bcv_factor_is_the_root_of_a_scaled_inverse_chi_square():
    factor = splat(2, 5000, parameters=SplatParameters(bcv_df=20)).var["bcv_factor"]
    assert stats.kstest(20 / factor**2, stats.chi2(20).cdf).pvalue > 1e-3
    assert (splat(2, 50, parameters=SplatParameters(bcv_df=float("inf"))).var["bcv_factor"] == 1).all()


def test_gene_means_and_outliers():
    parameters = SplatParameters(mean_shape=0.7, mean_rate=2, out_prob=0.2, out_fac_loc=3, out_fac_scale=0.4)
    var = splat(2, 8000, parameters=parameters).var
    assert stats.kstest(var["base_mean"], stats.gamma(0.7, scale=0.5).cdf).pvalue > 1e-3
    outlier = var["outlier_factor"] != 1
    assert outlier.mean() == pytest.approx(0.2, abs=0.02)
    assert stats.kstest(np.log(var["outlier_factor"][outlier]), stats.norm(3, 0.4).cdf).pvalue > 1e-3
    assert (var["mean"][~outlier] == var["base_mean"][~outlier]).all()
    expected = var["base_mean"].median() * var["outlier_factor"][outlier]
    np.testing.assert_allclose(var["mean"][outlier], expected)


def test_lognormal_factors():
    log = np.log(lognormal_factors(np.random.default_rng(0), 20000, prob=0.3, down_prob=0.25, loc=0.1, scale=0.4))
    changed = log[log != 0]
    assert len(changed) / 20000 == pytest.approx(0.3, abs=0.015)
    assert (changed < 0).mean() == pytest.approx(0.25, abs=0.02)
    folded = stats.foldnorm(0.1 / 0.4, scale=0.4)
    assert stats.kstest(np.abs(changed), folded.cdf).pvalue > 1e-3


def test_library_sizes():
    adata = splat(4000, 5, parameters=SplatParameters(lib_loc=7, lib_scale=0.4))
    library = adata.obs["library_size"]
    assert stats.kstest(np.log(library), stats.norm(7, 0.4).cdf).pvalue > 1e-3
    deep = splat(500, 400, parameters=SplatParameters(lib_loc=9, lib_scale=0.8))
    ratio = deep.obs["total_counts"] / deep.obs["library_size"]
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(np.log(deep.obs["total_counts"]), np.log(deep.obs["library_size"]))[0, 1] > 0.95


def test_normal_library_sizes_are_never_negative():
    library = splat(3000, 5, parameters=SplatParameters(lib_loc=100, lib_scale=100, lib_norm=True)).obs["library_size"]
    low = library == library.min()
    assert low.mean() == pytest.approx(stats.norm.cdf(-1), abs=0.03)
    assert library[~low].min() == 2 * library.min()
    with pytest.raises(ValueError, match="lib_loc"):
        splat(20, 5, parameters=SplatParameters(lib_loc=-100, lib_scale=1, lib_norm=True))


def test_batch_factors_are_in_the_counts():
    adata = splat(4000, 30, n_batches=2, n_groups=1, parameters=plain(batch_fac_loc=0.5, bcv_common=0))
    batch = (adata.obs["batch"] == "batch_0").to_numpy()
    x = shares(adata)
    expected = []
    for i in range(2):
        mean = adata.var["mean"] * adata.var[f"batch_factor_batch_{i}"]
        expected.append(mean / mean.sum())
    found = x[batch].mean(axis=0) / x[~batch].mean(axis=0)
    np.testing.assert_allclose(found, expected[0] / expected[1], rtol=0.12)
    assert np.abs(np.log(found)).max() > 0.5
    single = splat(10, 30, n_batches=1)
    assert (single.var["batch_factor_batch_0"] == 1).all()


def test_batch_parameters_may_differ_per_batch():
    var = splat(4, 3000, parameters=SplatParameters(batch_fac_loc=(0.0, 1.0), batch_fac_scale=(0.0, 0.1))).var
    assert (var["batch_factor_batch_0"] == 1).all()
    assert np.abs(np.log(var["batch_factor_batch_1"])).mean() == pytest.approx(1, abs=0.02)


def test_linear_steps_are_on_the_straight_line():
    adata = splat(6000, 30, n_batches=1, n_paths=1, n_steps=5, parameters=plain(bcv_common=0, de_fac_scale=0.8))
    end = adata.var["de_factor_path_0"].to_numpy()
    line = 1 + np.linspace(0, 1, 5)[None] * (end[:, None] - 1)
    np.testing.assert_allclose(adata.varm["step_factors_path_0"], line)
    assert (adata.var["sigma_factor_path_0"] == 0).all()
    x, mean = shares(adata), adata.var["mean"].to_numpy()
    for step in range(1, 6):
        expected = mean * line[:, step - 1]
        found = x[adata.obs["step"] == step].mean(axis=0)
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=0.12)


def test_bridge_has_its_ends_mean_and_variance():
    n, n_steps, sigma = 40_000, 9, 0.3
    start, end = np.full(n, 1.0), np.full(n, 2.0)
    curves = bridges(start, end, np.full(n, sigma), n_steps, np.random.default_rng(0))
    np.testing.assert_allclose(curves[:, 0], 1)
    np.testing.assert_allclose(curves[:, -1], 2)
    time, knots = np.linspace(0, 1, n_steps), np.linspace(0, 1, 5)
    np.testing.assert_allclose(curves.mean(axis=0), 1 + time, atol=0.01)
    # a uniform scale on [0, a] has mean square a^2 / 3; covariance s (1 - t) for s <= t between the knots' values
    covariance = (sigma * 1.5) ** 2 / 3 * (np.minimum.outer(knots, knots) - np.outer(knots, knots))
    weights = make_interp_spline(knots, np.eye(5), k=3, bc_type="natural")(time)
    expected = weights @ covariance @ weights.T
    found = np.cov(curves.T)
    np.testing.assert_allclose(found, expected, atol=0.03 * expected.max())
    assert expected[4, 4] == pytest.approx(0.45**2 / 3 / 4)


def test_bridge_without_scale_is_a_line_and_one_below_zero_is_lifted():
    start, end = np.array([1.0, 1.0]), np.array([3.0, 0.5])
    curves = bridges(start, end, np.zeros(2), 4, np.random.default_rng(0))
    np.testing.assert_allclose(curves, np.linspace(start, end, 4).T)
    wild = bridges(np.ones(500), np.ones(500), np.full(500, 5.0), 20, np.random.default_rng(0))
    assert wild.min() == 1e-6


def test_share_of_genes_off_the_line():
    parameters = SplatParameters(path_nonlinear_prob=(0.2, 1.0), path_sigma_fac=(0.8, 0.4))
    adata = splat(4, 4000, step="nonlinear", parameters=parameters)
    off = adata.var["sigma_factor_path_0"] > 0
    assert off.mean() == pytest.approx(0.2, abs=0.03)
    assert (adata.var["sigma_factor_path_1"] == 0.4).all()
    curve, end = adata.varm["step_factors_path_0"], adata.var["de_factor_path_0"].to_numpy()
    line = 1 + np.linspace(0, 1, 20)[None] * (end[:, None] - 1)
    distance = np.abs(curve - line).max(axis=1)
    assert distance[~off].max() < 1e-9
    assert np.median(distance[off]) > 0.05
    np.testing.assert_allclose(curve[:, -1], end)


def test_paths_begin_where_they_should():
    parameters = SplatParameters(path_from=(2, -1, 1), de_prob=1.0)
    adata = splat(30, 200, n_paths=3, n_steps=4, step="nonlinear", parameters=parameters)
    start = {k: adata.varm[f"step_factors_path_{k}"][:, 0] for k in range(3)}
    end = {k: adata.varm[f"step_factors_path_{k}"][:, -1] for k in range(3)}
    np.testing.assert_allclose(start[1], 1)
    np.testing.assert_allclose(start[2], end[1])
    np.testing.assert_allclose(start[0], end[2])
    # each path multiplies what the one before has reached
    own = np.log(end[2] / end[1])
    assert own.std() == pytest.approx(0.5, abs=0.08)
    assert abs(np.corrcoef(own, np.log(end[1]))[0, 1]) < 0.25
    assert path_order([2, -1, 1]) == [1, 2, 0]


@pytest.mark.parametrize(("skew", "weights"), [(0.5, [1, 1, 1, 1]), (1.0, [3, 2, 1, 0]), (0.25, [3, 5, 7, 9])])
def test_skew(skew, weights):
    step = splat(4000, 3, n_steps=4, parameters=SplatParameters(path_skew=skew)).obs["step"]
    found = np.bincount(step, minlength=5)[1:]
    expected = 4000 * np.array(weights) / sum(weights)
    used = expected > 0
    assert found[~used].sum() == 0
    assert stats.chisquare(found[used], expected[used]).pvalue > 1e-3


def test_frequencies_of_paths():
    path = splat(3000, 3, n_paths=3, parameters=SplatParameters(group_prob=(2, 0, 1))).obs["path"]
    assert path.value_counts(normalize=True)[["path_0", "path_1"]].tolist() == pytest.approx([2 / 3, 0], abs=0.03)


def test_groups():
    parameters = plain(bcv_common=0, de_prob=(0.0, 1.0, 0.5), de_down_prob=1.0)
    adata = splat(6000, 30, n_batches=1, n_groups=3, parameters=parameters)
    assert list(adata.obs.columns[:2]) == ["batch", "group"]
    assert "step" not in adata.obs
    assert not adata.varm
    assert (adata.var["de_factor_group_0"] == 1).all()
    assert (adata.var["de_factor_group_1"] < 1).all()
    x = shares(adata)
    for k in range(3):
        expected = adata.var["mean"] * adata.var[f"de_factor_group_{k}"]
        found = x[adata.obs["group"] == f"group_{k}"].mean(axis=0)
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=0.12)
    assert (splat(10, 30, **ONE).var["de_factor_group_0"] == 1).all()


def test_dropout_has_its_probability():
    parameters = plain(lib_loc=np.log(2000), bcv_common=0)
    without = splat(3000, 20, parameters=parameters, **ONE).X.toarray()
    half = dataclasses.replace(parameters, dropout_type="experiment", dropout_shape=0.0)
    dropped = splat(3000, 20, parameters=half, **ONE).X.toarray()
    # a flat curve drops one half of what there is, at any mean
    kept = (dropped > 0).mean(axis=0) / (without > 0).mean(axis=0)
    np.testing.assert_allclose(kept, 0.5, atol=0.06)
    # a steep one drops what lies below its middle, and nothing above
    steep = dataclasses.replace(parameters, dropout_type="experiment", dropout_shape=-200.0, dropout_mid=np.log(20))
    assert splat(3000, 20, parameters=steep, **ONE).X.data.min() > 1
    assert (without == 1).any()


def test_dropout_per_batch_and_path():
    parameters = SplatParameters(dropout_type="batch", dropout_mid=(-50.0, 50.0))
    adata = splat(100, 30, parameters=parameters)
    gone = (adata.obs["batch"] == "batch_1").to_numpy()
    assert (adata.obs["total_counts"][gone] == 0).all()
    assert (adata.obs["total_counts"][~gone] > 0).all()
    parameters = SplatParameters(dropout_type="group", dropout_mid=(50.0, -50.0))
    adata = splat(100, 30, parameters=parameters)
    assert ((adata.obs["total_counts"] == 0) == (adata.obs["path"] == "path_0")).all()


@pytest.mark.parametrize("step", ["linear", "nonlinear"])
def test_other_cells_of_the_same_genes(step):
    first = splat(300, 40, step=step)
    first.var_names = [f"ENSG{i}" for i in range(40)]
    second = splat(200, genes=first, step=step, seed=7)
    pd.testing.assert_frame_equal(first.var, second.var)
    for key in first.varm:
        np.testing.assert_array_equal(first.varm[key], second.varm[key])
    assert (first.obs["library_size"].to_numpy()[:200] != second.obs["library_size"].to_numpy()).all()
    table = splat(200, genes=first.var, step=step, seed=7)
    pd.testing.assert_frame_equal(first.var, table.var)


def test_some_columns_of_the_genes():
    genes = pd.DataFrame({"mean": [1.0, 2.0, 4.0], "note": ["a", "b", "c"]}, index=["A", "B", "C"])
    var = splat(10, genes=genes).var
    assert list(var.index) == ["A", "B", "C"]
    assert var["mean"].tolist() == var["base_mean"].tolist() == [1, 2, 4]
    assert (var["outlier_factor"] == 1).all()
    assert (var["batch_factor_batch_0"] != 1).all()
    base = pd.DataFrame({"base_mean": [1.0, 2.0, 4.0], "outlier_factor": [1.0, 1.0, 10.0]})
    assert splat(10, genes=base.set_index(pd.Index(["A", "B", "C"]))).var["mean"].tolist() == [1, 2, 20]


def test_chunks_change_the_draws_and_nothing_else(monkeypatch):
    whole = splat(500, 40, parameters=plain(), **ONE)
    monkeypatch.setattr(_splat_cells, "_CHUNK_VALUES", 1000)
    parts = splat(500, 40, parameters=plain(), **ONE)
    pd.testing.assert_frame_equal(whole.obs.drop(columns="total_counts"), parts.obs.drop(columns="total_counts"))
    pd.testing.assert_frame_equal(whole.var, parts.var)
    first, second = whole.X.toarray(), parts.X.toarray()
    spread = np.sqrt(first.var(axis=0) * 2 / 500) + 1e-3
    assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 4.5 * spread).all()
    # chunks do not repeat each other
    assert len(np.unique(second, axis=0)) == 500


def test_record_survives_the_disk(tmp_path):
    parameters = SplatParameters(path_from=(-1, 0), de_prob=[0.2, 0.4])
    adata = splat(20, 10, parameters=parameters, seed=3)
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad").uns["scmimic"]
    assert back["model"] == "Splat"
    assert back["seed"] == 3
    assert back["parameters"]["step"] == "linear"
    names = [field.name for field in dataclasses.fields(SplatParameters)]
    stored = {name: np.asarray(back["parameters"][name]).tolist() for name in names}
    assert SplatParameters(**stored) == parameters


def test_empty_cells_stay():
    adata = splat(50, 5, parameters=SplatParameters(lib_loc=-3))
    assert adata.n_obs == 50
    assert (adata.obs["total_counts"] == 0).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_obs": 0}, "`n_obs` must be .*not 0"),
        ({"n_vars": 2.5}, "`n_vars` must be .*not 2.5"),
        ({"n_batches": 0}, "`n_batches` must be .*not 0"),
        ({"n_paths": 0}, "`n_paths` must be .*not 0"),
        ({"n_groups": 0}, "`n_groups` must be .*not 0"),
        ({"n_steps": 1}, "n_steps"),
        ({"n_obs": 1}, "more batches than cells"),
        ({"step": "curved"}, "'linear' or 'nonlinear'"),
        ({"parameters": SplatParameters(de_prob=(0.1, 0.2, 0.3))}, "`de_prob` has 3 values, but there are 2 paths"),
        ({"parameters": SplatParameters(batch_fac_loc=(0.1,) * 3)}, "2 batches"),
        ({"parameters": SplatParameters(path_from=(1, 0))}, "circle"),
        ({"parameters": SplatParameters(path_from=(-1, 5))}, "last of the 2 paths is 1"),
        ({"parameters": SplatParameters(group_prob=0)}, "group_prob"),
        ({"parameters": SplatParameters(dropout_type="batch", dropout_mid=(0, 0, 0))}, "dropout_mid"),
        ({"genes": pd.DataFrame({"mean": [1.0, np.nan]})}, r"genes\['mean'\]"),
        ({"genes": pd.DataFrame({"de_factor_path_0": [1.0, -1.0]})}, "de_factor_path_0"),
        ({"genes": pd.DataFrame({"mean": ["a", "b"]})}, "numbers"),
        ({"genes": pd.DataFrame({"mean": [0.0, 0.0]})}, "zero for all genes"),
        ({"genes": pd.DataFrame({"mean": []})}, "`n_vars` must be .*not 0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        splat(**{"n_obs": 10, "n_vars": 5} | kwargs)


def test_wrong_types_and_steps():
    with pytest.raises(TypeError, match="SplatParameters"):
        splat(10, 5, parameters={"bcv_common": 0.1})
    with pytest.raises(TypeError, match="DataFrame"):
        splat(10, 5, genes=np.ones(5))
    with pytest.raises(ValueError, match="20 steps, but n_steps=10"):
        splat(10, genes=splat(10, 5), n_steps=10)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mean_shape": 0}, "above 0"),
        ({"bcv_df": -1}, "above 0"),
        ({"lib_loc": float("nan")}, "lib_loc"),
        ({"lib_scale": float("inf")}, "lib_scale"),
        ({"out_prob": 1.2}, "between 0 and 1"),
        ({"out_prob": (0.1, 0.2)}, "single number"),
        ({"de_prob": "half"}, "must be a number"),
        ({"de_prob": ()}, "tuple of numbers"),
        ({"path_from": 0.5}, "-1 or a path"),
        ({"path_skew": (0.5, 2)}, "path_skew"),
        ({"dropout_type": "cell"}, "dropout_type"),
        ({"lib_norm": "yes"}, "lib_norm"),
    ],
)
def test_bad_parameters(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SplatParameters(**kwargs)


def test_parameters_are_frozen_and_compare():
    assert SplatParameters(de_prob=[0.1, 0.2]) == SplatParameters(de_prob=np.array([0.1, 0.2]))
    assert hash(SplatParameters(bcv_common=np.float32(0.5))) == hash(SplatParameters(bcv_common=0.5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        SplatParameters().bcv_common = 1
