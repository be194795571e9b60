"""Cells that are made in parts: a call that was killed goes on where it stopped, and leaves what was there whole."""

import itertools
import json
import os
import subprocess
import sys

import anndata as ad
import killed_generation
import numpy as np
import pytest
from killed_generation import ASKED, N
from small_models import fit

import scmimic as sm
from scmimic.model.generation import parts as _parts

# by the moment of the kill: parts that the next call has still to make
MISSING = {"first part": [0, 1, 2], "second part": [1, 2], "join": [], "end": []}
BEFORE = ("nothing", "old")


@pytest.fixture(scope="module")
def model():
    return fit("ACTIVA")


@pytest.fixture(scope="module")
def whole(model):
    return model.generate(**ASKED)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """What killed calls have left, by the moment of the kill and what there was before."""
    folder = tmp_path_factory.mktemp("killed")
    model.save(folder / "model")
    for moment, before in itertools.product(MISSING, BEFORE):
        (folder / moment / before).mkdir(parents=True)
        if before == "old":
            model.generate(7, seed=0, path=folder / moment / before / "cells.zarr")
    subprocess.run([sys.executable, killed_generation.__file__, folder], check=True, timeout=600)
    return folder


@pytest.fixture
def made(monkeypatch):
    """Numbers of the parts that are made."""
    numbers, make = [], _parts.Parts.make

    def noted(self, wanted):
        for number in wanted:
            numbers.append(number)
            yield from make(self, [number])

    monkeypatch.setattr(_parts.Parts, "make", noted)
    return numbers


def same(a, b):
    assert a.n_obs == b.n_obs == N
    assert (a.X != b.X).nnz == 0
    np.testing.assert_array_equal(a.obsm["X_activa"], b.obsm["X_activa"])
    assert a.obs.equals(b.obs)
    assert a.uns["scmimic"]["seed"] == b.uns["scmimic"]["seed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forks")
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("moment", MISSING)
def test_a_killed_call_goes_on_where_it_stopped(model, whole, folder, made, moment, before):
    here = folder / moment / before
    path = here / "cells.zarr"
    if moment == "end":
        same(ad.read_zarr(path), whole)
    elif before == "old":
        assert ad.read_zarr(path).n_obs == 7
    else:
        assert not path.exists()
    assert (here / "cells.zarr.unfinished").is_dir()
    model.generate(**ASKED, path=path, overwrite=before == "old" or moment == "end", resume=True)
    assert made == MISSING[moment]
    same(ad.read_zarr(path), whole)
    assert os.listdir(here) == ["cells.zarr"]


@pytest.mark.parametrize("name", ["ACTIVA", "MichiGAN", "WGANGP"])
@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_parts_are_the_cells_of_one_call(tmp_path, name, ending):
    model = fit(name)
    path = tmp_path / f"new.{ending}"
    stored = model.generate(4500, seed=1, path=path, resume=True)
    one = model.generate(4500, seed=1)
    read = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
    assert (read.X != one.X).nnz == 0
    assert read.obs.equals(one.obs)
    assert (stored[:3].to_memory().X != one.X[:3]).nnz == 0
    assert os.listdir(tmp_path) == [path.name]


def test_rows_keep_their_order_in_parts(model, tmp_path):
    like = model.adata.obs[["cell_type", "batch"]].sample(4200, replace=True, random_state=0)
    stored = model.generate(like=like, seed=1, path=tmp_path / "new.h5ad", resume=True)
    assert stored.obs["cell_type"].tolist() == like["cell_type"].tolist()
    assert (stored.to_memory().X != model.generate(like=like, seed=1).X).nnz == 0


@pytest.fixture
def begun(model, tmp_path, monkeypatch):
    """A place with one part of 5,000 cells."""
    make = _parts.Parts.make

    def stopped(self, numbers):
        yield from make(self, numbers[:1])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(_parts.Parts, "make", stopped)
        with pytest.raises(OSError, match="disk full"):
            model.generate(5000, ["type_0", "type_1"], seed=1, path=tmp_path / "new.zarr", resume=True)
    return tmp_path / "new.zarr"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"n": 5001}, "n was 5000 and is 5001"),
        ({"labels": "type_0"}, r"labels was \{'type_0': 2500, 'type_1': 2500\} and is \{'type_0': 5000\}"),
        ({"labels": ["type_1", "type_0"]}, "rows' fingerprint was"),
        ({"codes": "posterior"}, "codes was mixture and is posterior"),
        ({"library_size": np.full(5000, 9.0)}, "library_size was modelled and is 5000 values"),
    ],
    ids=str,
)
def test_parts_of_other_cells_are_named(model, begun, asked, message):
    asked = {"n": 5000, "labels": ["type_0", "type_1"], "seed": 1} | asked
    with pytest.raises(ValueError, match=f"asked for otherwise: .*{message}.*delete that folder"):
        model.generate(**asked, path=begun, resume=True)
    assert not begun.exists()
    assert (begun.parent / "new.zarr.unfinished" / "part-000000.h5").exists()


def test_parts_of_another_model_are_named(begun):
    with pytest.raises(ValueError, match="the model's fingerprint was"):
        fit("ACTIVA", epochs=3).generate(5000, ["type_0", "type_1"], seed=1, path=begun, resume=True)


def test_parts_stay_where_a_call_does_without_them(model, begun):
    model.generate(10, seed=0, path=begun)
    assert sorted(os.listdir(begun.parent)) == ["new.zarr", "new.zarr.unfinished"]


def test_a_part_that_another_process_makes_at_the_same_time_is_not_doubled(model, whole, tmp_path, monkeypatch):
    make, path = _parts.Parts.make, tmp_path / "new.zarr"

    def twice(self, numbers):
        list(make(self, numbers))
        yield from make(self, numbers)

    monkeypatch.setattr(_parts.Parts, "make", twice)
    model.generate(**ASKED, path=path, resume=True)
    same(ad.read_zarr(path), whole)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": 0}, "give its `path`"),
        ({"path": "new.zarr"}, "needs a `seed`"),
        ({"path": "new.zarr", "seed": 0, "min_confidence": 0.1}, "may reject"),
        ({"path": "new.zarr", "seed": 0, "codes": "prior", "labels": "type_0"}, "may reject"),
        ({"path": "new.zarr", "seed": 0, "resume": 2}, "resume"),
    ],
    ids=str,
)
def test_what_cannot_be_resumed_is_refused(model, tmp_path, monkeypatch, asked, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        model.generate(5, **{"resume": True} | asked)
    assert os.listdir(tmp_path) == []


def test_a_folder_of_others_is_left_alone(model, tmp_path):
    (tmp_path / "new.zarr.unfinished").mkdir()
    (tmp_path / "new.zarr.unfinished" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="in the way"):
        model.generate(5, seed=0, path=tmp_path / "new.zarr", resume=True)
    assert (tmp_path / "new.zarr.unfinished" / "thesis.txt").read_text() == "mine"


def test_the_request_is_readable(begun):
    asked = json.loads((begun.parent / "new.zarr.unfinished" / "request.json").read_text())
    assert asked["model"] == "ACTIVA"
    assert asked["version"] == sm.__version__
    assert asked["labels"] == {"type_0": 2500, "type_1": 2500}
    assert asked["device"] == "cpu"
