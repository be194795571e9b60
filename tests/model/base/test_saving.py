import copy

import anndata as ad
import numpy as np
import pytest
import torch
from scvi.model.base import BaseModelClass

import scmimic as sm


def cells(model):
    return model.generate(30, seed=1).X.toarray()


def test_round_trip(trained, tmp_path):
    trained.save(tmp_path / "m")
    for model in (sm.ACTIVA.load(tmp_path / "m", adata=trained.adata), sm.ACTIVA.load(tmp_path / "m")):
        assert np.array_equal(cells(model), cells(trained))
        assert model.history.keys() == trained.history.keys()
        assert model.scmimic_version_ == sm.__version__
    loaded = sm.ACTIVA.load(tmp_path / "m", adata=trained.adata.copy())
    np.testing.assert_allclose(
        loaded.get_latent_representation(), trained.get_latent_representation(), rtol=1e-4, atol=1e-5
    )
    assert (loaded.classify() == trained.classify()).all()


@pytest.mark.parametrize("name", ["ACTIVA", "WGANGP"])
def test_deep_copy(adata, name):
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    small, quick = {"n_hidden_generator": (8,)}, {"enable_progress_bar": False}
    if name == "ACTIVA":
        small, quick = {"n_hidden": (8,)}, quick | {"calibrate_margins": False}
    model = cls(adata, n_latent=3, **small)
    copy.deepcopy(model).train(1, **quick)
    assert not model.is_trained
    model.train(1, **quick)
    twin, made = copy.deepcopy(model), cells(model)
    assert np.array_equal(cells(twin), made)
    twin.train(1, **quick)
    assert not np.array_equal(cells(twin), made)
    assert np.array_equal(cells(model), made)


def test_saved_with_its_data(trained, tmp_path):
    trained.save(tmp_path / "m", save_anndata=True)
    assert sm.ACTIVA.load(tmp_path / "m").adata.shape == trained.adata.shape


def test_shuffled_genes_are_refused(trained, tmp_path):
    trained.save(tmp_path / "m")
    genes = trained.adata.var_names
    with pytest.raises(ValueError, match="in another order"):
        sm.ACTIVA.load(tmp_path / "m", adata=trained.adata[:, genes[::-1]].copy())
    with pytest.raises(ValueError, match="lacks 1 of the 60 genes"):
        sm.ACTIVA.load(tmp_path / "m", adata=trained.adata[:, genes[1:]].copy())
    with pytest.raises(ValueError, match=r"has 60 others, such as \['other_"):
        other = trained.adata.copy()
        other.var_names = [f"other_{g}" for g in genes]
        both = ad.concat([trained.adata, other], axis="var", merge="first")
        sm.ACTIVA.load(tmp_path / "m", adata=both)


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_no_model_there(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no saved model"):
        sm.ACTIVA.load(tmp_path / name)


def test_another_class(trained, tmp_path):
    trained.save(tmp_path / "m")
    with pytest.raises(ValueError, match="different class"):
        sm.ACTINN.load(tmp_path / "m")


def test_overwrite_and_failing_write(trained, tmp_path, monkeypatch):
    path = tmp_path / "m"
    trained.save(path)
    with pytest.raises(ValueError, match="overwrite=True"):
        trained.save(path)
    trained.save(path, overwrite=True)
    before = (path / "model.pt").read_bytes()

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        trained.save(path, overwrite=True)
    assert (path / "model.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_classifier_travels_along(adata, tmp_path):
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    actinn = sm.ACTINN(adata)
    actinn.train(max_epochs=2, enable_progress_bar=False)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,), classifier=actinn)
    model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    assert (model.classify() == actinn.predict()).all()
    model.save(tmp_path / "m")
    assert (tmp_path / "m" / "model.pt").stat().st_size < 2_000_000
    loaded = sm.ACTIVA.load(tmp_path / "m", adata=adata)
    assert (loaded.classify(soft=True).to_numpy() == actinn.predict(soft=True).to_numpy()).all()


def test_scvi_registry_can_be_read(trained, tmp_path):
    trained.save(tmp_path / "m")
    assert BaseModelClass.load_registry(str(tmp_path / "m"))["model_name"] == "ACTIVA"
