import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import zarr
from anndata import AnnData, read_h5ad
from anndata.io import sparse_dataset
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import scmimic as sm
import scmimic.tl as tl
from scmimic import _keys
from scmimic.datasets import synthetic_counts


def split(adata, n):
    return adata[:n].copy(), adata[n:].copy()


@pytest.fixture
def pair():
    return split(synthetic_counts(n_obs=160, n_vars=60), 90)


@pytest.fixture(scope="module")
def embedded():
    """Three clusters far apart, in UMAP and t-SNE."""
    real, synthetic = split(synthetic_counts(n_obs=300, n_vars=60, seed=1), 150)
    assert tl.joint_embedding(real, synthetic, basis=("umap", "tsne"), n_comps=10) is None
    return real, synthetic


def log_normalized(adata):
    x = adata.X.toarray().astype(float)
    return np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)


def test_pca_is_fitted_on_the_real_cells_alone(pair):
    real, synthetic = pair
    tl.joint_embedding(real, synthetic, basis="pca", n_comps=8)
    pca = PCA(8, svd_solver="full").fit(log_normalized(real))
    np.testing.assert_allclose(np.abs(real.obsm["X_joint_pca"]), np.abs(pca.transform(log_normalized(real))), atol=1e-3)
    np.testing.assert_allclose(
        np.abs(synthetic.obsm["X_joint_pca"]), np.abs(pca.transform(log_normalized(synthetic))), atol=1e-3
    )
    np.testing.assert_allclose(real.uns["joint_embedding"]["variance_ratio"], pca.explained_variance_ratio_, rtol=1e-4)
    # another synthetic object leaves the real cells where they are
    other = synthetic[:5].copy()
    before = real.obsm["X_joint_pca"]
    tl.joint_embedding(real, other, basis="pca", n_comps=8)
    np.testing.assert_array_equal(before, real.obsm["X_joint_pca"])
    np.testing.assert_allclose(other.obsm["X_joint_pca"], synthetic.obsm["X_joint_pca"][:5], atol=1e-4)


def test_maps_are_known_again(embedded):
    """What was fitted on the same cells is one map, whoever is placed in it; t-SNE is fitted on both sides."""
    real, synthetic = embedded
    maps = real.uns["joint_embedding"]["maps"]
    assert set(maps) == {"pca", "umap", "tsne"} and maps == synthetic.uns["joint_embedding"]["maps"]
    again, other = real.copy(), synthetic[:40].copy()
    tl.joint_embedding(again, other, basis=("umap", "tsne"), n_comps=10)
    np.testing.assert_array_equal(again.obsm["X_joint_umap"], real.obsm["X_joint_umap"])
    found = other.uns["joint_embedding"]["maps"]
    assert {basis: found[basis] == maps[basis] for basis in maps} == {"pca": True, "umap": True, "tsne": False}
    tl.joint_embedding(again, other, basis="umap", n_comps=10, min_dist=0.1)
    assert other.uns["joint_embedding"]["maps"]["umap"] != maps["umap"]
    # with a reference, the map is that of the reference
    tl.joint_embedding(again, other, basis="umap", n_comps=10, reference=real)
    assert other.uns["joint_embedding"]["maps"]["umap"] == maps["umap"]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_cells_in_a_file_are_read(pair, tmp_path, suffix):
    real, synthetic = pair
    path = tmp_path / f"x.{suffix}"
    if suffix == "h5ad":
        synthetic.write_h5ad(path)
        stored = read_h5ad(path, backed="r")
    else:
        synthetic.write_zarr(path)
        x = sparse_dataset(zarr.open_group(path, mode="r")["X"])
        stored = AnnData(x, obs=synthetic.obs.copy(), var=synthetic.var.copy())
    tl.joint_embedding(real.copy(), synthetic, basis="pca", n_comps=8)
    tl.joint_embedding(real, stored, basis="pca", n_comps=8)
    np.testing.assert_array_equal(stored.obsm["X_joint_pca"], synthetic.obsm["X_joint_pca"])


def test_pca_of_a_reference(pair):
    real, synthetic = pair
    reference = synthetic_counts(n_obs=100, n_vars=60, seed=0)
    tl.joint_embedding(real, synthetic, basis="pca", n_comps=5, reference=reference)
    pca = PCA(5, svd_solver="full").fit(log_normalized(reference))
    for side in (real, synthetic):
        np.testing.assert_allclose(
            np.abs(side.obsm["X_joint_pca"]), np.abs(pca.transform(log_normalized(side))), atol=1e-3
        )
    assert real.uns["joint_embedding"]["params"]["fitted_on"] == "reference"
    assert "X_joint_pca" not in reference.obsm


def test_logged_values_dense_values_and_layers_give_the_same(pair):
    real, synthetic = pair
    tl.joint_embedding(real, synthetic, basis="pca", n_comps=5)
    expected = synthetic.obsm["X_joint_pca"]

    logged = [a.copy() for a in pair]
    for a in logged:
        a.X = sp.csr_array(log_normalized(a))
    tl.joint_embedding(*logged, basis="pca", n_comps=5, log1p=False)
    np.testing.assert_allclose(logged[1].obsm["X_joint_pca"], expected, atol=1e-3)

    # the real cells have the counts in a layer, the generated ones in X
    layered = real.copy()
    layered.layers["counts"] = layered.X.toarray()
    layered.X = np.zeros(layered.shape)
    generated = synthetic.copy()
    tl.joint_embedding(layered, generated, basis="pca", n_comps=5, layer="counts")
    np.testing.assert_allclose(generated.obsm["X_joint_pca"], expected, atol=1e-3)


def test_scale_of_linear_values_does_not_matter(pair):
    real, synthetic = pair
    tl.joint_embedding(real, synthetic, basis="pca", n_comps=5)
    scaled = synthetic.copy()
    sc.pp.normalize_total(scaled, target_sum=20_000)
    tl.joint_embedding(real, scaled, basis="pca", n_comps=5)
    np.testing.assert_allclose(scaled.obsm["X_joint_pca"], synthetic.obsm["X_joint_pca"], atol=1e-3)


@pytest.mark.parametrize("basis", ["umap", "tsne"])
def test_synthetic_cells_land_among_their_own_type(embedded, basis):
    real, synthetic = embedded
    key = f"X_joint_{basis}"
    assert real.obsm[key].shape == (150, 2)
    assert synthetic.obsm[key].shape == (150, 2)
    neighbours = KNeighborsClassifier(5).fit(real.obsm[key], real.obs["cell_type"])
    assert neighbours.score(synthetic.obsm[key], synthetic.obs["cell_type"]) > 0.9


def test_umap_does_not_depend_on_synthetic_cells_and_is_reproducible(embedded):
    real, synthetic = (a.copy() for a in embedded)
    before = real.obsm["X_joint_umap"].copy(), synthetic.obsm["X_joint_umap"].copy()
    tl.joint_embedding(real, synthetic, basis="umap", n_comps=10)
    np.testing.assert_array_equal(real.obsm["X_joint_umap"], before[0])
    np.testing.assert_array_equal(synthetic.obsm["X_joint_umap"], before[1])
    tl.joint_embedding(real, synthetic[:20].copy(), basis="umap", n_comps=10)
    np.testing.assert_array_equal(real.obsm["X_joint_umap"], before[0])


def test_with_a_reference_unseen_real_cells_and_their_like_are_treated_alike():
    """The same cells on both sides must land on the same places, up to UMAP's random draws."""
    reference, cells = split(synthetic_counts(n_obs=300, n_vars=60, seed=2), 200)
    real, synthetic = cells.copy(), cells.copy()
    tl.joint_embedding(real, synthetic, reference=reference, n_comps=10)
    a, b = real.obsm["X_joint_umap"], synthetic.obsm["X_joint_umap"]
    spread = np.linalg.norm(a - a.mean(axis=0), axis=1).mean()
    assert np.median(np.linalg.norm(a - b, axis=1)) < 0.25 * spread
    assert np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)) < 0.1 * spread


def test_names_stand_in_the_keys():
    assert [_keys.joint(b) for b in ("pca", "umap", "tsne")] == [
        _keys.OBSM_JOINT_PCA,
        _keys.OBSM_JOINT_UMAP,
        _keys.OBSM_JOINT_TSNE,
    ]


def test_parameters_key_copy_and_writing(pair, tmp_path):
    real, synthetic = pair
    out_real, out_synthetic = tl.joint_embedding(
        real, synthetic, basis=["pca", "tsne"], key_added="mine", layer=None, seed=3, copy=True
    )
    assert not real.obsm
    assert not synthetic.uns
    assert set(out_synthetic.obsm) == {"X_mine_pca", "X_mine_tsne"}
    out_real.write_h5ad(tmp_path / "real.h5ad")
    params = read_h5ad(tmp_path / "real.h5ad").uns["mine"]["params"]
    assert list(params["basis"]) == ["pca", "tsne"]
    assert params["seed"] == 3
    assert params["n_comps"] == 50
    assert params["fitted_on"] == "adata"


def test_few_cells_take_fewer_components(pair):
    real, synthetic = pair[0][:12].copy(), pair[1][:6].copy()
    tl.joint_embedding(real, synthetic, basis=("pca", "tsne"))
    assert real.uns["joint_embedding"]["params"]["n_comps"] == 12
    assert synthetic.obsm["X_joint_tsne"].shape == (6, 2)


def test_cells_without_counts_are_placed(pair):
    real, synthetic = pair
    synthetic.X = sp.vstack([sp.csr_matrix((1, 60), dtype=np.float32), synthetic.X[1:]], format="csr")
    tl.joint_embedding(real, synthetic, basis="pca", n_comps=5)
    assert np.isfinite(synthetic.obsm["X_joint_pca"]).all()


def test_genes_must_agree(pair):
    real, synthetic = pair
    with pytest.raises(ValueError, match="another order"):
        tl.joint_embedding(real, synthetic[:, ::-1].copy())
    with pytest.raises(ValueError, match="`synthetic` lacks 10 of the 60"):
        tl.joint_embedding(real, synthetic[:, :50].copy())
    with pytest.raises(ValueError, match="`reference` lacks 10 of the 60"):
        tl.joint_embedding(real, synthetic, reference=real[:, :50].copy())
    assert not real.obsm


def test_bad_input(pair):
    real, synthetic = pair
    with pytest.raises(ValueError, match="`basis` has no"):
        tl.joint_embedding(real, synthetic, basis="phate")
    with pytest.raises(KeyError, match="nothing"):
        tl.joint_embedding(real, synthetic, layer="nothing")
    negative = synthetic.copy()
    negative.X = -negative.X
    with pytest.raises(ValueError, match="`synthetic` holds negative"):
        tl.joint_embedding(real, negative)
    sc.pp.log1p(real)
    with pytest.raises(ValueError, match="`adata.X` holds log1p values and `synthetic` counts"):
        tl.joint_embedding(real, synthetic, basis="pca")
    with pytest.raises(ValueError, match="`reference` holds log1p values already"):
        tl.joint_embedding(synthetic, synthetic, reference=real, basis="pca")
    # values that do not show what they are
    real.X = real.X.multiply(np.random.default_rng(0).random(real.shape)).tocsr()
    with pytest.warns(UserWarning, match="marked as log-transformed"):
        tl.joint_embedding(real, synthetic, basis="pca")


def test_units_that_differ_are_refused(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    sm.WGANGP.setup_anndata(adata, layer="log")
    model = sm.WGANGP(adata, n_latent=2, n_hidden_generator=(8,), n_hidden_critic=(8,))
    model.train(1, enable_progress_bar=False)
    logs, counts = model.generate(30, seed=0), model.generate(30, seed=0, as_counts=True)
    kwargs = {"basis": "pca", "n_comps": 3}
    for layer in (None, "log"):
        with pytest.raises(ValueError, match="log1p values already.*`log1p=False`"):
            sm.tl.joint_embedding(adata, logs, layer=layer, **kwargs)
    with pytest.raises(ValueError, match=r"`adata.X` holds counts and `synthetic` log1p values"):
        sm.tl.joint_embedding(adata, logs, log1p=False, **kwargs)
    with pytest.raises(ValueError, match=r"`adata.layers\['log'\]` holds log1p values and `synthetic` counts"):
        sm.tl.joint_embedding(adata, counts, layer="log", **kwargs)
    sm.tl.joint_embedding(adata, logs, layer="log", log1p=False, **kwargs)
    sm.tl.joint_embedding(adata, counts, **kwargs)
