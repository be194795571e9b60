"""A model to be shared: nothing of a single training cell in its file, and cells like those of the whole model."""

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch

import scmimic as sm
from scmimic.model.base._sharing import SHARED_CELLS

QUIET = {"enable_progress_bar": False}
N = 331


@pytest.fixture(scope="module", params=["ACTIVA", "BetaTCVAE"])
def model(request):
    """331 cells, a number that nothing else has; one type of 6 cells, one donor of 9."""
    scvi.settings.seed = 0
    adata = sm.datasets.synthetic_counts(n_obs=N, n_vars=40, n_labels=3, seed=0)
    kinds = adata.obs["cell_type"].astype(str).to_numpy()
    kinds[:6] = "rare"
    adata.obs["cell_type"] = kinds
    donor = np.random.default_rng(0).choice(["one", "two"], N)
    donor[10:19] = "few"
    adata.obs["donor"] = donor
    adata.obs["age"] = np.random.default_rng(1).uniform(20, 80, N)
    adata.var["n_cells"] = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    cls = getattr(sm, request.param)
    cls.setup_anndata(adata, labels_key="cell_type", categorical_covariate_keys=["donor"],
                      continuous_covariate_keys=["age"])  # fmt: skip
    found = cls(adata, n_latent=4, n_hidden=(16,), gene_likelihood="nb")
    found.train(20, **QUIET)
    return found


@pytest.fixture(scope="module")
def shared(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / type(model).__name__
    model.save(folder, shareable=True)
    return folder


def leaves(value):
    """All arrays, numbers and texts of a saved file."""
    if isinstance(value, torch.Tensor):
        yield value.numpy()
    elif isinstance(value, dict):
        if value.get("scmimic_type") == "array" and "bytes" in value:
            yield value["bytes"].numpy().view(np.dtype(value["dtype"])).reshape(value["shape"])
        else:
            for item in value.values():
                yield from leaves(item)
    elif isinstance(value, list | tuple | set):
        yield np.asarray(value) if all(isinstance(item, int | float) for item in value) else np.zeros(0)
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str | int | float):
        yield np.asarray(value)


def test_no_training_cell_is_in_the_file(model, shared):
    arrays = list(leaves(torch.load(shared / "model.pt", weights_only=True)))
    assert len(arrays) > 50
    assert not any(N in array.shape for array in arrays)
    posterior, obs = model.posterior_, model.adata.obs
    numbers = np.concatenate([array.ravel() for array in arrays if array.dtype.kind == "f"]).astype(np.float32)
    for own in (posterior.mean, posterior.std, posterior.log_library):
        assert np.isin(own.ravel(), numbers).mean() < 0.01
    assert np.isin(obs["age"].astype(np.float32), numbers).mean() < 0.01
    texts = {str(array) for array in arrays if array.dtype.kind == "U"}
    assert not texts & set(obs.index)
    # what the whole file holds, so that the test would see it
    whole = shared.parent / f"whole_{type(model).__name__}"
    model.save(whole, overwrite=True)
    assert any(N in array.shape for array in leaves(torch.load(whole / "model.pt", weights_only=True)))


def test_small_groups_leave_no_trace(model, shared):
    loaded = type(model).load(shared, allow_pickle=False)
    assert loaded.composition_.n_cells.min() >= SHARED_CELLS
    rare = model.label_categories_.index("rare")
    few = model._attributes.categorical[0].code("few")
    assert rare not in loaded.composition_.codes[:, 0]
    assert few not in loaded.composition_.codes[:, 2]
    assert loaded.shared_["left_out"] == ["rare"]
    with pytest.raises(ValueError, match=r"without types of fewer than 20 training cells: .* no cells of \['rare'\]"):
        loaded.generate(5, "rare")
    baseline = getattr(loaded.module.decoder, "label_baseline", None)
    if baseline is not None:
        assert (baseline[rare] == 0).all() and (model.module.decoder.label_baseline[rare] != 0).any()
        others = [i for i in range(len(loaded.module.px_r)) if i != rare]
        torch.testing.assert_close(loaded.module.px_r[rare], loaded.module.px_r[others].mean(0))
        rows = slice(rare * 40, (rare + 1) * 40)
        assert (loaded.margins_.weights[rows] == 0).all() and (model.margins_.weights[rows] > 0).any()
    # a donor of too few cells is one that was never seen
    assert not loaded.generate(5, covariates={"donor": "few"}, seed=0).obs["seen"].any()


def test_it_generates_as_the_whole_model_does(model, shared):
    loaded = type(model).load(shared, allow_pickle=False)
    kind = model.label_categories_[0] if model.label_categories_[0] != "rare" else model.label_categories_[1]
    mine, theirs = (x.generate(1500, kind, codes="mixture", seed=0) for x in (model, loaded))
    assert theirs.uns["scmimic"]["parameters"]["codes"] == "mixture"
    assert loaded.generate(5, seed=0).uns["scmimic"]["parameters"]["codes"] == "mixture"
    means = [np.log1p(np.asarray(sp.csr_matrix(x.X).mean(axis=0)).ravel()) for x in (mine, theirs)]
    np.testing.assert_allclose(*means, atol=0.2)
    assert loaded.decode(np.zeros((3, 4)), labels=kind, seed=0).shape == (3, 40)
    for codes in ("posterior", "kernel", "flow"):
        with pytest.raises(ValueError, match="saved with `shareable=True`"):
            loaded.generate(5, codes=codes)
    # shared once more, it is what it was
    with pytest.raises(ValueError, match="saved with `shareable=True`"):
        loaded.save(shared.parent / "again", shareable=True)


def test_the_model_itself_stays_whole(model, shared):
    assert model.posterior_ is not None
    rare = model.label_categories_.index("rare")
    assert (model.posterior_.labels == rare).sum() == 6
    assert model.generate(5, "rare", seed=0).n_obs == 5


def test_the_card_says_what_is_there(model, shared):
    card = (shared / "model_card.md").read_text()
    assert type(model).__name__ in card
    assert "Left out as too small: rare." in card
    assert "`cell_type`, `donor`, `age`" in card
    rows = [line for line in card.splitlines() if line.startswith("| ") and line.rstrip("| ").split("| ")[-1].isdigit()]
    assert len(rows) == len(type(model).load(shared).composition_.n_cells)
    assert "no proof of privacy" in card
    # what is generated, not what the networks were trained on
    kept = int(type(model).load(shared).composition_.n_cells.sum())
    assert kept < N and f"have {kept:,} of the training cells" in card
    assert card.splitlines()[0] == f"# {type(model).__name__} that holds no training cell"


def test_what_cannot_be_shared(model, tmp_path):
    with pytest.raises(ValueError, match="saves them all"):
        model.save(tmp_path / "x", shareable=True, save_anndata=True)
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    sm.WGANGP.setup_anndata(adata)
    gan = sm.WGANGP(adata, n_hidden_generator=(8,), n_hidden_critic=(8,))
    with pytest.raises(ValueError, match="only ACTIVA and BetaTCVAE"):
        gan.save(tmp_path / "x", shareable=True)
    assert not (tmp_path / "x").exists()


def test_a_whole_model_replaces_a_shared_one(model, tmp_path):
    model.save(tmp_path / "m", shareable=True)
    model.save(tmp_path / "m", overwrite=True)
    assert not (tmp_path / "m" / "model_card.md").exists()
    assert type(model).load(tmp_path / "m").posterior_ is not None


def test_a_rest_of_few_cells_is_not_told_by_the_groups_beside_it(model, shared):
    """A type's margins less those of its groups are those of its other cells: here of 9 cells of one donor at most."""
    if model.margins_ is None:
        pytest.skip("no margins")
    donors = model._attributes.categorical[0]
    groups, obs = model.margins_.blocks.groups, model.adata.obs
    loaded = type(model).load(shared, allow_pickle=False)
    assert len(groups) > len(loaded.margins_.blocks.groups)
    for label, donor in zip(*loaded.margins_.blocks.groups.T[[0, 2]], strict=True):
        of_type = obs["donor"][obs["cell_type"] == model.label_categories_[label]]
        named = {donors.names[code] for code in groups[groups[:, 0] == label, 2]}
        rest = (~of_type.isin(named)).sum()
        assert donors.names[donor] in named
        assert rest == 0 or rest >= SHARED_CELLS
