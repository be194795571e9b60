import logging
import sys
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import false_discovery_control, mannwhitneyu

import scmimic as sm
from scmimic.cells import Perturbed
from scmimic.tl._evaluate_perturbation import _target_genes
from scmimic.tl.perturbation import TITLES, PerturbationScale, Preset
from scmimic.tl.perturbation._scale import Measured

N_GENES = 60
PDS, EXPRESSION, FIDELITY, REACH, JACCARD, FOLD_CHANGES = TITLES
KEYS = {"perturbation_key": "pert", "control": "ctrl"}


def simulate(n_cells=60, n_perturbations=4, n_changed=24, seed=0):
    """Perturbations that change genes of their own, and twice as many control cells."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(3, 2, N_GENES)
    counts, names = [], []
    for i in range(n_perturbations + 1):
        factors = np.ones(N_GENES)
        if i:
            changed = rng.choice(N_GENES, n_changed, replace=False)
            factors[changed] = np.exp(rng.choice([-1, 1], n_changed) * rng.uniform(0.4, 1.2, n_changed))
        n = n_cells if i else 2 * n_cells
        counts.append(rng.poisson(base * factors * rng.gamma(20, 0.05, (n, 1))))
        names += [f"p{i}" if i else "ctrl"] * n
    obs = pd.DataFrame({"pert": names}, index=[f"c{i}" for i in range(len(names))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
    return ad.AnnData(sp.csr_matrix(np.vstack(counts).astype(np.float32)), obs=obs, var=var)


def control_cells(adata):
    """All control cells as the prediction of every perturbation."""
    control = adata[adata.obs["pert"] == "ctrl"]
    names = [name for name in adata.obs["pert"].unique() if name != "ctrl"]
    parts = ad.concat([control] * len(names), index_unique="-")
    parts.obs["pert"] = np.repeat(names, control.n_obs)
    return parts


@pytest.fixture(scope="module")
def experiment():
    """Real cells, and their other half."""
    whole = simulate()
    return whole[::2].copy(), whole[1::2].copy()


@pytest.fixture(scope="module")
def evaluated(experiment):
    """Cells with results of a repetition, of the real cells themselves, and of control cells."""
    pytest.importorskip("cell_eval2")
    real, other = experiment
    adata = real.copy()
    predictions = {"repeated": other, "itself": real, "control cells": control_cells(real)}
    table = sm.tl.evaluate_perturbation(adata, predictions, **KEYS, n_splits=2)
    pd.testing.assert_frame_equal(table, adata.uns["evaluate_perturbation"]["results"])
    return adata


def scores(adata, method):
    table = adata.uns["evaluate_perturbation"]["results"]
    return table[table["method"] == method].set_index("metric")


def each(adata, method, metric):
    table = adata.uns["evaluate_perturbation"]["perturbations"]
    return table[(table["method"] == method) & (table["metric"] == metric)].set_index("perturbation")["value"]


def test_metrics_are_those_of_the_challenge():
    pytest.importorskip("cell_eval2")
    from cell_eval2.competition import competition_members, rule_config_hash
    from cell_eval2.config import EvalConfig

    assert set(TITLES) == set(competition_members())
    # what is set for every use moves no number of the challenge
    preset = Preset.of("non-targeting", {}, None)
    assert rule_config_hash(preset.config) == rule_config_hash(EvalConfig.from_preset("vcc2026"))
    assert preset.changed == {}


def test_a_repeated_experiment_comes_near_one(evaluated):
    table = scores(evaluated, "repeated")
    assert (table["score"] > 0.75).all()
    assert 0.9 < table.loc["overall", "score"] < 1.8
    assert table.loc["overall", "score"] == pytest.approx(table["score"].drop("overall").mean())
    assert (table["note"] == "").all()
    assert table["n_perturbations"].tolist() == [4] * 6 + [0]
    # what cell-eval2 says is heard again
    assert logging.getLogger("cell_eval2").level == logging.NOTSET


def test_the_truth_itself_has_the_best_values(evaluated):
    table = scores(evaluated, "itself")
    for metric in (PDS, FIDELITY, REACH, JACCARD):
        assert table.loc[metric, "value"] == 1
    assert table.loc[FOLD_CHANGES, "value"] == 0
    # cut to 1
    assert table.loc[EXPRESSION, "score"] == 1
    assert (table["score"] >= 1).all()


def test_control_cells_have_what_follows_from_no_effect(evaluated):
    table = scores(evaluated, "control cells")
    expected = {PDS: 0.5, FIDELITY: 0.0, JACCARD: 0.0, FOLD_CHANGES: 1.0}
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(value)
    # the mean response knows no perturbation either
    assert table.loc[PDS, "baseline"] == 0.5
    assert table.loc[PDS, "score"] == pytest.approx(0)
    # nearer than the mean response to none: cut to 0
    assert table.loc[EXPRESSION, "value"] > 1
    assert table.loc[EXPRESSION, "score"] == 0


def test_scores_lie_between_baseline_and_replicate(evaluated):
    table = evaluated.uns["evaluate_perturbation"]["results"]
    table = table[(table["metric"] != "overall") & (table["metric"] != EXPRESSION)]
    line = (table["value"] - table["baseline"]) / (table["replicate"] - table["baseline"])
    np.testing.assert_allclose(table["score"], line)
    shared = table.groupby("metric")[["baseline", "replicate"]].nunique()
    assert (shared == 1).all(axis=None)


def changed_genes(cells, control):
    """Changed genes by a rank test of SciPy's, and log fold changes."""
    genes = control.mean(axis=0) > 5
    p = mannwhitneyu(cells, control, axis=0, method="asymptotic", use_continuity=False).pvalue
    significant = np.zeros(cells.shape[1], dtype=bool)
    significant[genes] = false_discovery_control(p[genes]) < 0.05
    return significant, np.log2(cells.mean(axis=0) / control.mean(axis=0))


def test_changed_genes_are_those_of_scipy(evaluated, experiment):
    x, y = (side.X.toarray() / side.X.toarray().sum(axis=1, keepdims=True) * 1e6 for side in experiment)
    names = experiment[0].obs["pert"].to_numpy()
    jaccard, error = each(evaluated, "repeated", JACCARD), each(evaluated, "repeated", FOLD_CHANGES)
    for name in ("p1", "p2", "p3", "p4"):
        control = x[names == "ctrl"]
        # the real control cells serve both sides
        (real, true), (predicted, found) = (
            changed_genes(x[names == name], control),
            changed_genes(y[names == name], control),
        )
        assert 10 <= real.sum() < N_GENES
        assert jaccard[name] == pytest.approx((real & predicted).sum() / (real | predicted).sum())
        nmae = np.abs(found - true)[real].sum() / np.abs(true)[real].sum()
        assert error[name] == pytest.approx(nmae, rel=1e-5)


def profile(counts):
    return np.log1p(5e4 * counts / counts.sum(axis=-1, keepdims=True))


def test_size_of_the_effect_by_leaving_out_each_cell(evaluated, experiment):
    x, names = experiment[0].X.toarray().astype(float), experiment[0].obs["pert"].to_numpy()
    noise, bulk = {}, {}
    for name in np.unique(names):
        cells = x[names == name]
        bulk[name] = profile(cells.sum(axis=0))
        without = profile(cells.sum(axis=0) - cells)
        noise[name] = (len(cells) - 1) / len(cells) * np.square(without - without.mean(axis=0)).sum()
    found = each(evaluated, "itself", "expr_distance_unbiased")
    for name in ("p1", "p2", "p3", "p4"):
        distance = np.square(bulk[name] - bulk["ctrl"]).sum() - noise[name] - noise["ctrl"]
        assert found[name] == pytest.approx(distance / N_GENES, rel=1e-4)


def test_same_as_the_challenges_own_way(evaluated, experiment, tmp_path):
    """By its files: a bundle of the reference, and an aggregate that is scored against it."""
    import cell_eval2
    from cell_eval2.baseline import build_baseline_prediction, build_run_meta, generic_response_profile
    from cell_eval2.real_bundle import build_real_bundle

    real, other = (side.copy() for side in experiment)
    other = ad.concat([other[other.obs["pert"] != "ctrl"], real[real.obs["pert"] == "ctrl"]])
    config = replace(Preset.of("ctrl", {}, {"*": None}).config, pert_col="pert", cache_strict=True)
    about = {"pert_col": "pert", "control": "ctrl"}
    response = generic_response_profile(real, **about, target_gene_map={"*": None})
    baseline = build_baseline_prediction(response, real, **about, emit="tile")
    bundle = tmp_path / "bundle"
    build_real_bundle(real, baseline, config=config, outdir=str(bundle), bundle_id="x", base_seed=0, n_splits=2)
    values = cell_eval2.compute_metrics(other, real, config=config)
    wide = cell_eval2.aggregate_metrics_wide(values, metrics=cell_eval2.run.metric_output_names(config))
    official = cell_eval2.score_metrics(wide, real_bundle=str(bundle), user_meta=build_run_meta(config, real, other))
    expected = dict(zip(official["metric"], official["from_replicate"], strict=True))
    table = scores(evaluated, "repeated")["score"]
    for metric in TITLES:
        assert table[metric] == pytest.approx(expected[metric]), metric
    assert table["overall"] == pytest.approx(expected["avg_score"])


def test_contexts_are_measured_apart_and_averaged(experiment):
    pytest.importorskip("cell_eval2")
    sides = []
    for i, first in enumerate(experiment):
        second = simulate(n_perturbations=2, seed=5)[i::2].copy()
        sides.append(ad.concat({"a": first, "b": second}, label="line", index_unique="-"))
    settings = KEYS | {"n_splits": 1, "seed": 3}
    table = sm.tl.evaluate_perturbation(*sides, context_key="line", **settings).set_index(["context", "metric"])
    alone = [side[side.obs["line"] == "b"].copy() for side in sides]
    single = sm.tl.evaluate_perturbation(*alone, **settings).set_index("metric")
    for column in ("score", "value", "baseline", "replicate"):
        np.testing.assert_allclose(table.loc["b"][column], single[column])
    np.testing.assert_allclose(table.loc["overall", "score"], (table.loc["a", "score"] + table.loc["b", "score"]) / 2)
    assert list(table.index.get_level_values("context").unique()) == ["a", "b", "overall"]


def test_one_perturbation_takes_a_baseline_of_its_own(experiment):
    pytest.importorskip("cell_eval2")
    real, other = (side[side.obs["pert"].isin(["ctrl", "p1"])].copy() for side in experiment)
    with pytest.raises(ValueError, match="one perturbation, 'p1'.*`baseline=cells`"):
        sm.tl.evaluate_perturbation(real, other, **KEYS)
    zero = control_cells(real)
    table = sm.tl.evaluate_perturbation(real, {"a": other, "0": zero}, **KEYS, baseline=zero, n_splits=1)
    table = table.set_index(["method", "metric"])
    assert "no other perturbation" in table.loc[("a", PDS), "note"]
    assert np.isnan(table.loc[("a", PDS), "score"])
    assert table.loc[("a", "overall"), "note"] == "without perturbations told apart"
    assert table.loc[("a", "overall"), "score"] > 0.8
    # the baseline as a prediction
    np.testing.assert_allclose(table.loc["0", "score"].drop(PDS), 0, atol=1e-12)
    # each context has its own part of it
    for cells in (real, zero):
        cells.obs["line"] = np.where(np.arange(cells.n_obs) % 2, "a", "b")
    table = sm.tl.evaluate_perturbation(real, zero, **KEYS, context_key="line", baseline=zero, n_splits=1)
    known = table["score"].dropna()
    assert len(known) > 10
    np.testing.assert_allclose(known, 0, atol=1e-12)


def test_own_genes_are_left_out_and_changes_are_told():
    """Perturbations that move their own gene alone."""
    pytest.importorskip("cell_eval2")
    rng = np.random.default_rng(0)
    names = np.repeat(["ctrl", "p1", "p2", "p3"], [60, 30, 30, 30])
    mean = np.full((150, N_GENES), 6.0)
    for i in (1, 2, 3):
        mean[names == f"p{i}", i] *= 6
    real = ad.AnnData(
        rng.poisson(mean).astype(np.float32), obs=pd.DataFrame({"pert": names}, index=map(str, range(150)))
    )
    genes = {"p1": "1", "p2": "2", "p3": None}
    table = sm.tl.evaluate_perturbation(
        real,
        control_cells(real),
        **KEYS,
        target_genes=genes,
        n_splits=1,
        changes={"filter.filter_gene_min_cpm_cell": 0.0, "de.p_adj_threshold": 0.01, "de.fdr_scope": "per_pert"},
    )
    # of the first two nothing is left to be found; in the third the gene is missed
    assert each(real, "predicted", JACCARD).to_dict() == {"p1": 1.0, "p2": 1.0, "p3": 0.0}
    record = real.uns["evaluate_perturbation"]
    # the last of the changes is none
    assert record["changed"] == {
        "filter.filter_gene_min_cpm_cell": 0.0,
        "de.p_adj_threshold": 0.01,
        "target_gene_map": {"p1": "1", "p2": "2", "p3": "None"},
    }
    table = table.set_index("metric")
    assert "ten genes" in table.loc[FOLD_CHANGES, "note"]
    assert "error of fold changes" in table.loc["overall", "note"]


@pytest.mark.parametrize(("baseline", "told"), [(0.55, True), (0.85, True), (0.45, False), (0.95, False)])
def test_scales_that_are_short_for_their_spread(baseline, told):
    scale = object.__new__(PerturbationScale)
    scale._replicates = {PDS: (0.7, 0.1)}
    scale._baseline = Measured({PDS: baseline}, pd.DataFrame())
    assert ("less than twice" in scale._remark(PDS)) == told


def test_without_any_effect_there_is_no_scale():
    pytest.importorskip("cell_eval2")
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"pert": np.repeat(["ctrl", "p1", "p2", "p3"], 30)}, index=[f"c{i}" for i in range(120)])
    # the very same cells under each name, nearer than noise lets them be
    real = ad.AnnData(np.tile(rng.poisson(3, (30, N_GENES)).astype(np.float32), (4, 1)), obs=obs)
    with pytest.raises(ValueError, match="None of the metrics has a scale.*no larger than their sampling noise"):
        sm.tl.evaluate_perturbation(real, control_cells(real), **KEYS, n_splits=1)


def test_layers_numbers_seeds_and_drawn_baselines(evaluated, experiment):
    sides = []
    for side in experiment:
        side = side.copy()
        side.obs["pert"] = side.obs["pert"].map({"ctrl": 0, "p1": 1, "p2": 2, "p3": 3, "p4": 4}).astype(int)
        sides.append(side)
    sides[0].layers["counts"], sides[0].X = sides[0].X, sides[0].X.log1p()
    sides[1].obs["pert"] = sides[1].obs["pert"].astype(float)
    settings = {"control": 0, "layer": "counts", "baseline": "dispersed", "n_splits": 1}
    first, again, other = (
        sm.tl.evaluate_perturbation(*sides, perturbation_key="pert", **settings, seed=seed).set_index("metric")
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    known = scores(evaluated, "repeated").drop("overall")
    np.testing.assert_allclose(first["value"].drop("overall"), known["value"])
    # whose genes are scaled, and whose halves are cut
    for name in ("baseline", "replicate"):
        assert first.loc[EXPRESSION, name] not in (known.loc[EXPRESSION, name], other.loc[EXPRESSION, name])


def test_genes_that_perturbations_aim_at(caplog):
    def cells(*names):
        labels = np.array(["ctrl", *names])
        return Perturbed(sp.csr_matrix((len(labels), 3)), labels, labels, pd.Index(["STAT1", "MYC", "x"]))

    # the challenge's own way, which finds names of genes
    with caplog.at_level(logging.WARNING):
        assert _target_genes(cells("STAT1", "MYC"), "ctrl", None) is None
        assert not caplog.records
        assert _target_genes(cells("STAT1", "drug"), "ctrl", None) is None
    assert "1 of 2 perturbations, such as ['drug']" in caplog.text
    assert _target_genes(cells("drug", "other"), "ctrl", None) == {"*": None}
    assert _target_genes(cells("STAT1", "MYC-2"), "ctrl", {"MYC-2": "MYC"}) == {"STAT1": "STAT1", "MYC-2": "MYC"}
    with pytest.raises(ValueError, match="`target_genes` names \\['y'\\], which are no perturbations"):
        _target_genes(cells("STAT1"), "ctrl", {"y": "MYC"})
    with pytest.raises(ValueError, match="genes \\['MYD88'\\], which `adata` has not"):
        _target_genes(cells("STAT1"), "ctrl", {"STAT1": "MYD88"})


def test_file_keeps_the_results(evaluated, tmp_path):
    evaluated.write_h5ad(tmp_path / "x.h5ad")
    found = ad.read_h5ad(tmp_path / "x.h5ad").uns["evaluate_perturbation"]
    kept = evaluated.uns["evaluate_perturbation"]
    np.testing.assert_array_equal(found["results"]["score"], kept["results"]["score"])
    assert len(found["perturbations"]) == len(kept["perturbations"])
    assert found["params"]["control"] == "ctrl"
    assert found["versions"]["cell-eval2"].startswith("0.")


def test_without_the_package(experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "cell_eval2", None)
    with pytest.raises(ImportError, match="`evaluate_perturbation` needs cell_eval2, .*extra 'cell-eval2'"):
        sm.tl.evaluate_perturbation(*experiment, **KEYS)


def without(cells, name):
    return cells[cells.obs["pert"] != name].copy()


def logged(cells):
    return ad.AnnData(cells.X.log1p(), cells.obs, cells.var)


def deep(cells):
    return ad.AnnData(cells.X * 5000, cells.obs, cells.var)


BAD = {
    "control": (lambda a, b: (a, b, {"control": "none"}), ValueError, "`control='none'`: there is no such cell"),
    "no control": (lambda a, b: (without(a, "ctrl"), b, {}), ValueError, "`control='ctrl'`: there is no such cell"),
    "control alone": (
        lambda a, b: (a[a.obs["pert"] == "ctrl"].copy(), b, {}),
        ValueError,
        "`adata` has control cells alone",
    ),
    "column": (lambda a, b: (a, b, {"perturbation_key": "x"}), KeyError, "`perturbation_key='x'`"),
    "column of predicted": (
        lambda a, b: (a, ad.AnnData(b.X, var=b.var), {}),
        KeyError,
        "no such column in `predicted.obs`",
    ),
    "context": (lambda a, b: (a, b, {"context_key": "x"}), KeyError, "`context_key='x'`"),
    "missing": (lambda a, b: (a, without(b, "p2"), {}), ValueError, r"`predicted` has no cells of \['p2'\].*1 of 4"),
    "missing of several": (
        lambda a, b: (a, {"mine": without(b, "p2")}, {}),
        ValueError,
        r"`predicted\['mine'\]` has no",
    ),
    "unknown": (lambda a, b: (without(a, "p2"), b, {}), ValueError, r"`predicted` has cells of \['p2'\]"),
    "genes": (lambda a, b: (a, b[:, :-1].copy(), {}), ValueError, "`adata` and `predicted` must have the same genes"),
    "order of genes": (lambda a, b: (a, b[:, ::-1].copy(), {}), ValueError, "in another order"),
    "logarithms": (
        lambda a, b: (a, ad.AnnData(b.X.log1p(), b.obs, b.var), {}),
        ValueError,
        "`predicted.X` holds values",
    ),
    "real logarithms": (
        lambda a, b: (ad.AnnData(a.X.log1p(), a.obs, a.var), b, {}),
        ValueError,
        "`adata.X` holds values",
    ),
    "layer": (lambda a, b: (a, b, {"layer": "x"}), KeyError, "no layer 'x'"),
    "view": (lambda a, b: (a[:100], b, {}), ValueError, "is a view"),
    "empty": (lambda a, b: (a, {}, {}), ValueError, "`predicted` is empty"),
    "kind": (lambda a, b: (a, [b], {}), TypeError, "`predicted`"),
    "kinds": (lambda a, b: (a, {"a": b.X}, {}), TypeError, "`predicted` must be an AnnData, or a dict"),
    "baseline": (lambda a, b: (a, b, {"baseline": "mean"}), ValueError, "`baseline` must be 'tile' or 'dispersed'"),
    "baseline cells": (lambda a, b: (a, b, {"baseline": without(b, "p1")}), ValueError, r"`baseline` has no cells of"),
    "setting": (lambda a, b: (a, b, {"changes": {"p_adj_threshold": 1}}), TypeError, "de.p_adj_threshold` meant"),
    "taken": (lambda a, b: (a, b, {"changes": {"metrics": "full"}}), TypeError, "does not take `metrics`: all six"),
    "few genes": (lambda a, b: (a[:, :9].copy(), b[:, :9].copy(), {}), ValueError, "9 of 9 genes have more than 5"),
    "expressed": (
        lambda a, b: (a, b, {"changes": {"filter.filter_gene_min_cpm_cell": 1e5}}),
        ValueError,
        "0 of 60 genes have more than 100000 counts per million in the control cells; ",
    ),
    "depth": (lambda a, b: (deep(a), b, {}), ValueError, "`adata` has cells of up to .*'max_counts_per_cell'"),
    "depth of predicted": (lambda a, b: (a, {"a": deep(b)}, {}), ValueError, r"`predicted\['a'\]` has cells of up"),
    "value": (
        lambda a, b: (a, b, {"changes": {"de.p_adj_threshold": 2.0}}),
        ValueError,
        "cell-eval2 does not take that",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, experiment):
    pytest.importorskip("cell_eval2")
    make, error, message = BAD[case]
    real, predicted, settings = make(*experiment)
    with pytest.raises(error, match=message):
        sm.tl.evaluate_perturbation(real, predicted, **KEYS | settings)


def test_too_few_cells(experiment):
    pytest.importorskip("cell_eval2")
    real, other = experiment
    last = real.obs_names[real.obs["pert"] == "p4"]
    with pytest.raises(ValueError, match=r"fewer than 4 cells of \['p4'\]"):
        sm.tl.evaluate_perturbation(real[~real.obs_names.isin(last[3:])].copy(), other, **KEYS)
    last = other.obs_names[other.obs["pert"] == "p4"]
    with pytest.raises(ValueError, match=r"a single cell of \['p4'\]"):
        sm.tl.evaluate_perturbation(real, other[~other.obs_names.isin(last[1:])].copy(), **KEYS)


def test_contexts_must_be_whole(experiment):
    pytest.importorskip("cell_eval2")
    real, other = (side.copy() for side in experiment)
    real.obs["line"] = np.where(real.obs["pert"] == "p1", "b", "c")
    with pytest.raises(ValueError, match="no control cell in the context 'b'"):
        sm.tl.evaluate_perturbation(real, other, **KEYS, context_key="line")
    real.obs["line"] = ["a", "b"] * (real.n_obs // 2)
    other.obs["line"] = "c"
    with pytest.raises(ValueError, match=r"`predicted` has the contexts \['c'\]"):
        sm.tl.evaluate_perturbation(real, other, **KEYS, context_key="line")
    real.obs["line"] = ["overall", "b"] * (real.n_obs // 2)
    with pytest.raises(ValueError, match="called 'overall'"):
        sm.tl.evaluate_perturbation(real, other, **KEYS, context_key="line")
