"""The gallery of the documentation has a picture of every plot."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

import scmimic.pl as pl

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "_static" / "gallery"


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_draws_every_plot(gallery):
    assert sorted(gallery.PICTURES) == sorted(pl.__all__)
    assert gallery.FOLDER == FOLDER


def test_page_shows_every_plot():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\{func\}`scmimic\.pl\.(\w+)`", page)) == sorted(pl.__all__)
    assert sorted(re.findall(r"_static/gallery/(\w+)\.png", page)) == sorted(pl.__all__)
    assert page.count(":alt:") == len(pl.__all__)
    assert "\ngallery\n" in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pl.__all__)
def test_picture_is_there_and_small(name):
    path = FOLDER / f"{name}.png"
    assert path.stat().st_size <= 60 * 1024
    with Image.open(path) as image:
        assert min(image.size) > 150


def test_no_picture_is_left_over():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.png" for name in pl.__all__}
