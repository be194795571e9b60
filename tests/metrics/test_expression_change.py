import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import ttest_ind

from scmimic.metrics import _expression_change, differential_expression


@pytest.fixture(scope="module")
def counts():
    """Two independent draws of three types from one population, log-normalised."""
    rng = np.random.default_rng(0)
    base = rng.gamma(0.6, 2.0, 80)
    profiles = base * np.exp(rng.normal(0, 1.0, (3, 80)) * (rng.random((3, 80)) < 0.3))
    labels = np.repeat(["a", "b", "c"], [120, 60, 40])
    codes = np.repeat([0, 1, 2], [120, 60, 40])
    sides = [np.log1p(rng.poisson(profiles[codes] * rng.lognormal(0, 0.3, (220, 1)))) for _ in range(2)]
    return sides[0], labels, sides[1], labels


def population(rng, n_genes=400, effect=0.25):
    """Noise as large as the changes at 80 cells per label: what dilutes a regression line."""
    profiles = rng.normal(0, effect, (3, n_genes)) * (rng.random((3, n_genes)) < 0.3)
    codes = np.repeat([0, 1, 2], 80)

    def draw(strength):
        center = profiles.mean(axis=0)
        return (center + strength * (profiles - center))[codes] + rng.normal(size=(len(codes), n_genes))

    return draw, codes


def plain_line(real, synthetic, codes, n_genes):
    """The line through the origin over the top genes of the same cells: what most reports show."""
    slopes = []
    for label in range(3):
        x, y = (side[codes == label].mean(axis=0) - side[codes != label].mean(axis=0) for side in (real, synthetic))
        t = ttest_ind(real[codes == label], real[codes != label], equal_var=False).statistic
        top = np.argsort(-np.abs(t))[:n_genes]
        slopes.append(x[top] @ y[top] / (x[top] @ x[top]))
    return np.median(slopes)


@pytest.mark.parametrize("strength", [1.0, 0.7, 0.4])
def test_slope_is_the_attenuation_where_a_plain_line_is_not(strength):
    rng = np.random.default_rng(1)
    found, plain = [], []
    for seed in range(40):
        draw, codes = population(rng)
        real, synthetic = draw(1), draw(strength)
        found += differential_expression(real, codes, synthetic, codes, seed=seed, n_splits=5).slope.values()
        plain.append(plain_line(real, synthetic, codes, 50))
    error = np.std(found) / np.sqrt(len(found))
    assert error < 0.02
    assert np.mean(found) == pytest.approx(strength, abs=3 * error)
    assert np.mean(plain) < 0.8 * strength


def test_slope_of_counts_shrunk_towards_the_mean(counts):
    real, labels, synthetic, _ = counts
    whole = differential_expression(real, labels, synthetic, labels, n_genes=20)
    assert whole.median_slope == pytest.approx(1, abs=0.1)
    assert set(whole.slope) == {"a", "b", "c"}
    half = differential_expression(real, labels, 0.5 * synthetic + 0.5 * synthetic.mean(axis=0), labels, n_genes=20)
    for label in "abc":
        assert half.slope[label] == pytest.approx(whole.slope[label] / 2)
        assert half.direction[label] == whole.direction[label]
    turned = differential_expression(real, labels, -synthetic, labels, n_genes=20)
    assert turned.slope["a"] == pytest.approx(-whole.slope["a"])
    assert turned.direction["a"] == pytest.approx(1 - whole.direction["a"])
    # the size of a change is the same up or down
    assert turned.overlap == whole.overlap


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_genes_and_changes_equal_scanpy_and_scipy(counts, kind, monkeypatch):
    # chunks of seven cells
    monkeypatch.setattr(_expression_change, "_CHUNK_VALUES", 7 * 80)
    real, labels, synthetic, _ = counts
    result = differential_expression(kind(real), labels, kind(synthetic), labels, n_genes=15)
    tops = []
    for x in (real, synthetic):
        adata = AnnData(x, obs={"label": labels}, uns={"log1p": {"base": None}})
        sc.tl.rank_genes_groups(adata, "label", method="t-test", rankby_abs=True)
        names = adata.uns["rank_genes_groups"]["names"]
        tops.append({label: names[label][:15].astype(int) for label in "abc"})
    for label in "abc":
        np.testing.assert_array_equal(result.genes[label], tops[0][label])
        common = len(set(tops[0][label]) & set(tops[1][label]))
        assert result.overlap[label] == common / (30 - common)
        changes = [x[labels == label].mean(axis=0) - x[labels != label].mean(axis=0) for x in (real, synthetic)]
        np.testing.assert_allclose(result.real_change[label], changes[0], atol=1e-12)
        np.testing.assert_allclose(result.synthetic_change[label], changes[1], atol=1e-12)
        signs = [np.sign(change[tops[0][label]]) for change in changes]
        assert result.direction[label] == (signs[0] == signs[1]).mean()
    assert result.median_overlap == np.median(list(result.overlap.values()))


def test_slope_equals_a_plain_loop_over_one_split(counts, monkeypatch):
    real, labels, synthetic, _ = counts
    mark = np.arange(len(labels)) % 2 == 0
    monkeypatch.setattr(_expression_change, "_half", lambda codes, rng: mark)
    result = differential_expression(real, labels, synthetic, labels, n_genes=10, n_splits=1)
    share = {label: (labels == label).mean() for label in "abc"}

    def change(x, group, label):
        rest = [other for other in "abc" if other != label]
        mean = {other: x[group & (labels == other)].mean(axis=0) for other in "abc"}
        return mean[label] - sum(share[o] * mean[o] for o in rest) / sum(share[o] for o in rest)

    for label in "abc":
        y = change(synthetic, np.ones(len(labels), bool), label)
        above = below = 0
        for one, other in ((mark, ~mark), (~mark, mark)):
            t = ttest_ind(real[one & (labels == label)], real[one & (labels != label)], equal_var=False).statistic
            top = np.argsort(-np.abs(np.nan_to_num(t)))[:10]
            w, x = change(real, one, label)[top], change(real, other, label)[top]
            above, below = above + w @ y[top], below + w @ x
        assert result.slope[label] == pytest.approx(above / below)


def test_halves_are_halves_of_each_label():
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 7, 2]))
    rng = np.random.default_rng(1)
    marks = np.array([_expression_change._half(codes, rng) for _ in range(400)])
    for code, expected in ((0, 5), (1, 4), (2, 1)):
        assert (marks[:, codes == code].sum(axis=1) == expected).all()
    # each cell of a label is as often in the first half
    np.testing.assert_allclose(marks[:, codes == 0].mean(axis=0), 0.5, atol=0.1)


def test_other_proportions_of_types_are_no_change(counts):
    real, labels, synthetic, _ = counts
    as_drawn = differential_expression(real, labels, synthetic, labels)
    # three times as many cells of one type
    rows = np.concatenate([np.arange(220), *[np.flatnonzero(labels == "c")] * 2])
    other = differential_expression(real, labels, synthetic[rows], labels[rows])
    for label in "abc":
        assert other.slope[label] == pytest.approx(as_drawn.slope[label])


def test_small_and_foreign_labels(counts):
    real, labels, synthetic, _ = counts
    result = differential_expression(real, labels, synthetic, labels, min_cells=50)
    full = differential_expression(real, labels, synthetic, labels)
    assert result.left_out == ("c",)
    # a small label stays in the rest
    assert result.slope == {label: full.slope[label] for label in "ab"}
    renamed = np.where(labels == "c", "new", labels)
    foreign = differential_expression(real, labels, synthetic, renamed)
    assert foreign.left_out == ("c", "new")
    use = labels != "c"
    assert foreign.slope == differential_expression(real[use], labels[use], synthetic[use], labels[use]).slope


def test_without_any_change_there_is_no_slope():
    labels = np.repeat(["a", "b"], 30)
    result = differential_expression(np.ones((60, 3)), labels, np.ones((60, 3)), labels)
    assert np.isnan(list(result.slope.values())).all()
    assert np.isnan(result.median_slope)
    assert result.median_direction == 1


def test_genes_without_variance(counts):
    """Constant genes never lead the list; a gene that is on in one label and off in the rest does."""
    real, labels, synthetic, _ = counts
    marker = (labels == "b").astype(float)
    extra = np.column_stack([np.full(220, 0.1), np.full(220, 1 / 3), marker])
    sides = [np.hstack([extra, x]) for x in (real, synthetic)]
    result = differential_expression(sides[0], labels, sides[1], labels, n_genes=10)
    assert result.genes["b"][0] == 2
    assert not any({0, 1} & set(genes) for genes in result.genes.values())
    assert np.isfinite(list(result.slope.values())).all()


def test_bad_input(counts):
    real, labels, synthetic, _ = counts
    with pytest.raises(ValueError, match="`n_genes` must be a whole number at least 1"):
        differential_expression(real, labels, synthetic, labels, n_genes=0)
    with pytest.raises(ValueError, match="`synthetic_labels` must hold one label"):
        differential_expression(real, labels, synthetic, labels[1:])
    with pytest.raises(ValueError, match="share 0 labels"):
        differential_expression(real, labels, synthetic, np.char.add(labels, "x"))
    with pytest.raises(ValueError, match="No label has 500 cells"):
        differential_expression(real, labels, synthetic, labels, min_cells=500)
    with pytest.raises(ValueError, match="'synthetic': 79"):
        differential_expression(real, labels, synthetic[:, 1:], labels)
