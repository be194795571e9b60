import anndata as ad
import numpy as np
import pytest
from scipy.stats import norm

import scmimic as sm


def test_one_dimension_moves_at_a_time(linear):
    adata, model, codes = linear
    start = np.array([0.5, -1.0])
    cells = sm.tl.latent_traversal(adata, model, start=start, n_steps=7, span=(0.1, 0.8), seed=0)
    z = cells.obsm["X_latent_traversal"]
    assert cells.n_obs == 14
    assert list(cells.obs["dimension"].cat.categories) == ["Z1", "Z2"]
    np.testing.assert_array_equal(z[:7, 1], start[1])
    np.testing.assert_array_equal(z[7:, 0], start[0])
    np.testing.assert_allclose(cells.X, z @ model.axes, atol=1e-5)
    np.testing.assert_array_equal(cells.obs["value"], np.r_[z[:7, 0], z[7:, 1]])
    np.testing.assert_allclose(np.diff(z[:7, 0]), np.diff(z[:7, 0])[0])
    # the posterior, not the means alone: variance of the means and 0.25
    rng = np.random.default_rng(1)
    drawn = codes + 0.5 * rng.standard_normal((50, *codes.shape))
    np.testing.assert_allclose([z[0, 0], z[6, 0]], np.quantile(drawn[..., 0], [0.1, 0.8]), atol=0.25)


def test_starts(linear, tmp_path):
    adata, model, codes = linear
    model.labels_key_ = "group"
    both = ((adata.obs["group"] == "B") & (adata.obs["condition"] == "drug")).to_numpy()
    expected = {
        "c3": codes[3],
        "B": codes[(adata.obs["group"] == "B").to_numpy()].mean(axis=0),
    }
    for start, code in expected.items():
        cells = sm.tl.latent_traversal(adata, model, start=start, dims=1, n_steps=2)
        np.testing.assert_allclose(cells.obsm["X_latent_traversal"][:, 0], code[0], atol=1e-6)
    cells = sm.tl.latent_traversal(
        adata, model, start={"group": "B", "condition": "drug"}, dims=[1], n_steps=2, key_added="mine"
    )
    np.testing.assert_allclose(cells.uns["mine"]["start"], codes[both].mean(axis=0), atol=1e-6)
    cells.write_h5ad(tmp_path / "x.h5ad")
    stored = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(stored.obsm["X_mine"], cells.obsm["X_mine"])
    assert stored.uns["mine"]["params"]["start"] == {"group": "B", "condition": "drug"}


def test_same_seed_same_cells_and_options_of_the_decoder(linear):
    adata, model, _ = linear
    kwargs = {"start": "c0", "n_steps": 3, "decode_kwargs": {"labels": "A"}}
    first, second, other = (sm.tl.latent_traversal(adata, model, seed=seed, **kwargs) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.X, second.X)
    assert not np.array_equal(first.X, other.X)
    assert [call["labels"] for call in model.asked] == ["A"] * 3


def test_bad_input(linear):
    adata, model, _ = linear

    def run(seen=adata, start="c0", **kwargs):
        sm.tl.latent_traversal(seen, model, start=start, **kwargs)

    with pytest.raises(KeyError, match="the name of no cell"):
        run(start="B")
    with pytest.raises(KeyError, match="no such column in `adata.obs`"):
        run(start={"x": "y"})
    with pytest.raises(ValueError, match="no cell has"):
        run(start={"group": "y"})
    with pytest.raises(ValueError, match="empty dict"):
        run(start={})
    with pytest.raises(ValueError, match="code of 2 finite numbers"):
        run(start=[1.0, 2.0, 3.0])
    with pytest.raises(KeyError, match="`start='x'`"):
        run(start={"x": "y"})
    for dims in ([], [-1], 1.7, "0", "Z0", "z1", ["Z1", None]):
        with pytest.raises(ValueError, match="`dims` (is empty|must be the name of a latent dimension)"):
            run(dims=dims)
    for dims in ([2], 2, "Z3", ["Z1", "Z12"]):
        with pytest.raises(ValueError, match=r"`dims`: there is no Z\d+\. The latent dimensions are Z1 to Z2"):
            run(dims=dims)
    for dims in ([0, 0], ["Z1", 0], ["Z2", "Z2"]):
        with pytest.raises(ValueError, match=r"`dims` has Z\d more than once"):
            run(dims=dims)
    for n_steps in (1, 2.5):
        with pytest.raises(ValueError, match="`n_steps`"):
            run(n_steps=n_steps)
    for span in ((0.9, 0.1), (0, 2), 0.5):
        with pytest.raises(ValueError, match="`span`"):
            run(span=span)
    with pytest.raises(ValueError, match="is a view"):
        run(adata[:])
    decode = model.decode

    def labelled(z):
        cells = decode(z)
        cells.obs["value"] = "x"
        return cells

    model.decode = labelled
    with pytest.raises(ValueError, match=r"columns \['value'\] already"):
        run()
    assert "latent_traversal" not in adata.uns


SMALL = {"n_hidden_generator": (16, 16), "n_hidden_critic": (16, 16)}


@pytest.fixture(params=["counts", "log"])
def gan(request, adata):
    """A model without an encoder."""
    layer = None
    if request.param == "log":
        adata.layers["log"] = adata.X.astype(np.float32).log1p()
        layer = "log"
    sm.WGANGP.setup_anndata(adata, layer=layer, labels_key="cell_type")
    model = sm.WGANGP(adata, n_latent=3, **SMALL)
    model.train(2, enable_progress_bar=False)
    return adata, model


def test_without_an_encoder(gan):
    adata, model = gan
    kwargs = {"n_steps": 5, "span": (0.05, 0.95), "seed": 0}
    cells = sm.tl.latent_traversal(adata, model, start=[0.5, 0, -1], dims=[2], **kwargs)
    np.testing.assert_allclose(cells.obs["value"], norm.ppf(0.05) + 2 * norm.ppf(0.95) * np.arange(5) / 4, atol=1e-6)
    np.testing.assert_array_equal(cells.obsm["X_latent_traversal"][:, :2], [[0.5, 0]] * 5)
    record = cells.uns["latent_traversal"]
    np.testing.assert_allclose(record["low"], [norm.ppf(0.05)] * 3)
    with pytest.raises(ValueError, match="no smallest"):
        sm.tl.latent_traversal(adata, model, start=[0, 0, 0], span=(0, 1))
    with pytest.raises(ValueError, match="code of 3 finite numbers"):
        sm.tl.latent_traversal(adata, model, start=[0, 0])


def test_start_near_cells_without_an_encoder(gan, learned):
    adata, model = gan
    start = {"cell_type": "type_1"}
    cells = sm.tl.latent_traversal(adata, model, start=start, dims=0, n_steps=2, seed=0)
    code = cells.uns["latent_traversal"]["start"]
    again = sm.tl.latent_traversal(adata, model, start="type_1", dims=0, n_steps=2, seed=0)
    np.testing.assert_array_equal(again.uns["latent_traversal"]["start"], code)

    assert set(cells.obs["cell_type"]) == {"type_1"}

    layer = adata.layers["log"] if model.count_units_ == "log1p" else adata.X
    real = layer[(adata.obs["cell_type"] == "type_1").to_numpy()].toarray()
    others = np.random.default_rng(1).normal(size=(200, 3))
    options = {"labels": "type_1", "share_noise": True, "as_counts": False, "seed": 0}
    made = model.decode(np.vstack([code, others]), **options).X.toarray()
    if model.count_units_ == "counts":
        real, made = (1e4 * x / x.sum(1, keepdims=True) for x in (real, made))
        distance = np.square(np.log1p(made) - np.log1p(real.mean(0))).sum(1)
    else:
        distance = np.square(made - real.mean(0)).sum(1)
    learned("share of codes that are nearer", (distance[1:] <= distance[0]).mean(), below=0.1, off=0.5)


def test_labels_that_codes_do_not_hold_are_those_of_the_start(adata):
    sm.InfoWGANGP.setup_anndata(adata, labels_key="cell_type")
    model = sm.InfoWGANGP(adata, n_latent=3, **SMALL)
    model.train(1, enable_progress_bar=False)
    for seed in range(3):
        cells = sm.tl.latent_traversal(adata, model, start="type_2", dims=0, n_steps=3, seed=seed)
        assert set(cells.obs["cell_type"]) == {"type_2"}
    asked = {"labels": "type_0"}
    cells = sm.tl.latent_traversal(adata, model, start="type_2", dims=0, n_steps=3, decode_kwargs=asked)
    assert set(cells.obs["cell_type"]) == {"type_0"}


def test_labels_of_a_model_without_an_encoder_are_one(gan):
    adata, model = gan
    with pytest.raises(ValueError, match="must be one label here"):
        options = {"labels": ["type_0", "type_1"]}
        sm.tl.latent_traversal(adata, model, start="type_0", dims=0, n_steps=2, decode_kwargs=options)


def test_vaes_hold_library_size_and_batch(trained, learned):
    for name in ("batch_0", "batch_1"):
        start = {"cell_type": "type_1", "batch": name}
        cells = sm.tl.latent_traversal(trained.adata, trained, start=start, dims=0, n_steps=3, seed=0)
        assert set(cells.obs["batch"]) == {name}
    cells = sm.tl.latent_traversal(trained.adata, trained, start="type_1", dims=[0, 3], n_steps=150, seed=0)
    assert cells.obs["batch"].nunique() == 1
    free = {"share_noise": False}
    many = sm.tl.latent_traversal(trained.adata, trained, start="type_1", n_steps=40, decode_kwargs=free, seed=0)
    assert many.obs["batch"].nunique() == 2
    totals = [np.asarray(a.X.sum(axis=1)).ravel() for a in (cells, many)]
    one, free = (total.std() / np.sqrt(total.mean()) for total in totals)
    learned("spread of totals over that of a Poisson", one, below=2.5, off=free)


def test_only_the_code_moves(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    adata.obsm["X_code"] = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    sm.MichiGAN.setup_anndata(adata, layer="log", code_key="X_code", labels_key="cell_type")
    model = sm.MichiGAN(adata, n_noise=20, **SMALL)
    model.train(2, enable_progress_bar=False)
    z = np.tile([0.5, -0.5], (200, 1))
    same = model.decode(z, share_noise=True, seed=0)
    np.testing.assert_allclose(same.X.toarray(), same.X[:1].toarray().repeat(200, 0), atol=1e-5)
    assert same.obs["cell_type"].nunique() == 1
    assert model.decode(z, seed=0).X.toarray().std(0).max() > 0.01
    cells = sm.tl.latent_traversal(adata, model, start=[0.5, -0.5], n_steps=4, seed=0)
    np.testing.assert_allclose(
        cells.X.toarray(), model.decode(cells.obsm["X_latent_traversal"], share_noise=True, seed=0).X.toarray()
    )
    free = sm.tl.latent_traversal(
        adata, model, start=[0.5, -0.5], n_steps=4, seed=0, decode_kwargs={"share_noise": False}
    )
    assert not np.allclose(free.X.toarray(), cells.X.toarray())


def test_one_name_for_a_dimension(trained):
    """Names count from 1, positions from 0; cells, records and tables have the names."""
    adata, start = trained.adata, "type_1"
    by_name, by_position = (
        sm.tl.latent_traversal(adata, trained, start=start, dims=dims, n_steps=3, seed=0)
        for dims in (["Z4", "Z1"], np.array([3, 0]))
    )
    np.testing.assert_array_equal(by_name.X.toarray(), by_position.X.toarray())
    for cells in (by_name, by_position):
        assert list(cells.obs["dimension"].cat.categories) == ["Z4", "Z1"]
        assert list(cells.uns["latent_traversal"]["params"]["dims"]) == ["Z4", "Z1"]
        # what was moved are the columns 3 and 0 of the codes
        moved = np.ptp(cells.obsm["X_latent_traversal"][:3], axis=0) > 0
        assert np.flatnonzero(moved).tolist() == [3]
    sm.tl.rank_latent_genes(adata, trained, dims="Z2", n_genes=3)
    assert adata.uns["rank_latent_genes"]["names"].dtype.names == ("Z2",)
    assert list(adata.uns["rank_latent_genes"]["params"]["dims"]) == ["Z2"]
