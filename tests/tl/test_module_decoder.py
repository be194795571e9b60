import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData

import scmimic as sm
from scmimic.tl._module_decoder import ModuleDecoder

N_GENES = 20


def counts():
    """Two groups under two conditions, and ten times as many counts in the second one."""
    rng = np.random.default_rng(0)
    group, condition = np.tile(["A", "B"], 100), np.repeat(["control", "drug"], 100)
    profile = rng.dirichlet(np.ones(N_GENES), 2)[(group == "B").astype(int)]
    profile[condition == "drug", :5] *= 3
    profile /= profile.sum(axis=1, keepdims=True)
    x = rng.poisson(profile * np.where(condition == "drug", 5000, 500)[:, None]).astype(np.float32)
    obs = pd.DataFrame({"group": group, "condition": condition}, index=[f"c{i}" for i in range(200)])
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))


def trained(batch_key=None, **kwargs):
    adata = counts()
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key=batch_key, labels_key="group")
    model = scvi.model.SCVI(adata, n_latent=3, n_hidden=16, gene_likelihood="poisson", **kwargs)
    model.train(max_epochs=3, enable_progress_bar=False)
    return adata, model


@pytest.fixture(scope="module")
def batched():
    return trained("condition")


def test_cells_are_those_of_the_decoder(batched):
    adata, model = batched
    z = model.get_latent_representation()[:30]
    cells = ModuleDecoder(model).decode(z, library_size=1e8, transform_batch="drug", seed=0)
    with torch.inference_mode():
        share, *_ = model.module.decoder("gene", torch.as_tensor(z), torch.zeros(30, 1), torch.ones(30, 1).long())
    np.testing.assert_allclose(cells.X.toarray() / 1e8, share.numpy(), rtol=0.02)
    assert cells.var_names.equals(adata.var_names)


def test_library_sizes_are_those_of_the_batch(batched):
    adata, model = batched
    z = model.get_latent_representation()
    decoder = ModuleDecoder(model)
    for batch in ("control", "drug"):
        own = adata[adata.obs["condition"] == batch].X.sum(axis=1)
        total = np.asarray(decoder.decode(z, transform_batch=batch, seed=1).X.sum(axis=1)).ravel()
        assert total.mean() == pytest.approx(own.mean(), rel=0.03)
    total = np.asarray(decoder.decode(z, seed=1).X.sum(axis=1)).ravel()
    assert 60 < (total > 2000).sum() < 140


def test_a_traversal_has_one_library_size_and_one_batch(batched):
    adata, model = batched
    for seed in range(3):
        cells = sm.tl.latent_traversal(adata, model, start="c0", n_steps=40, seed=seed)
        total = np.asarray(cells.X.sum(axis=1)).ravel()
        # batches differ tenfold; what is left is the noise of a Poisson
        assert total.std() < 1.5 * np.sqrt(total.mean())


def test_same_seed_same_cells_and_other_streams_stay(batched):
    _, model = batched
    z = model.get_latent_representation()[:20]
    decoder = ModuleDecoder(model)
    torch.manual_seed(5)
    first = decoder.decode(z, seed=3)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert (first.X != decoder.decode(z, seed=3).X).nnz == 0
    assert (first.X != decoder.decode(z, seed=4).X).nnz > 0


def test_tools_with_a_seed_leave_the_generator(batched):
    adata, model = batched
    adata, kwargs = adata.copy(), {"group_key": "group", "condition_key": "condition", "seed": 0}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sm.tl.latent_arithmetic(adata, model, target=("A", "drug"), **kwargs)
    assert torch.equal(torch.rand(3), expected)


def test_a_label_may_be_the_start(batched):
    adata, model = batched
    named, column = (
        sm.tl.latent_traversal(adata, model, start=start, dims=0, n_steps=2, seed=0) for start in ("B", {"group": "B"})
    )
    np.testing.assert_array_equal(named.obsm["X_latent_traversal"], column.obsm["X_latent_traversal"])


def test_minified_data_are_named():
    adata, model = trained()
    model.adata.obsm["m"], model.adata.obsm["v"] = model.get_latent_representation(return_dist=True)
    model.minify_adata(use_latent_qzm_key="m", use_latent_qzv_key="v")
    kwargs = {"group_key": "group", "condition_key": "condition", "target": ("A", "drug")}
    with pytest.raises(ValueError, match="minified"):
        sm.tl.latent_arithmetic(counts(), model, **kwargs)
    with pytest.raises(ValueError, match="minified"):
        sm.tl.latent_traversal(counts(), model, start="c0")


def test_tools_take_scvi():
    adata, model = trained()
    kwargs = {"group_key": "group", "condition_key": "condition", "target": ("A", "drug"), "seed": 0}
    new = sm.tl.latent_arithmetic(adata, model, **kwargs, n=50, decode_kwargs={"library_size": 1000})
    assert new.shape == (50, N_GENES)
    assert np.asarray(new.X.sum(axis=1)).mean() == pytest.approx(1000, rel=0.03)
    cells = sm.tl.latent_traversal(adata, model, start={"group": "A"}, dims=[1], n_steps=5, seed=0)
    assert cells.shape == (5, N_GENES)
    table = sm.tl.latent_entropy(adata, model, group_key="group", condition_key="condition")
    assert table["delta_entropy"].notna().all()


def test_the_batch_of_the_target_is_told(batched):
    adata, model = batched
    kwargs = {"group_key": "group", "condition_key": "condition", "seed": 0}
    new = sm.tl.latent_arithmetic(adata, model, **kwargs, target=("A", "drug"))
    assert np.asarray(new.X.sum(axis=1)).min() > 2000


class WithoutLibrary(torch.nn.Module):
    def generative(self, z, batch_index):
        return {}


def test_refusals(batched):
    adata, model = batched
    z = model.get_latent_representation()[:5]
    with pytest.raises(ValueError, match="`transform_batch='other'` is none"):
        ModuleDecoder(model).decode(z, transform_batch="other", seed=0)
    with pytest.raises(ValueError, match="`labels='C'` is none"):
        ModuleDecoder(model).decode(z, labels="C", seed=0)
    with pytest.raises(ValueError, match="`library_size`"):
        ModuleDecoder(model).decode(z, library_size=-1, seed=0)

    class Other:
        is_trained, module = True, WithoutLibrary()

        def get_latent_representation(self, adata):
            return adata.X

    with pytest.raises(TypeError, match="has no `decode`"):
        sm.tl.latent_traversal(adata, Other(), start="c0")
    adata = counts()
    adata.obs["age"] = np.arange(200.0)
    scvi.model.SCVI.setup_anndata(adata, continuous_covariate_keys=["age"])
    with pytest.raises(ValueError, match="continuous_covariate_keys.*cannot decode"):
        ModuleDecoder(scvi.model.SCVI(adata))
    adata = counts()
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(ValueError, match="not normal"):
        ModuleDecoder(scvi.model.SCVI(adata, latent_distribution="ln"))
    with pytest.raises(RuntimeError, match="not trained"):
        sm.tl.latent_traversal(adata, scvi.model.SCVI(adata), start="c0")
