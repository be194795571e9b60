import json

import anndata as ad
import pytest
from typer.testing import CliRunner

import scmimic as sm
from scmimic import _demo
from scmimic._cli import app
from scmimic._report._page import _number


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    lines = []
    folder = tmp_path_factory.mktemp("demo") / "new"
    result = _demo.run_demo(folder, epochs=2, n_trees=10, seed=1, report=lines.append)
    return result, lines


def test_files(demo):
    result, lines = demo
    assert len(lines) == 4
    assert {path.name for path in result.files.values()} == {
        *("synthetic.h5ad", "embedding.png", "roc.png", "training.png", "summary.md", "summary.json", "report.html")
    }
    for path in result.files.values():
        assert path.stat().st_size > 0
        if path.suffix == ".png":
            assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_as_many_cells_of_each_type_as_held_out(demo):
    result, _ = demo
    real = sm.datasets.pbmc68k_reduced()
    sm.pp.balanced_split(real, _demo.LABELS_KEY, test_size=_demo.TEST_SIZE, seed=1)
    expected = real.obs.loc[real.obs["split"] == "test", _demo.LABELS_KEY].value_counts().to_dict()
    synthetic = ad.read_h5ad(result.files["synthetic cells"])
    assert synthetic.obs[_demo.LABELS_KEY].value_counts().to_dict() == expected
    assert list(synthetic.var_names) == list(real.var_names)
    assert result.n_test == synthetic.n_obs
    assert result.n_train + result.n_test == real.n_obs


def test_scores(demo):
    result, _ = demo
    scores = {score.source: score for score in result.scores}
    assert list(scores) == [_demo.MODEL, _demo.REPLICATE, _demo.TRIVIAL]
    assert scores[_demo.REPLICATE].auc < scores[_demo.MODEL].auc
    assert all(0 <= s.auc <= 1 and 0 <= s.error <= 100 for s in scores.values())
    assert all(s.auc_interval[0] < s.auc < s.auc_interval[1] for s in scores.values())
    assert scores[_demo.REPLICATE].copy_ratio == pytest.approx(1, abs=0.1)
    assert scores[_demo.TRIVIAL].copy_ratio is None


def test_one_number_has_one_name(demo):
    """The page has the numbers of the summary, and no second set of them."""
    result, _ = demo
    page = result.files["report"].read_text()
    for score in result.scores:
        for value in (score.auc, score.error, score.copy_ratio):
            assert value is None or f">{_number(value)}<" in page


def test_summaries_agree(demo):
    result, _ = demo
    values = json.loads(result.files["summary for programs"].read_text())
    assert [row["auc"] for row in values["scores"]] == [score.auc for score in result.scores]
    assert values["scores"][2]["copy_ratio"] is None
    assert values["epochs"] == result.epochs == 2
    text = result.files["summary"].read_text()
    for row in _demo.table(result)[1]:
        assert "| " + " | ".join(row) + " |" in text


def test_command_shows_the_table(demo, tmp_path, monkeypatch):
    result, _ = demo
    monkeypatch.setattr(_demo, "run_demo", lambda *args, **kwargs: result)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert all(cell in done.stdout for row in _demo.table(result)[1] for cell in row)
    assert "summary.md" in done.stdout


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"n_trees": 0}])
def test_bad_arguments(wrong, tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        _demo.run_demo(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
