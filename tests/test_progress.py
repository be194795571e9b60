"""Bars: where somebody watches, after a while, in the style of scvi-tools, and gone at the end."""

import io
import logging
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
import rich.progress
import scvi

import scmimic as sm
from scmimic import _progress
from scmimic._progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0)


def steps(stream=None, **settings):
    """What is shown of a work of four steps."""
    with redirect_stdout(stream or Terminal()) as shown, progress(4, "Working", **settings) as advance:
        for _ in range(4):
            advance(1)
    return shown.getvalue()


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_a_bar_on_a_terminal(monkeypatch, style):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", style)
    assert "Working" in steps()
    monkeypatch.setattr(_progress, "DELAY", 1000)
    assert "Working" not in steps()


def one_long_step(stream):
    """What is shown of a work whose only step takes long, and that turns the streams elsewhere meanwhile."""
    with redirect_stdout(stream) as shown:
        with progress(None, "Working"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            time.sleep(0.3)
        assert sys.stdout is shown
    return shown.getvalue()


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_a_bar_within_a_long_step(monkeypatch, style):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", style)
    assert "Working" in one_long_step(Terminal())
    monkeypatch.setattr(_progress, "DELAY", 1000)
    assert "Working" not in one_long_step(Terminal())


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_a_bar_names_the_step(monkeypatch, style):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", style)
    with redirect_stdout(Terminal()) as shown, progress(2, "Working") as advance:
        for name in ("first", "second"):
            advance(0, name)
            time.sleep(0.3)
            advance(1)
    assert shown.getvalue().index("Working (first)") < shown.getvalue().index("Working (second)")


def test_a_bar_is_gone_at_the_end():
    *_, last = one_long_step(Terminal()).split("\r")
    assert last.strip() == ""


def test_lines_where_nobody_watches(monkeypatch, caplog):
    monkeypatch.setattr(_progress, "_LINES", 0.05)
    with caplog.at_level(logging.INFO, "scmimic"), redirect_stdout(io.StringIO()), progress(4, "Working") as advance:
        advance(3, "the last")
        time.sleep(0.2)
    *_, within, last = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"Working \(the last\): 3 of 4, \d s", within) and re.fullmatch(r"Working: done, \d s", last)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "scmimic"):
        one_long_step(io.StringIO())
    monkeypatch.setattr(_progress, "DELAY", 1000)
    with caplog.at_level(logging.INFO, "scmimic"):
        one_long_step(io.StringIO())
    assert not caplog.records


def test_a_bar_beside_another(monkeypatch):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", "rich")
    with redirect_stdout(Terminal()), rich.progress.Progress():
        assert "Working" in steps()


def test_no_bar_that_nobody_wants(monkeypatch):
    assert steps(silent=True) == ""
    assert steps(io.StringIO()) == ""
    monkeypatch.setattr(type(scvi.settings), "verbosity", 30)
    assert steps() == ""


def test_what_takes_long_has_a_bar(tmp_path):
    cells = sm.datasets.synthetic_counts(n_obs=120, n_vars=20, seed=0)
    sm.ACTIVA.setup_anndata(cells, labels_key="cell_type")
    model = sm.ACTIVA(cells, n_latent=2, n_hidden=(8,))
    with redirect_stdout(Terminal()) as shown:
        model.train(max_epochs=2, warmup_epochs=1)
        assert "Calibrating" in shown.getvalue()
        new = model.generate(60, path=tmp_path / "new.h5ad", seed=0).to_memory()
        assert "Generating cells" in shown.getvalue()
        sm.report(cells, new, tmp_path / "page.html", metrics="rf_auc_genes", basis=None)
        assert "Evaluating (rf_auc_genes)" in shown.getvalue() and "Drawing" in shown.getvalue()
        model.differential_expression(groupby="cell_type", group1="type_0")
        assert "Comparing" in shown.getvalue() and "DE..." not in shown.getvalue()
        sm.tl.joint_embedding(cells, new, basis="tsne")
        assert "Embedding" in shown.getvalue()
    with redirect_stdout(Terminal()) as shown:
        model.generate(60, seed=0, silent=True)
        model.train(max_epochs=1, enable_progress_bar=False)
        model.differential_expression(groupby="cell_type", group1="type_0", silent=True)
    assert shown.getvalue() == ""


def test_reference_generators_have_bars():
    cells = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    with redirect_stdout(Terminal()) as shown:
        sm.baselines.GaussianCopula(cells, labels_key="cell_type").fit().generate(10, seed=0)
        assert "Fitting GaussianCopula" in shown.getvalue() and "Generating" in shown.getvalue()
    with redirect_stdout(Terminal()) as shown:
        reference = sm.baselines.SCVIReference(cells, labels_key=None, max_epochs=20).fit()
        assert re.search(r"Training scVI: .* [1-9]\d*/20 ", shown.getvalue()) and "Fitting" not in shown.getvalue()
    with redirect_stdout(Terminal()) as shown:
        reference.train_kwargs["enable_progress_bar"] = True
        reference.fit()
        assert "Training scVI" not in shown.getvalue()
