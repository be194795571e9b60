"""What the GANs learn of two types with known means and one shared direction of variation."""

import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from learning import SEED

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_latent": 8, "n_hidden_generator": (32, 32), "n_hidden_critic": (64, 32)}
PLAN = {"lr": 2e-3, "n_critic": 4, "average_decay": 0.99}
MEANS = np.array([[2.0] * 6 + [4.0] * 6, [5.0] * 6 + [1.0] * 6])


@pytest.fixture(scope="module")
def toy():
    """400 cells of type a, 200 of b; the standard deviation of a gene is 0.58, 0.5 of it shared by all genes."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(600) % 3 == 0).astype(int)
    x = MEANS[label] + 0.5 * rng.normal(size=(600, 1)) + 0.3 * rng.normal(size=(600, 12))
    obs = pd.DataFrame({"type": np.array(["a", "b"])[label]}, index=[f"c{i}" for i in range(600)])
    return AnnData(np.clip(x, 0, None).astype(np.float32), obs=obs)


def fit(cls, toy, epochs=120, labels_key="type", plan_kwargs=None, **kwargs):
    scvi.settings.seed = SEED
    cls.setup_anndata(toy, labels_key=labels_key)
    model = cls(toy, **{**SMALL, **kwargs})
    model.train(epochs, batch_size=64, plan_kwargs={**PLAN, **(plan_kwargs or {})}, enable_progress_bar=False)
    return model


def cells_of(generated, label):
    return generated[generated.obs["type"] == label].X.toarray()


# the types' means come early, what the genes share in a type later
@pytest.mark.parametrize(("conditioning", "epochs"), [("projection", 300), ("concat", 150), ("batch_norm", 300)])
def test_conditional_distribution(toy, learned, conditioning, epochs):
    new = fit(sm.WGANGP, toy, epochs=epochs, conditioning=conditioning).generate(2000, seed=0)
    for label, mean in zip("ab", MEANS, strict=True):
        x = cells_of(new, label)
        # the types are 3 apart in every gene
        learned(f"largest error of a gene's mean, type {label}", np.abs(x.mean(0) - mean).max(), below=0.5)
        learned(f"standard deviation of a gene, type {label}", x.std(0).mean(), above=0.1, below=1)
        correlation = np.corrcoef(x.T)[np.triu_indices(12, 1)]
        learned(f"correlation of genes, type {label}", correlation.mean(), above=0.3)


def test_averaged_weights_are_better_than_the_last_ones(toy, learned):
    def error(decay):
        new = fit(sm.WGANGP, toy, epochs=100, plan_kwargs={"average_decay": decay, "lr": 6e-3}).generate(2000, seed=0)
        return np.mean([np.abs(cells_of(new, t).mean(0) - m).mean() for t, m in zip("ab", MEANS, strict=True)])

    learned("error of the mean with averaged weights over that without", error(0.99) / error(0.0), below=1, off=1)


def test_unconditional_model_finds_both_types(toy, learned):
    x = fit(sm.WGANGP, toy, epochs=120, labels_key=None).generate(2000, seed=0).X.toarray()
    is_b = x[:, :6].mean(1) > x[:, 6:].mean(1)
    learned("share of type b", is_b.mean(), above=1 / 3 - 0.2, below=1 / 3 + 0.2)
    for label, chosen, mean in (("a", ~is_b, MEANS[0]), ("b", is_b, MEANS[1])):
        learned(f"error of a gene's mean, type {label}", np.abs(x[chosen].mean(0) - mean).mean(), below=0.8)


def test_codes_come_back_and_labels_are_guided_by_a_few(toy, learned):
    """ssInfoGAN with every fifth label: types are the requested ones, codes are found again in new cells."""
    few = toy.copy()
    few.obs["type"] = np.where(np.arange(600) % 5 == 0, few.obs["type"], "Unknown")
    model = fit(sm.InfoWGANGP, few, epochs=200)
    assert sorted(model.label_categories_) == ["a", "b"]
    new = model.generate(1000, ["a", "b"], seed=0)
    for label, mean in zip("ab", MEANS, strict=True):
        error = np.abs(cells_of(new, label).mean(0) - mean).mean()
        learned(f"error of a gene's mean, type {label}", error, below=0.7)
    found, asked = model.get_latent_representation(new), new.obsm["X_infowgangp"]
    correlation = [np.corrcoef(found[:, j], asked[:, j])[0, 1] for j in range(8)]
    learned("median correlation of a code", np.median(correlation), above=0.6)
    # what is lost of a code is its variance given the cell: both together vary as the codes that were asked for
    variance = model.get_latent_representation(new, return_dist=True)[1][0]
    learned("largest error of a code's variance", np.abs(found.var(0) + variance - 1).max(), below=0.3)
    table = sm.tl.code_faithfulness(new, model)
    clear, clearer = (np.square(correlation) > share for share in (0.6, 0.75))
    learned("codes that are clear", clear.sum(), above=0.5)
    learned("clear codes that are not informative", (~table["informative"][clearer]).sum(), below=0.5)
    bound = model.history["mutual_information_train"].to_numpy(dtype=float).ravel()
    entropy = -(np.array([2, 1]) / 3 * np.log(np.array([2, 1]) / 3)).sum()
    learned("gain of the bound of the mutual information", bound[-1] - bound[0], above=1)
    learned("bound of the mutual information", bound[-1], below=8 / 2 + entropy + 0.4)


def test_categories_without_labels(toy):
    model = fit(sm.InfoWGANGP, toy, epochs=2, labels_key=None, n_categories=2)
    new = model.generate(10, "category_1", seed=0)
    assert (new.obs["category"] == "category_1").all()
    assert model.generate(10, seed=0).obs["category"].value_counts().tolist() == [5, 5]
    with pytest.raises(ValueError, match="`n_categories` must be 0"):
        fit(sm.InfoWGANGP, toy, n_categories=2)


def test_infogan_encodes_as_other_models_do(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    sm.InfoWGANGP.setup_anndata(adata, layer="log")
    sizes = {"n_hidden_generator": (16, 16), "n_hidden_critic": (16, 16), "n_noise": 4}
    model = sm.InfoWGANGP(adata, n_latent=3, **sizes)
    model.train(2, **QUIET)
    mean, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(mean, model.get_latent_representation(adata))
    np.testing.assert_array_equal(variance[0], variance[-1])
    np.testing.assert_allclose(model.get_latent_representation(adata, [4, 2]), mean[[4, 2]], atol=1e-5)
    noise = model.get_latent_representation(give_mean=False) - mean
    assert abs(noise.mean()) < 0.15
    np.testing.assert_allclose(noise.std(0), np.sqrt(variance[0]), rtol=0.15)
    for size in (-1, 0, 2.5):
        with pytest.raises(ValueError, match="`batch_size` must be"):
            model.get_latent_representation(batch_size=size)

    keys = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_0", "batch_1"), "seed": 0}
    assert np.isfinite(sm.tl.latent_entropy(adata, model, **keys)["delta_entropy"]).all()
    assert sm.tl.latent_arithmetic(adata, model, **keys).obsm["X_latent_arithmetic"].shape[1] == 3
    # its own cells come without the layer that it was trained on
    table = sm.tl.code_faithfulness(model.generate(40, seed=0), model)
    np.testing.assert_allclose(table["ceiling"] ** 2, mean.var(0) / (mean.var(0) + variance[0]), rtol=1e-4)
    michigan = sm.MichiGAN.from_representation(model, **sizes)
    michigan.train(1, **QUIET)
    assert michigan.generate(5, seed=0).obsm["X_michigan"].shape == (5, 3)
    assert "code_faithfulness" in michigan.history
