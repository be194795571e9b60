"""Bars: where somebody watches, after a while, in the style of scvi-tools, and gone at the end."""

import io
import sys
from contextlib import redirect_stdout

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
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)


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
        sm.report(cells, new, tmp_path / "page.html", metrics="mmd", basis=None)
        assert "Evaluating" in shown.getvalue() and "Drawing" in shown.getvalue()
    with redirect_stdout(Terminal()) as shown:
        model.generate(60, seed=0, silent=True)
        model.train(max_epochs=1, enable_progress_bar=False)
    assert shown.getvalue() == ""
