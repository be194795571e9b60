import html
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import scmimic as sm
from scmimic._report._page import _number

EVIL = '<script>alert("x")</script> & co'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def agg():
    with mpl.rc_context({"backend": "Agg"}):
        yield
        plt.close("all")


class Page(HTMLParser):
    """Tags, addresses and text of a page; complains about tags that are not closed."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report on cells whose types and genes have names that must be escaped."""
    cells = sm.datasets.synthetic_counts(n_obs=400, n_vars=25, seed=2)
    cells.obs["type"] = cells.obs["cell_type"].cat.rename_categories({"type_1": EVIL})
    cells.var_names = [f"<b>gene_{i}" for i in range(cells.n_vars)]
    train, test = cells[:220].copy(), cells[220:].copy()
    counts = test.obs["type"].value_counts()
    synthetic = sm.baselines.Multinomial(train, labels_key="type").fit().generate(labels=counts, seed=0)
    path = tmp_path_factory.mktemp("report") / "page.html"
    found = sm.report(
        test,
        synthetic,
        path,
        labels_key="type",
        train=train,
        title=f"Title {EVIL}",
        basis="pca",
        # the simulated cells are draws of independent genes: only this generator leaves room for a score
        baselines=["multinomial"],
        n_trees=2,
        n_comps=8,
        max_cells=150,
        n_jobs=1,
    )
    assert found == path
    assert not test.uns
    assert not test.obsm
    return path


def test_page_is_whole_and_says_what_it_must(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert not page.open
    text = " ".join(page.text)
    for part in ("Valid?", "Close?", "New?", "Cell types", "Pictures", "Parameters and versions"):
        assert part in text
    order = [text.index(part) for part in ("Of a real and a synthetic cell", "The diagnostic", "The quality", "Copies")]
    assert order == sorted(order)
    assert sm.__version__ in text
    assert page.tags.count("img") == 6
    for metric in ("Forest AUC, genes", "MMD²", "Distance to closest training cell, ratio"):
        assert metric in text


def test_page_holds_everything_itself(written):
    source = written.read_text(encoding="utf-8")
    page = Page(source)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"https?://|//cdn|@import|url\(", without_pictures)


def test_names_of_the_user_are_escaped(written):
    source = written.read_text(encoding="utf-8")
    assert "<script" not in source
    assert "&lt;script&gt;" in source
    assert EVIL in " ".join(Page(source).text)
    assert "<b>gene" not in source


def test_numbers_are_short():
    assert [_number(x) for x in (float("nan"), 0.0, 0.5, 12.34, 0.0421, 0.0042, 0.00001, -0.5)] == [
        *("–", "0.00", "0.50", "12.3", "0.042", "0.0042", "1.0e-05", "-0.50")
    ]


def test_bad_paths_fail_before_the_work(tmp_path, adata):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        sm.report(adata, adata, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        sm.report(adata, adata, tmp_path / "nosuch" / "page.html")
    with pytest.raises(ValueError, match="basis"):
        sm.report(adata, adata, tmp_path / "page.html", basis="pacmap")


def test_without_labels_or_training_cells(tmp_path, adata):
    path = sm.report(
        adata[:150].copy(),
        adata[150:].copy(),
        tmp_path / "page.html",
        metrics="mmd",
        baselines=(),
        basis=None,
        n_jobs=1,
    )
    text = " ".join(Page(path.read_text(encoding="utf-8")).text)
    assert "training cells were not given" in text
    assert "without a scale" in text
    assert "Cell types" not in text


def test_full_disk_leaves_the_old_page(tmp_path, adata):
    resource = pytest.importorskip("resource")
    path = tmp_path / "page.html"
    path.write_text("old")
    quick = {"metrics": "mmd", "baselines": (), "basis": None, "n_jobs": 1}
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            sm.report(adata[:150].copy(), adata[150:].copy(), path, overwrite=True, **quick)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1400, 400])
def test_browser_shows_it_without_scrolling_sideways(written, tmp_path, width):
    """In a frame, since a window of Chromium has a least width; wide pictures scroll in a box of their own."""
    probe = """<script>
    const frame = document.querySelector("iframe");
    frame.onload = () => {
      const page = frame.contentDocument, images = [...page.images];
      document.title = [page.defaultView.innerWidth, page.documentElement.scrollWidth, images.length,
        images.filter(i => i.naturalWidth > 50).length, Math.max(...images.map(i => i.width))].join(" ");
    };
    </script>"""
    text = html.escape(written.read_text(encoding="utf-8"))
    page = tmp_path / "page.html"
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{text}"></iframe>'
    page.write_text(f"<!DOCTYPE html><html><body>{frame}{probe}</body></html>", encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1600,1000", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    inner, scroll, images, loaded, widest = map(int, re.search(r"<title>([\d ]+)</title>", shown)[1].split())
    assert inner == width
    assert scroll <= inner
    assert images == loaded == 6
    # the text of a wide picture stays large enough to be read
    assert widest > 500


def test_cells_in_other_units_are_reported_without_pictures_of_them(tmp_path, adata, caplog):
    synthetic = adata[150:].copy()
    synthetic.X = synthetic.X.astype(np.float32).log1p()
    synthetic.uns["scmimic"] = {"parameters": {"units": "log1p", "layer": "log"}}
    options = {"basis": "pca", "n_trees": 2, "max_cells": 100, "n_jobs": 1}
    path = sm.report(adata[:150].copy(), synthetic, tmp_path / "page.html", **options)
    assert "The report has no pictures of cells and genes. `synthetic` holds log1p values already" in caplog.text
    assert Page(path.read_text(encoding="utf-8")).tags.count("img") >= 1
