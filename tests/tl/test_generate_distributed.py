"""Cells from the workers of a Dask cluster: those of one process, also where a worker is killed."""

import os
import signal
import sys

import anndata as ad
import numpy as np
import pytest
import torch
from small_models import fit

import scmimic as sm
from scmimic.model.generation import parts as _parts
from scmimic.tl import _generate_distributed

distributed = pytest.importorskip("distributed")
N = 5 * _parts.PART + 100


@pytest.fixture(scope="module")
def client():
    """Of a cluster of two processes, which come again where they are killed."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def model():
    return fit("ACTIVA")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(model):
    return model.generate(N, seed=3)


def generate(client, folder, path, **asked):
    return sm.tl.generate_distributed(folder, N, path, client=client, **{"seed": 3, "silent": True} | asked)


def same(a, b):
    assert a.n_obs == b.n_obs
    assert (a.X != b.X).nnz == 0
    assert a.obs.equals(b.obs)
    np.testing.assert_array_equal(a.obsm["X_activa"], b.obsm["X_activa"])


def patched(change):
    """A function for a worker that does something as a part is written; the worker may be killed, and comes without."""

    def patch():
        from scmimic.model.generation import parts

        write, calls = parts._write, []

        def changed(file, chunk):
            calls.append(file.filename)
            write(file, chunk)
            change(len(calls))

        parts._write, parts.undo, parts.calls = changed, lambda: setattr(parts, "_write", write), calls

    return patch


def undone():
    """The same for the end; gives the files that were written."""

    def undo():
        from scmimic.model.generation import parts

        parts.undo()
        return parts.calls

    return undo


def test_workers_make_the_cells_of_one_process(client, model, folder, tmp_path):
    asked = {"labels": ["type_0", "type_2"], "covariates": {"batch": "batch_1"}, "seed": 4}
    client.run(patched(lambda number: None))
    stored = generate(client, folder, tmp_path / "new.h5ad", **asked)
    calls = client.run(undone())
    assert sorted(sum(calls.values(), [])) == sorted(set(sum(calls.values(), [])))
    assert all(calls.values()) and sum(map(len, calls.values())) == 6
    same(ad.read_h5ad(tmp_path / "new.h5ad"), model.generate(N, **asked))
    assert stored.isbacked
    assert os.listdir(tmp_path) == ["new.h5ad"]


def test_a_killed_worker_loses_nothing(client, whole, folder, tmp_path):
    """It dies with its second part written, and not at its place yet."""

    def die(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    before = set(client.run(os.getpid).values())
    client.run(patched(die), workers=[next(iter(client.scheduler_info()["workers"]))])
    generate(client, folder, tmp_path / "new.zarr")
    client.wait_for_workers(2)
    assert len(before - set(client.run(os.getpid).values())) == 1
    same(ad.read_zarr(tmp_path / "new.zarr"), whole)
    assert os.listdir(tmp_path) == ["new.zarr"]


def test_a_part_that_failed_is_made_again_and_not_twice(client, whole, folder, tmp_path):
    def fail(number):
        if number == 1:
            raise OSError("the disk is away")

    client.run(patched(fail))
    generate(client, folder, tmp_path / "new.zarr")
    client.run(undone())
    same(ad.read_zarr(tmp_path / "new.zarr"), whole)


def test_a_call_that_ended_early_goes_on(client, whole, folder, model, tmp_path):
    """With the parts that another process had made."""
    path = tmp_path / "new.zarr"
    begun = _parts.plan_parts(model, path, {"n": N, "labels": None, "seed": 3})
    begun.open()
    with torch.inference_mode():
        list(begun.make([1, 4]))
    client.run(patched(lambda number: None))
    generate(client, folder, path)
    calls = client.run(undone())
    assert sum(map(len, calls.values())) == 4
    same(ad.read_zarr(path), whole)


def test_parts_of_other_cells_are_named(client, folder, model, tmp_path):
    _parts.plan_parts(model, tmp_path / "new.zarr", {"n": N, "labels": None, "seed": 1}).open()
    with pytest.raises(ValueError, match="seed was 1 and is 3"):
        generate(client, folder, tmp_path / "new.zarr")


def test_an_error_of_the_workers_is_raised(client, folder, tmp_path):
    def fail(number):
        raise OSError("disk full")

    client.run(patched(fail))
    with pytest.raises(OSError, match="disk full"):
        generate(client, folder, tmp_path / "new.zarr")
    client.run(undone())
    assert os.listdir(tmp_path) == ["new.zarr.unfinished"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"min_confidence": 0.5}, ValueError, "may reject"),
        ({"as_counts": True}, TypeError, r"ACTIVA.generate takes no \['as_counts'\]"),
        ({"batch_size": 5}, TypeError, r"takes no \['batch_size'\]"),
        ({"codes": "none"}, ValueError, "codes"),
        ({"seed": None}, ValueError, "seed"),
        ({"labels": "nobody"}, ValueError, "nobody"),
    ],
    ids=str,
)
def test_what_is_refused(folder, tmp_path, asked, error, message):
    """Before any worker is asked."""
    with pytest.raises(error, match=message):
        generate(None, folder, tmp_path / "new.zarr", **asked)
    assert os.listdir(tmp_path) == []


def test_a_model_that_generates_nothing(tmp_path):
    fit("ACTINN").save(tmp_path / "model")
    with pytest.raises(ValueError, match="ACTINN generates no cells"):
        generate(None, tmp_path / "model", tmp_path / "new.zarr")


def test_what_is_there_stays(client, folder, tmp_path):
    (tmp_path / "new.h5ad").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        generate(client, folder, tmp_path / "new.h5ad")
    assert (tmp_path / "new.h5ad").read_text() == "mine"


def test_without_dask_the_extra_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="`generate_distributed` needs distributed, .*extra 'dask'"):
        generate(None, folder, tmp_path / "new.zarr")


def test_the_current_client_is_taken(client, whole, folder, tmp_path, monkeypatch):
    def none(*args, **kwargs):
        raise AssertionError("a cluster of its own")

    monkeypatch.setattr(distributed, "LocalCluster", none)
    generate(None, folder, tmp_path / "new.zarr")
    same(ad.read_zarr(tmp_path / "new.zarr"), whole)


def test_without_a_client_this_machine_has_a_cluster_for_the_call(model, folder, tmp_path, monkeypatch, capfd):
    def none():
        raise ValueError("no client")

    monkeypatch.setattr(distributed, "default_client", none)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    stored = sm.tl.generate_distributed(folder, 50, tmp_path / "new.h5ad", seed=1)
    assert (stored.to_memory().X != model.generate(50, seed=1).X).nnz == 0
    assert "WARNING" not in capfd.readouterr().err


def test_processes_of_our_own_keep_their_memory(monkeypatch):
    """Dask's environment has a worker hand every array back to the system; a former cluster leaves it here."""

    def none():
        raise ValueError("no client")

    monkeypatch.setattr(distributed, "default_client", none)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    with _generate_distributed._client(None) as own:
        (found,) = own.run(lambda: [os.environ[f"MALLOC_{name}_THRESHOLD_"] for name in ("TRIM", "MMAP")]).values()
    assert [int(value) for value in found] == [2**28, 2**25]
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "65536"
    assert "MALLOC_MMAP_THRESHOLD_" not in os.environ
