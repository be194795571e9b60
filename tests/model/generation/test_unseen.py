"""Groups without training cells get the mean expression that the other groups foretell."""

import logging
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from scipy.optimize import minimize

import scmimic as sm
from scmimic import _keys
from scmimic.cells import AttributeValues
from scmimic.model.generation._sampler import UNSEEN_CELLS, BlockSampler
from scmimic.model.generation._unseen import HALF_COUNTED, NEAR_GROUPS, GroupMeans
from scmimic.model.generation.codes._composition import find_groups
from scmimic.model.generation.similarity import POWERS

N_GENES = 40
CONTROL, STIMULATED = 0, 1


def values(codes):
    codes = np.asarray(codes, dtype=np.int64)
    return AttributeValues(codes, np.empty((len(codes), 0)))


def groups(means, n_cells=1000, library=None):
    """Group means of {(label, condition): log expression}."""
    codes = np.array([(label, 0, condition) for label, condition in means])
    n = np.broadcast_to(n_cells, len(means)).copy()
    library = np.zeros(len(means)) if library is None else np.array([library[key] for key in means], dtype=float)
    return GroupMeans(codes, n, np.array(list(means.values()), dtype=np.float32), library)


def log_means(rng, n):
    """Log means of which none is near 0."""
    return rng.uniform(2, 6, (n, N_GENES))


def foretold_expression(found):
    return np.log1p(found.proportions * 1e4)


def scaled(expression):
    amounts = np.expm1(expression)
    return np.log1p(amounts / amounts.sum() * 1e4)


def test_means_are_those_of_the_cells():
    rng = np.random.default_rng(0)
    x = sp.csr_matrix(rng.poisson(1.0, (50, 7)).astype(np.float32))
    x[3] = 0
    codes = rng.integers(2, size=(50, 3))
    library = rng.normal(size=50)
    found = GroupMeans.of(values(codes), library, [x[:20], x[20:21], x[21:]])
    dense = x.toarray()
    for code, n, expression, size in zip(found.codes, found.n_cells, found.expression, found.library, strict=True):
        rows = np.flatnonzero((codes == code).all(axis=1))
        shares = [dense[row] / max(dense[row].sum(), 1) for row in rows]
        assert n == len(rows)
        np.testing.assert_allclose(expression, np.log1p(1e4 * np.mean(shares, axis=0)), rtol=1e-5)
        assert size == pytest.approx(library[rows].mean())
    assert len(found.codes) == len(np.unique(codes, axis=0))


def test_a_response_that_all_labels_share_is_foretold_in_full():
    rng = np.random.default_rng(0)
    base, response = log_means(rng, 4), rng.normal(0, 1, N_GENES)
    means = {(k, CONTROL): base[k] for k in range(4)} | {(k, STIMULATED): base[k] + response for k in range(3)}
    library = {key: 7.0 + key[0] + (0.3 if key[1] == STIMULATED else 0) for key in means}
    found = groups(means, library=library).foretell(np.array([3, 0, STIMULATED]))
    np.testing.assert_allclose(foretold_expression(found), scaled(base[3] + response), rtol=1e-4)
    assert found.trust == pytest.approx(1, abs=1e-5)
    assert found.log_library == pytest.approx(10.3)
    assert sum(found.label_weights.values()) == pytest.approx(1)


def test_labels_that_are_alike_count():
    """Two families whose responses are opposite: the family of the label tells its response."""
    rng = np.random.default_rng(1)
    family, own, response = log_means(rng, 2), rng.normal(0, 0.1, (8, N_GENES)), rng.normal(0, 1, N_GENES)
    means = {}
    for k in range(8):
        means[k, CONTROL] = family[k % 2] + own[k]
        means[k, STIMULATED] = means[k, CONTROL] + (1 if k % 2 else -1) * response
    truth = means.pop((5, STIMULATED))
    found = groups(means).foretell(np.array([5, 0, STIMULATED]))
    np.testing.assert_allclose(foretold_expression(found), scaled(truth), atol=0.02)
    assert found.trust > 0.98
    assert sum(weight for label, weight in found.label_weights.items() if label % 2) > 0.98


def test_responses_without_anything_in_common_are_not_foretold():
    rng = np.random.default_rng(2)
    base = log_means(rng, 6)
    means = {(k, CONTROL): base[k] for k in range(6)}
    # orthogonal, so that none has a part in another
    response = np.linalg.qr(rng.normal(size=(N_GENES, N_GENES)))[0][:5] * 3
    means |= {(k, STIMULATED): base[k] + response[k] for k in range(5)}
    found = groups(means).foretell(np.array([5, 0, STIMULATED]))
    np.testing.assert_allclose(foretold_expression(found), scaled(base[5]), atol=1e-3)
    assert found.trust == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(found.risen, 0, atol=1e-3)


def test_opposite_responses_are_not_turned_round():
    rng = np.random.default_rng(6)
    base, response = log_means(rng, 3), rng.normal(0, 1, N_GENES)
    means = {(k, CONTROL): base[k] for k in range(3)}
    means |= {(k, STIMULATED): base[k] + sign * response for k, sign in enumerate((1, -1))}
    found = groups(means).foretell(np.array([2, 0, STIMULATED]))
    np.testing.assert_allclose(foretold_expression(found), scaled(base[2]), atol=1e-4)


def test_against_a_second_implementation():
    rng = np.random.default_rng(3)
    n_labels, target = 5, 2
    means = {(k, c): log_means(rng, 1)[0] for k in range(n_labels) for c in (CONTROL, STIMULATED)}
    for k in range(n_labels):
        means[k, STIMULATED] = means[k, CONTROL] + rng.normal(0.3, 0.4, N_GENES)
    del means[target, STIMULATED]
    means = {key: value.astype(np.float32).astype(float) for key, value in means.items()}
    n_cells = rng.integers(5, 60, len(means))
    size = dict(zip(means, n_cells, strict=True))
    found = groups(means, n_cells).foretell(np.array([target, 0, STIMULATED]))

    others = [k for k in range(n_labels) if k != target]
    place = {k: means[k, CONTROL] for k in range(n_labels)}
    response = {k: means[k, STIMULATED] - means[k, CONTROL] for k in others}

    def guess(k, power, among):
        w = np.array([np.linalg.norm(place[k] - place[j]) ** -float(power) for j in among])
        return sum(a * response[j] for a, j in zip(w / w.sum(), among, strict=True))

    def loss(power):
        return sum(
            ((guess(k, power, [j for j in others if j != k]) - response[k]) ** 2).sum() / (response[k] ** 2).sum()
            for k in others
        )

    power = min(POWERS, key=loss)
    guesses = {k: guess(k, power, [j for j in others if j != k]) for k in others}
    kept = sum(guesses[k] @ response[k] / (response[k] @ response[k]) for k in others)
    kept /= sum(guesses[k] @ guesses[k] / (response[k] @ response[k]) for k in others)
    weight = {k: np.linalg.norm(place[target] - place[k]) ** -float(power) for k in others}
    for k in others:
        few = min(size[k, CONTROL], size[k, STIMULATED])
        weight[k] *= few / (few + HALF_COUNTED)
    total = sum(weight.values())
    moved = place[target] + min(kept, 1) * sum(weight[k] / total * response[k] for k in others)
    np.testing.assert_allclose(foretold_expression(found), scaled(moved), rtol=1e-5)
    error = sum(weight[k] * ((min(kept, 1) * guesses[k] - response[k]) ** 2).sum() for k in others)
    assert found.trust == pytest.approx(1 - error / sum(weight[k] * (response[k] ** 2).sum() for k in others))
    risen = np.maximum(1 - np.expm1(place[target]) / np.expm1(moved), 0)
    np.testing.assert_allclose(found.risen, risen, atol=1e-6)
    assert found.label_weights == pytest.approx({k: weight[k] / total for k in others})


def three_attributes(rng, *, donors, response=1.0, donor=0.5, cells=(30, 200)):
    """Means of three labels under control and a drug, from several donors, with sampling noise."""
    base, drug, own = log_means(rng, 3), response * rng.normal(size=N_GENES), donor * rng.normal(size=(donors, N_GENES))
    codes = np.array([(k, c, d) for k in range(3) for c in (CONTROL, STIMULATED) for d in range(donors)])
    n_cells = rng.integers(*cells, len(codes))
    truth = base[codes[:, 0]] + codes[:, 1:2] * drug + own[codes[:, 2]]
    means = truth + rng.normal(size=truth.shape) / np.sqrt(n_cells)[:, None]
    library = 7 + 0.5 * codes[:, 1] + 0.2 * codes[:, 2]
    return GroupMeans(codes, n_cells, means.astype(np.float32), library), truth


def without(found, *combinations):
    kept = ~np.isin(np.arange(len(found.codes)), [find_groups(found.codes, np.array([c]))[0] for c in combinations])
    return GroupMeans(found.codes[kept], found.n_cells[kept], found.expression[kept], found.library[kept])


def test_what_each_attribute_moves_is_told_from_noise():
    rng = np.random.default_rng(8)
    steps, donors = rng.normal(size=400), 0.5 * rng.normal(size=(8, 400))
    codes = np.array([(k, c, d, k) for k in range(3) for c in (0, 1) for d in range(8)])
    n_cells = rng.integers(5, 200, len(codes))
    noise = 3 / np.sqrt(n_cells)[:, None] * rng.normal(size=(len(codes), 400))
    means = 5.0 + codes[:, :1] + codes[:, 1:2] * steps + donors[codes[:, 2]] + noise
    of_all = GroupMeans(codes, n_cells, means, np.zeros(len(codes)))
    of_label, of_drug, of_donors, of_name, of_noise = of_all._parts
    assert of_drug == pytest.approx(400, rel=0.15)
    assert of_donors == pytest.approx(2 * 0.25 * 400, rel=0.15)
    assert of_noise == pytest.approx(9 * 400, rel=0.5)
    # within a label these are the same in all groups: nothing is known, and they count in full
    assert of_label == of_name == of_drug
    alike = GroupMeans(codes, n_cells, 5 + codes[:, 1:2] * steps + noise, np.zeros(len(codes)))
    assert alike._parts[2] < 0.02 * alike._parts[1]


def test_shares_are_those_of_the_least_expected_distance():
    of_all, _ = three_attributes(np.random.default_rng(4), donors=3)
    asked = np.array([0, STIMULATED, 2])
    rows = np.flatnonzero((of_all.codes[:, 0] == 0) & (of_all.codes != asked).any(axis=1))
    shares = of_all._nearest(rows, asked)
    parts, noise = of_all._parts[:-1], of_all._parts[-1]

    def expected(shares):
        """Squared distance of the mean, by the distances of pairs."""
        groups = np.vstack([of_all.codes[rows], asked])
        between = (groups[:, None] != groups[None]) @ parts / 2
        signs = np.append(shares, -1)
        return -signs @ between @ signs + noise * (shares**2 / of_all.n_cells[rows]).sum()

    one = {"type": "eq", "fun": lambda x: x.sum() - 1}
    best = minimize(
        expected, np.full(len(rows), 1 / len(rows)), bounds=[(0, 1)] * len(rows), constraints=one, tol=1e-12
    )
    assert shares.sum() == pytest.approx(1) and (shares >= 0).all()
    assert expected(shares) == pytest.approx(best.fun, rel=1e-4)
    np.testing.assert_allclose(shares, best.x, atol=0.01)
    # the drug's cells of other donors, and the donor's own control cells
    assert shares[of_all.codes[rows, 1] == STIMULATED].sum() > 0.5
    assert shares[of_all.codes[rows, 1] == CONTROL][2] > 2 * shares[of_all.codes[rows, 1] == CONTROL][:2].max()


def test_of_many_groups_the_nearest_and_largest_are_taken():
    rng = np.random.default_rng(11)
    of_all, _ = three_attributes(rng, donors=60, donor=0.0)
    asked = np.array([0, STIMULATED, 0])
    rows = np.flatnonzero((of_all.codes[:, 0] == 0) & (of_all.codes != asked).any(axis=1))
    shares = of_all._nearest(rows, asked)
    assert shares.sum() == pytest.approx(1) and (shares > 0).sum() <= NEAR_GROUPS < len(rows)
    near = rows[shares > 0]
    assert (of_all.codes[near, 1] == STIMULATED).all()
    largest = of_all.n_cells[rows[of_all.codes[rows, 1] == STIMULATED]]
    assert of_all.n_cells[near].min() >= np.sort(largest)[-NEAR_GROUPS]


def test_labels_of_one_group_each_say_nothing():
    rng = np.random.default_rng(12)
    found = groups({(0, CONTROL): log_means(rng, 1)[0], (1, STIMULATED): log_means(rng, 1)[0]})
    assert found.foretell(np.array([0, 0, STIMULATED])) is None


@pytest.mark.parametrize("donor", [0.0, 0.3])
def test_it_begins_at_the_cells_that_are_nearest(donor):
    """The drug moves much: cells with it of other donors are nearer than the donor's control cells."""
    rng = np.random.default_rng(9)
    of_all, truth = three_attributes(rng, donors=4, donor=donor)
    asked = (0, STIMULATED, 3)
    row = find_groups(of_all.codes, np.array([asked]))[0]
    found = without(of_all, asked).foretell(np.array(asked))
    error = foretold_expression(found) - scaled(truth[row])
    # of every four groups that count alike a mean, but for the donor's own part
    assert np.sqrt((error**2).mean()) < 0.12 + 0.5 * donor
    assert found.trust > 0.8
    assert found.log_library == pytest.approx(of_all.library[row], abs=0.15)


def test_labels_that_were_not_seen_near_what_is_asked_say_nothing():
    """Their change, from control cells, is not that from the drug's cells of other donors."""
    rng = np.random.default_rng(10)
    of_all, _ = three_attributes(rng, donors=3, donor=0.05)
    asked = (0, STIMULATED, 2)
    far = [(1, STIMULATED, 0), (1, STIMULATED, 1)]
    found = without(of_all, asked, *far).foretell(np.array(asked))
    assert list(found.label_weights) == [2]
    assert without(of_all, asked, *far, (2, STIMULATED, 0), (2, STIMULATED, 1)).foretell(np.array(asked)) is None


def test_trust_counts_from_the_mean_of_all_the_cells_of_a_type():
    """Donors hardly differ: the drug of one is foretold by that of the others, and what is left is noise."""
    rng = np.random.default_rng(7)
    base, response = log_means(rng, 3), rng.normal(0, 1, N_GENES)
    means = {
        (k, d, c): base[k] + c * response + rng.normal(0, 0.05, N_GENES)
        for k in range(3)
        for d in range(2)
        for c in (CONTROL, STIMULATED)
    }
    asked = (0, 1, STIMULATED)
    del means[asked]
    n_cells = rng.integers(20, 90, len(means))
    size = dict(zip(means, n_cells, strict=True))
    codes, library = np.array(list(means)), np.zeros(len(means))
    of_all = GroupMeans(codes, n_cells, np.array(list(means.values()), dtype=np.float32), library)
    found = of_all.foretell(np.array(asked))

    def blend(k, combinations, shares):
        return np.average([means[k, d, c] for d, c in combinations], axis=0, weights=shares)

    # of two references each is foretold by the other, and both kept as far as they foretell
    every = [(d, c) for k, d, c in means if k == 0]
    number = np.array([size[0, d, c] for d, c in every])
    usual, steps = {k: blend(k, every, number) for k in (1, 2)}, {}
    for k in (1, 2):
        rows = find_groups(codes, np.array([(k, d, c) for d, c in every]))
        steps[k] = means[k, 1, STIMULATED] - blend(k, every, of_all._nearest(rows, np.array([k, 1, STIMULATED])))
    sizes = {k: steps[k] @ steps[k] for k in steps}
    kept = max(sum(steps[1] @ steps[2] / sizes[k] for k in steps) / sum(sizes[3 - k] / sizes[k] for k in steps), 0)
    weight = {}
    for k in steps:
        few = min(sum(size[k, d, c] for d, c in every), size[k, 1, STIMULATED])
        weight[k] = few / (few + HALF_COUNTED)
    error = sum(weight[k] * ((kept * steps[3 - k] - steps[k]) ** 2).sum() for k in steps)
    change = sum(weight[k] * ((means[k, 1, STIMULATED] - usual[k]) ** 2).sum() for k in steps)
    assert found.trust == pytest.approx(1 - error / change, abs=1e-5)
    assert found.trust > 0.9


def test_what_nothing_is_said_of():
    rng = np.random.default_rng(5)
    means = {(k, CONTROL): row for k, row in enumerate(log_means(rng, 3))}
    means[1, STIMULATED] = log_means(rng, 1)[0]
    found = groups(means)
    assert found.foretell(np.array([1, 0, STIMULATED])) is None  # there are cells
    assert found.foretell(np.array([7, 0, STIMULATED])) is None  # no cell of the type
    assert found.foretell(np.array([0, 0, 9])) is None  # no cell of the condition
    alone = groups({(0, CONTROL): means[0, CONTROL], (1, STIMULATED): means[1, STIMULATED]})
    assert alone.foretell(np.array([0, 0, STIMULATED])) is None  # no type that was seen under both


# --- in a model ---------------------------------------------------------------------------------------------------


def cells(seed=0, n=1200, held=True):
    """Six types, three and three alike; a condition makes genes 0 to 9 rise tenfold, in types 3 to 5 genes 10 to 19."""
    rng = np.random.default_rng(seed)
    kind, condition = rng.integers(6, size=n), rng.integers(2, size=n)
    shape = np.random.default_rng(9)
    base = np.exp(shape.normal(0, 1, N_GENES)) * np.exp(shape.normal(0, 1, (2, N_GENES))[[0, 0, 0, 1, 1, 1]])
    base = base * np.exp(shape.normal(0, 0.2, (6, N_GENES)))
    base[:, :20] = 0.3
    rate = base[kind]
    for family in (0, 1):
        genes = slice(10 * family, 10 * family + 10)
        rate[:, genes] *= np.where((kind // 3 == family) & (condition == 1), 10, 1)[:, None]
    depth = rng.lognormal(5, 0.3, (n, 1)) * np.where(condition == 1, 1.5, 1)[:, None]
    x = rng.poisson(rate / rate.sum(1, keepdims=True) * depth).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(x))
    adata.obs["kind"] = [f"k{i}" for i in kind]
    adata.obs["condition"] = np.array(["control", "stimulated"])[condition]
    gone = ((kind == 0) & (condition == 1)) if held else np.zeros(n, dtype=bool)
    return adata[~gone].copy(), adata[gone].copy()


ASKED = {"labels": "k0", "covariates": {"condition": "stimulated"}}


def fit(cls=sm.ACTIVA, epochs=30, **init):
    train, _ = cells()
    cls.setup_anndata(train, labels_key="kind", categorical_covariate_keys=["condition"])
    scvi.settings.seed = 0
    model = cls(train, **{"n_latent": 4, "n_hidden": (32,), "gene_likelihood": "nb"} | init)
    model.train(epochs, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fit()


def shares(adata):
    x = adata.X.toarray()
    return (x / x.sum(1, keepdims=True)).mean(0)


def test_cells_come_nearer_to_the_real_ones_than_the_decoder_alone(model):
    _, real = cells()
    new = model.generate(2000, **ASKED, seed=0)
    known, model.means_ = model.means_, None
    try:
        alone = model.generate(2000, **ASKED, seed=0)
    finally:
        model.means_ = known
    truth = shares(real)
    error, of_decoder = (np.abs(shares(x) - truth).sum() for x in (new, alone))
    assert error < 0.7 * of_decoder
    # the condition makes cells half as deep again
    depth, expected = (np.log(np.asarray(x.X.sum(1))).mean() for x in (new, real))
    assert depth == pytest.approx(expected, abs=0.12)
    assert 0.5 < new.uns["scmimic"]["trust"]["k0, stimulated"] <= 1


def test_means_are_those_foretold(model):
    code = model._attributes.labels.find(["k0"], "labels")[0]
    asked = np.array([code, 0, 1])
    found = model.means_.foretell(asked)
    new = model.generate(6000, **ASKED, seed=1)
    np.testing.assert_allclose(shares(new), found.proportions, rtol=0.15, atol=1e-3)


def test_expected_expression_has_them_too(model):
    z = model.generate(UNSEEN_CELLS, **ASKED, seed=2).obsm["X_activa"]
    code = model._attributes.labels.find(["k0"], "labels")[0]
    expected = model.expected_expression(z, **ASKED, library_size=150).mean(0) / 150
    found = model.means_.foretell(np.array([code, 0, 1]))
    np.testing.assert_allclose(expected, found.proportions, rtol=0.15, atol=1e-3)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-4)


def test_decoded_codes_have_them_too(model, tmp_path):
    z = model.generate(3000, **ASKED, seed=3).obsm["X_activa"]
    code = model._attributes.labels.find(["k0"], "labels")[0]
    found = model.means_.foretell(np.array([code, 0, 1]))
    np.testing.assert_allclose(shares(model.decode(z, **ASKED, seed=0)), found.proportions, rtol=0.2, atol=1e-3)
    model.save(tmp_path / "shared", shareable=True)
    shared = sm.ACTIVA.load(tmp_path / "shared", allow_pickle=False)
    np.testing.assert_allclose(shares(shared.decode(z, **ASKED, seed=0)), found.proportions, rtol=0.2, atol=1e-3)


def test_cells_of_other_groups_stay_as_they_were(model):
    asked = {"labels": ["k1", "k3"], "covariates": {"condition": "stimulated"}}
    known, model.means_ = model.means_, None
    try:
        before = model.generate(50, **asked, seed=3).X.toarray()
    finally:
        model.means_ = known
    np.testing.assert_array_equal(model.generate(50, **asked, seed=3).X.toarray(), before)


def test_margins_are_those_of_seen_groups_alone(model, monkeypatch):
    monkeypatch.setattr(
        type(model.margins_), "values", lambda self, blocks, genes, x, *rest: np.where(blocks < 0, x, 0)
    )
    table = model.adata.obs[["kind", "condition"]].head(20).copy()
    table.iloc[::2] = ["k0", "stimulated"]
    new = model.generate(like=table, seed=4)
    np.testing.assert_array_equal(new.obs["seen"], np.arange(20) % 2 == 1)
    total = np.asarray(new.X.sum(1)).ravel()
    assert (total[::2] > 0).all()
    assert (total[1::2] == 0).all()


def test_genes_that_rise_vary_as_where_they_are_expressed(model):
    module = model.module
    share = np.linspace(0, 1, N_GENES)
    mixed = module.mixed_dispersion(0, {1: 0.25, 2: 0.75}, share)
    log = module.px_r.detach().numpy()
    expected = (1 - share) * log[0] + share * (0.25 * log[1] + 0.75 * log[2])
    np.testing.assert_allclose(mixed.log().detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_dispersions_of_unseen_cells_are_mixed(model):
    column = model._attributes.labels
    k0, k1 = column.find(["k0", "k1"], "labels")
    found = model.means_.foretell(np.array([k0, 0, 1]))
    sampler = model._sampler(seed=0)
    with torch.inference_mode():
        asked = values([[k0, 0, 1], [k1, 0, 1]])
        px = sampler.distribution(torch.zeros(2, 4), torch.full((2, 1), 5.0), asked)
        mixed = model.module.mixed_dispersion(k0, found.label_weights, found.risen)
        torch.testing.assert_close(px.theta[0], mixed)
        torch.testing.assert_close(px.theta[1], model.module.px_r[k1].exp())
        assert not torch.allclose(px.theta[0], model.module.px_r[k0].exp(), rtol=0.01)


@pytest.mark.parametrize("likelihood", ["zinb", "poisson"])
@pytest.mark.parametrize("cls", [sm.ACTIVA, sm.BetaTCVAE], ids=lambda cls: cls.__name__)
def test_every_count_likelihood_has_it(cls, likelihood):
    model = fit(cls, epochs=2, gene_likelihood=likelihood)
    if cls is sm.BetaTCVAE and model.means_.codes[:, 0].max() == 0:
        pytest.skip("knows no types")
    code = model._attributes.labels.find(["k0"], "labels")[0]
    found = model.means_.foretell(np.array([code, 0, 1]))
    z = model.generate(UNSEEN_CELLS, **ASKED, seed=0).obsm[_keys.latent(cls.__name__)]
    expected = model.expected_expression(z, **ASKED)
    expected = (expected / expected.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(expected, found.proportions, rtol=0.2, atol=2e-3)


def test_a_likelihood_without_counts_has_none():
    train, _ = cells()
    sm.ACTIVA.setup_anndata(train, labels_key="kind", categorical_covariate_keys=["condition"])
    model = sm.ACTIVA(train, n_latent=4, n_hidden=(16,), gene_likelihood="normal")
    model.train(1, warmup_epochs=1, enable_progress_bar=False)
    assert model.means_ is None
    assert "trust" not in model.generate(5, **ASKED, seed=0).uns["scmimic"]


def test_they_are_saved_and_shared(model, tmp_path):
    before = model.generate(30, **ASKED, seed=5)
    model.save(tmp_path / "whole")
    loaded = sm.ACTIVA.load(tmp_path / "whole", allow_pickle=False)
    np.testing.assert_array_equal(loaded.generate(30, **ASKED, seed=5).X.toarray(), before.X.toarray())
    model.save(tmp_path / "shared", shareable=True)
    shared = sm.ACTIVA.load(tmp_path / "shared", allow_pickle=False)
    assert (shared.means_.n_cells >= 20).all()
    assert "Mean expression of each group" in (tmp_path / "shared" / "model_card.md").read_text()
    assert shared.generate(5, **ASKED, seed=0).uns["scmimic"]["trust"] == before.uns["scmimic"]["trust"]


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_trust_is_written(model, tmp_path, ending):
    written = model.generate(30, **ASKED, seed=5, path=tmp_path / f"cells.{ending}")
    assert written.uns["scmimic"]["trust"] == pytest.approx(model.generate(30, **ASKED, seed=5).uns["scmimic"]["trust"])


def test_what_cannot_be_trusted_is_said(model, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, logger="scmimic"):
        model.generate(5, **ASKED, seed=0)
        assert not caplog.records
        found = model.means_.foretell
        for trust, text in (
            (-0.1, "The mean expression of k0, stimulated (trust -0.10) is not foretold"),
            (0.43, "Take the mean expression of k0, stimulated (trust 0.43) with caution"),
            (0.5, ""),
        ):
            caplog.clear()
            monkeypatch.setattr(
                GroupMeans, "foretell", lambda self, codes, trust=trust: replace(found(codes), trust=trust)
            )
            model.generate(5, **ASKED, seed=0)
            assert text in caplog.text and len(caplog.records) == bool(text)
        monkeypatch.setattr(GroupMeans, "foretell", lambda self, codes: None)
        model.generate(5, **ASKED, seed=0)
        assert "Nothing says how good cells of k0, stimulated are" in caplog.text


def test_a_held_out_comparison_has_the_trust(model):
    train, real = cells()
    whole = ad.concat([train, real])
    whole.obs_names_make_unique()

    def again(part, seed):
        sm.ACTIVA.setup_anndata(part, labels_key="kind", categorical_covariate_keys=["condition"])
        new = sm.ACTIVA(part, n_latent=4, n_hidden=(32,), gene_likelihood="nb")
        new.train(2, enable_progress_bar=False)
        return new

    table = sm.tl.holdout_arithmetic(
        whole, group_key="kind", condition_key="condition", fit=again, targets=[("k0", "stimulated")], n_trees=20
    ).set_index("method")
    assert 0.5 < table.loc["model", "trust"] <= 1
    # the change of the real cells is foretold about as well as the trust says
    left = 1 - (1 - table.loc["model", "r2"]) / (1 - table.loc["control cells", "r2"])
    assert left == pytest.approx(table.loc["model", "trust"], abs=0.25)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_decoder_is_asked_once_for_each_group(model, monkeypatch, n_threads):
    monkeypatch.setattr(BlockSampler, "n_threads", n_threads)
    calls = []
    decode = type(model.module).decode

    def counted(self, z, *rest, **kwargs):
        calls.append(len(z))
        return decode(self, z, *rest, **kwargs)

    monkeypatch.setattr(type(model.module), "decode", counted)
    model.generate(3 * 128, **ASKED, seed=0)
    assert sorted(calls) == [128, 128, 128, UNSEEN_CELLS]
    assert torch.is_grad_enabled()
