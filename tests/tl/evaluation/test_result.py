"""One evaluation: computed once, then shown, drawn and saved."""

import json

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scmimic as sm
from scmimic._report import _page
from scmimic.tl.evaluation import _run

SMALL = {"n_trees": 4, "n_comps": 5, "n_jobs": 1, "labels_key": "cell_type", "metrics": ["rf_auc_genes", "mmd"]}


@pytest.fixture(scope="module")
def cells():
    adata = sm.datasets.synthetic_counts(n_obs=450, n_vars=25, seed=1)
    train, test = adata[:250].copy(), adata[250:].copy()
    counts = test.obs["cell_type"].value_counts()
    synthetic = sm.baselines.Multinomial(train, labels_key="cell_type").fit().generate(labels=counts, seed=0)
    return train, test, synthetic


@pytest.fixture(scope="module")
def evaluation(cells):
    train, test, synthetic = cells
    return sm.evaluate(test, synthetic, train=train, baselines=["multinomial"], **SMALL)


def test_nothing_is_written(cells, evaluation):
    assert not cells[1].uns
    assert not cells[1].obsm
    assert evaluation.adata is cells[1]
    assert set(evaluation.seconds) == {"rf_auc_genes", "mmd"}
    assert set(evaluation.curves["rf_auc_genes"]) == {"synthetic", "replicate", "multinomial"}


def test_tool_and_object_have_one_table(cells, evaluation):
    train, test, synthetic = (adata.copy() for adata in cells)
    table = sm.tl.evaluate(test, synthetic, train=train, baselines=["multinomial"], **SMALL)
    pd.testing.assert_frame_equal(table, evaluation.table)
    assert test.uns["realism"]["params"]["n_trees"] == evaluation.params["n_trees"] == 4


def test_it_says_the_verdict_and_the_strictest_numbers(evaluation):
    lines = repr(evaluation).splitlines()
    assert lines[0] == "Evaluation of 200 synthetic against 200 real cells, 25 genes"
    assert lines[1] == evaluation.verdict.headline
    assert [line.split()[0] for line in lines[2:5]] == ["Valid?", "Close?", "New?"]
    row = evaluation.table.set_index(["metric", "label"]).loc[("rf_auc_genes", "overall")]
    assert lines[-1].startswith("Forest AUC, genes")
    assert f"{row['value']:.2f}" in lines[-1]
    assert len(lines) < 10


def test_without_a_forest_there_are_no_strictest_numbers(cells):
    _, test, synthetic = cells
    found = sm.evaluate(test, synthetic, baselines=(), **SMALL | {"metrics": "mmd"})
    assert len(repr(found).splitlines()) == 5


def test_it_is_drawn_as_its_table_is(evaluation):
    fig, ax = plt.subplots()
    assert evaluation.plot(ax=ax, per_label=False, title="mine", return_fig=True) is fig
    assert ax.get_title() == "mine"
    expected = sm.pl.report(evaluation.table, per_label=False, show=False)
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in (ax, expected)]
    assert labels[0] == labels[1]
    plt.close("all")


def test_a_page_of_it_measures_nothing_again(evaluation, tmp_path, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr(_page, "run", work)
    monkeypatch.setattr(_run, "prepare_data", work)
    first = evaluation.to_html(tmp_path / "first.html", basis=None)
    second = sm.report(evaluation, path=tmp_path / "second.html", basis=None, title="Mine")
    texts = [path.read_text(encoding="utf-8") for path in (first, second)]
    assert evaluation.verdict.headline in texts[0]
    assert "<h1>Mine</h1>" in texts[1]
    with pytest.raises(FileExistsError, match="overwrite"):
        evaluation.to_html(first, basis=None)


def test_pages_of_both_ways_are_the_same(cells, evaluation, tmp_path):
    train, test, synthetic = cells
    settings = {"train": train, "baselines": ["multinomial"], **SMALL}
    at_once = sm.report(test, synthetic, tmp_path / "a.html", basis=None, **settings)
    later = evaluation.to_html(tmp_path / "b.html", basis=None)
    pages = [path.read_text(encoding="utf-8") for path in (at_once, later)]
    # all but when they were made and how long that took
    same = [[line for line in page.splitlines() if "Made " not in line and "seconds of" not in line] for page in pages]
    assert same[0] == same[1]


@pytest.mark.parametrize("more", [{"synthetic": "page.html"}, {"labels_key": "cell_type"}, {"seed": 1}])
def test_a_finished_evaluation_takes_no_more(evaluation, tmp_path, more):
    with pytest.raises(TypeError, match="finished evaluation has its cells and settings"):
        sm.report(evaluation, path=tmp_path / "page.html", **more)
    assert not list(tmp_path.iterdir())


def test_a_page_does_not_replace_the_files_of_the_cells(cells, tmp_path):
    train, test, synthetic = cells
    test.write_h5ad(tmp_path / "cells.html")
    backed = ad.read_h5ad(tmp_path / "cells.html", backed="r")
    found = sm.evaluate(backed, synthetic, baselines=(), **SMALL | {"metrics": "mmd"})
    with pytest.raises(ValueError, match="file of `adata`"):
        found.to_html(tmp_path / "cells.html", overwrite=True, basis=None)
    with pytest.raises(ValueError, match="must end in"):
        found.to_html(tmp_path / "page.h5ad")


def test_programs_read_it(cells, evaluation, tmp_path):
    path = evaluation.to_json(tmp_path / "all.json")
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    verdict = evaluation.verdict
    assert found["verdict"]["headline"] == verdict.headline and found["verdict"]["is_meaningful"] is True
    assert [one["answer"] for one in found["verdict"]["answers"]] == [one.answer for one in verdict.answers]
    assert found["verdict"]["score"] == vars(verdict.score) and verdict.score.metric == "rf_auc_genes"
    assert (found["alarms"], found["faults"]) == (evaluation.alarms, evaluation.faults)
    overall = evaluation.table[evaluation.table["label"] == "overall"]
    assert [row["metric"] for row in found["table"]] == overall["metric"].tolist()
    for column in ("value", "low", "score", "n_real"):
        read = pd.Series([row[column] for row in found["table"]], dtype=float)
        np.testing.assert_array_equal(read, overall[column].to_numpy(dtype=float))
    # a number that is not there
    assert any(row["score"] is None for row in found["table"])
    assert (found["params"]["n_trees"], found["params"]["layer"]) == (4, None)
    with pytest.raises(FileExistsError, match="overwrite"):
        evaluation.to_json(path)
    assert evaluation.to_json(path, overwrite=True) == path
    with pytest.raises(ValueError, match=r"must end in \.json"):
        evaluation.to_json(tmp_path / "all.csv")
    assert [one.name for one in tmp_path.iterdir()] == ["all.json"]


def test_predicted_cells_are_told_of(cells):
    """The generator's own word, not that of the trivial generators which have seen what it had not."""
    _, test, synthetic = cells
    predicted = synthetic.copy()
    predicted.obs["seen"] = np.arange(predicted.n_obs) < 20
    with pytest.warns(UserWarning, match=r"90 % of the synthetic cells .* `baselines=\(\)`.*holdout_arithmetic"):
        found = sm.evaluate(test, predicted, baselines=["multinomial"], **SMALL)
    assert found.verdict.headline.startswith("Predicted cells")
    found = sm.evaluate(test, predicted, baselines=(), **SMALL)
    assert "Measured, but without a scale" in found.verdict.headline and not found.alarms


def test_repeats_are_seen_among_all_cells(cells, tmp_path, monkeypatch):
    """Sides of equal numbers hold few relatives; all synthetic cells, beside all real ones, show them."""
    train, test, _ = cells
    # 1,000 cells, each of a parent with a few counts more
    rng = np.random.default_rng(0)
    parents = train[rng.integers(40, size=1000)]
    repeated = ad.AnnData(parents.X.toarray() + rng.poisson(0.1, parents.shape), obs=parents.obs, var=train.var)
    repeated.obs_names_make_unique()
    settings = SMALL | {"metrics": ["self_distance_ratio", "mmd"], "train": train, "baselines": ["multinomial"]}
    with pytest.warns(UserWarning, match="the generator repeats some cells"):
        found = sm.evaluate(test, repeated, max_cells=150, **settings)
    rows = found.table[found.table["metric"] == "self_distance_ratio"].set_index("label")
    assert (rows.loc["overall", ["n_real", "n_synthetic"]] == [300, 1000]).all()
    assert rows.loc["overall", "value"] < 0.75
    assert rows.loc["overall", "low"] < rows.loc["overall", "value"] < rows.loc["overall", "high"] < 0.95
    assert rows.loc["overall", "replicate"] == pytest.approx(1, abs=0.15)
    assert rows["score"].isna().all() and (rows["trivial"] == "").all()
    types = rows.drop("overall")
    assert types["value"].notna().any() and types["value"].dropna().max() < 0.9
    assert types["n_synthetic"].sum() == 1000
    assert "the generator repeats" in found.verdict.answers[1].detail
    curves = found.curves["self_distance_ratio"]
    assert curves["synthetic"].ratio == rows.loc["overall", "value"]
    assert curves["replicate"].ratio == rows.loc["overall", "replicate"]
    pages = []
    monkeypatch.setattr("scmimic.pl.self_distance", lambda results, **_: pages.append(results) or plt.figure())
    found.to_html(tmp_path / "page.html", basis=None)
    assert list(pages[0]) == ["synthetic cells", "other real cells"]
    # new cells, as many
    new = sm.baselines.IndependentNB(train, labels_key="cell_type").fit().generate(1000, seed=0)
    good = sm.evaluate(test, new, max_cells=150, **settings).table.set_index(["metric", "label"])
    assert good.loc[("self_distance_ratio", "overall"), "value"] > 0.9


def test_cells_with_mixed_up_labels_do_not_pass(cells):
    """Of the right expression, each under the label of another: forests on all cells cannot tell."""
    train, test, _ = cells
    synthetic = train[:200].copy()
    asked = SMALL | {"metrics": ["rf_auc_genes", "label_agreement"]}
    fair = sm.evaluate(test, synthetic, train=train, baselines=["multinomial"], **asked)
    assert "labels are mixed up" not in fair.verdict.answers[0].detail
    mixed = np.random.default_rng(0).permutation(synthetic.obs["cell_type"].to_numpy())
    synthetic.obs["cell_type"] = pd.Categorical(mixed, categories=test.obs["cell_type"].cat.categories)
    verdict = sm.evaluate(test, synthetic, train=train, baselines=["multinomial"], **asked).verdict
    assert verdict.answers[0].answer == "no"
    assert "labels are mixed up" in verdict.answers[0].detail
