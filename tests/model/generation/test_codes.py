"""Where codes come from: distributions of known codes, groups that borrow, and what is kept."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from scmimic._plain import from_plain, to_plain
from scmimic.cells import OPEN, AttributeValues
from scmimic.model.generation.codes import _flow
from scmimic.model.generation.codes._composition import Composition
from scmimic.model.generation.codes._flow import CodeFlow
from scmimic.model.generation.codes._kernel import KernelCodes
from scmimic.model.generation.codes._mixture import PRIOR_CELLS, CodeMixture
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.codes._sources import FittedCodes, PosteriorCodes

NEEDS_ZUKO = pytest.mark.skipif(find_spec("zuko") is None, reason="zuko is not installed")
FLOW = pytest.param("flow", marks=NEEDS_ZUKO)
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


def posterior(sizes, seed=0, std=0.05):
    """Types in two dimensions, each in two batches that lie 1 apart; type 0 is two clusters 8 apart."""
    rng = np.random.default_rng(seed)
    mean, labels, batches = [], [], []
    for label, batch, n in sizes:
        center = np.array([4.0 * label, batch])
        part = center + rng.multivariate_normal([0, 0], COVARIANCE, n)
        if label == 0:
            part[: n // 2, 1] += 8
        mean.append(part)
        labels += [label] * n
        batches += [batch] * n
    mean = np.concatenate(mean).astype(np.float32)
    library = (5 + 0.1 * mean[:, 0] + 0.05 * rng.standard_normal(len(mean))).astype(np.float32)
    spread = np.full_like(mean, std)
    return AggregatedPosterior(mean, spread, library, np.array(labels), np.array(batches))


SIZES = [(0, 0, 400), (0, 1, 400), (1, 0, 300), (1, 1, 300), (2, 0, 5)]


def source(name, of):
    composition = Composition.of(of.attributes, of.log_library)
    if name in ("mixture", "flow"):
        return FittedCodes(composition, {"mixture": CodeMixture, "flow": CodeFlow}[name].fit(of))
    return {"posterior": PosteriorCodes, "kernel": KernelCodes}[name](of)


def drawn(codes, label, batch, n, seed=0):
    asked = AttributeValues(np.tile([label, batch], (n, 1)), np.empty((n, 0)))
    who = codes.draw(asked, np.random.default_rng(seed))
    stream = torch.Generator().manual_seed(seed)
    z, library = codes.sample(who, torch.randn(n, 2, generator=stream), stream)
    return z.numpy(), library.numpy().ravel(), who


@pytest.mark.parametrize("name", ["posterior", "mixture", FLOW, "kernel"])
def test_codes_are_distributed_as_those_of_the_cells(name, monkeypatch):
    monkeypatch.setattr(_flow, "MAX_STEPS", 800)
    of = posterior(SIZES)
    codes = source(name, of)
    for label, batch in ((0, 1), (1, 0), (1, 1)):
        z, library, _ = drawn(codes, label, batch, 4000)
        rows = (of.labels == label) & (of.batches == batch)
        real = of.mean[rows]
        np.testing.assert_allclose(z.mean(0), real.mean(0), atol=0.8 if name == "flow" else 0.35)
        np.testing.assert_allclose(np.cov(z.T), np.cov(real.T), rtol=0.25, atol=0.4)
        # the library size goes with the code
        assert np.corrcoef(z[:, 0], library)[0, 1] == pytest.approx(
            np.corrcoef(real[:, 0], of.log_library[rows])[0, 1], abs=0.12
        )
    # of the two clusters of a type, both, and nothing between them
    z, _, _ = drawn(codes, 0, 0, 4000)
    assert (z[:, 1] > 4).mean() == pytest.approx(0.5, abs=0.12 if name == "flow" else 0.06)
    assert (np.abs(z[:, 1] - 4) < 0.5).mean() < (0.08 if name == "flow" else 0.02) or name == "kernel"


def test_five_cells_have_their_own_mean_and_the_shape_of_their_relatives():
    of = posterior(SIZES)
    z, _, _ = drawn(source("mixture", of), 2, 0, 4000)
    np.testing.assert_allclose(z.mean(0), of.mean[of.labels == 2].mean(0), atol=0.1)
    # five cells alone would have this correlation by luck at most
    correlation = np.corrcoef(z.T)[0, 1]
    assert correlation < 0.999
    assert z.std(0).min() > 0.5 * of.mean[of.labels == 1].std(0).min()


def test_what_has_no_name_within_a_small_type_is_followed():
    """Three plates of twelve cells each, along an axis that no one registered."""
    rng = np.random.default_rng(0)
    plates = np.repeat([-6.0, 0.0, 6.0], 12)
    mean = np.column_stack([plates, rng.standard_normal(36)]) + 0.3 * rng.standard_normal((36, 2))
    of = replace(
        posterior([(0, 0, 36)]), mean=mean.astype(np.float32), log_library=rng.normal(5, 0.1, 36).astype(np.float32)
    )
    z, _, _ = drawn(source("mixture", of), 0, 0, 6000)
    nearest = np.abs(z[:, :1] - [-6, 0, 6]).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(nearest) / 6000, 1 / 3, atol=0.04)
    between = np.abs(np.abs(z[:, 0]) - 3) < 1
    assert between.mean() < 0.02


def test_types_keep_their_own_variances():
    """A type ten times as wide as another does not widen it."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [60, 240])
    mean = rng.standard_normal((300, 2)) * np.where(labels == 0, 0.2, 2.0)[:, None] + 20.0 * labels[:, None]
    library = rng.normal(5, np.where(labels == 0, 0.05, 0.5))
    of = replace(
        posterior([(0, 0, 60), (1, 0, 240)], std=0.01),
        mean=mean.astype(np.float32),
        log_library=library.astype(np.float32),
    )
    codes = source("mixture", of)
    for label in (0, 1):
        z, drawn_library, _ = drawn(codes, label, 0, 6000)
        np.testing.assert_allclose(z.std(0), mean[labels == label].std(0), rtol=0.1)
        assert drawn_library.std() == pytest.approx(library[labels == label].std(), rel=0.1)


def test_a_cell_far_out_does_not_widen_its_type():
    of = posterior([(0, 0, 200), (1, 0, 200)])
    codes = source("mixture", of)
    # the encoder knows such a cell less, too
    of.mean[250], of.std[250] = 1000, 8
    far = source("mixture", of)
    for label in (0, 1):
        z, known = drawn(far, label, 0, 4000)[0], drawn(codes, label, 0, 4000)[0]
        np.testing.assert_allclose(z.std(0), known.std(0), rtol=0.2)
        np.testing.assert_allclose(z.mean(0), known.mean(0), atol=0.3)
        middle = known.mean(0)
        assert np.abs(z - middle).max() < 1.3 * np.abs(known - middle).max()


def test_a_group_follows_its_cells_by_their_number():
    """n cells of a component follow themselves by n / (n + prior), the rest of the way they stay with the type."""
    big, small = (1, 0, 2000), (1, 1, 12)
    of = posterior([big, small])
    of.mean[of.batches == 1, 1] += 5
    z, _, _ = drawn(source("mixture", of), 1, 1, 20_000)
    whole, own = of.mean.mean(0), of.mean[of.batches == 1].mean(0)
    moved = ((z.mean(0) - whole) / (own - whole))[1]
    assert 0.5 * 12 / (12 + PRIOR_CELLS) < moved < 1.5 * 12 / (12 + PRIOR_CELLS) + 0.3


def test_an_unseen_group_is_its_type():
    of = posterior([(0, 0, 300), (1, 0, 300), (1, 1, 300)])
    for name in ("posterior", "mixture", "kernel"):
        z, _, who = drawn(source(name, of), 0, 1, 3000)
        np.testing.assert_allclose(z.mean(0), of.mean[of.labels == 0].mean(0), atol=0.3)
        assert (who.attributes.codes == [0, 1]).all()


def test_what_is_open_is_as_in_the_groups():
    of = posterior([(0, 0, 300), (0, 1, 100), (1, 1, 200)])
    composition = Composition.of(of.attributes, of.log_library)
    asked = AttributeValues(np.tile([OPEN, OPEN], (600, 1)), np.empty((600, 0)))
    found = composition.draw(asked, np.random.default_rng(0)).codes
    groups, n = np.unique(found, axis=0, return_counts=True)
    assert groups.tolist() == [[0, 0], [0, 1], [1, 1]]
    np.testing.assert_allclose(n, [300, 100, 200], atol=1)
    asked.codes[:, 1] = 1
    groups, n = np.unique(composition.draw(asked, np.random.default_rng(0)).codes, axis=0, return_counts=True)
    assert groups.tolist() == [[0, 1], [1, 1]]
    np.testing.assert_allclose(n, [200, 400], atol=1)
    mean, std = composition.library(AttributeValues(np.array([[0, 0], [1, 0], [OPEN, 1]]), np.empty((3, 0))))
    for i, rows in enumerate(((of.labels == 0) & (of.batches == 0), of.labels == 1, of.batches == 1)):
        assert mean[i] == pytest.approx(of.log_library[rows].mean(), rel=1e-5)
        assert std[i] == pytest.approx(of.log_library[rows].std(), rel=1e-4)


def test_small_groups_can_be_left_out():
    of = posterior([(0, 0, 300), (0, 1, 3)])
    kept = Composition.of(of.attributes, of.log_library, min_cells=10)
    assert kept.codes.tolist() == [[0, 0]]
    assert not kept.has(np.array([[0, 1]])).any()
    fitted = CodeMixture.fit(of, min_cells=10)
    assert fitted.groups.tolist() == [[0, 0], [0, 0]]
    # and no component is that of fewer cells
    assert len(fitted.labels) > 5
    assert 303 * np.exp(fitted.weights[0]).min() >= 10 - 1e-6


@pytest.mark.parametrize("cls", [CodeMixture, pytest.param(CodeFlow, marks=NEEDS_ZUKO)])
def test_a_fit_is_kept_as_it_is(cls, monkeypatch):
    monkeypatch.setattr(_flow, "MAX_STEPS", 30)
    of = posterior([(0, 0, 200), (1, 0, 100), (1, 1, 60)])
    fitted, again = cls.fit(of), cls.fit(of)
    asked = AttributeValues(np.tile([1, 1], (50, 1)), np.empty((50, 0)))
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    kept = from_plain(to_plain(fitted, "fitted"))
    first, *others = (f.sample(asked, noise, torch.Generator().manual_seed(1)) for f in (fitted, again, kept))
    for other in others:
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one, two)


def test_codes_that_were_moved_apart_are_fitted_where_they_lie():
    of = posterior([(1, 0, 400)])
    apart = replace(of, center=np.tile(of.mean.mean(0), (400, 1)), spread=1.5)
    near, far = (drawn(source("mixture", x), 1, 0, 4000)[0].std(0) for x in (of, apart))
    np.testing.assert_allclose(far / near, 1.5, rtol=0.08)


def test_a_flow_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"codes='flow' needs zuko, .* Or take codes='mixture'\."):
        CodeFlow.fit(posterior([(0, 0, 50)]))
