import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from scipy.optimize import LinearConstraint, minimize
from scipy.stats import spearmanr

import scmimic as sm
from scmimic.pl._figure import plain
from scmimic.pl._holdout_arithmetic import _spread

ERRORS = {"model": [30.0, 22.0, 18.0, 11.0], "model, mean codes": [20.0] * 4, "control cells": [5.0, 10.0, 4.0, 9.0]}
ENTROPY = [0.5, 3.0, 2.0, 7.0]


@pytest.fixture
def adata():
    """Four combinations, two seeds that differ by 2 in the error."""
    rows = [
        {"group": f"g{i}", "condition": "drug", "seed": seed, "method": method, "rf_error": errors[i] + 2 * seed - 1}
        | {"r2": 0.5, "delta_entropy": ENTROPY[i] if method.startswith("model") else np.nan}
        for method, errors in ERRORS.items()
        for i in range(4)
        for seed in (0, 1)
    ]
    adata = ad.AnnData(np.ones((3, 2)))
    adata.uns["holdout_arithmetic"] = {"results": pd.DataFrame(rows)}
    return adata


def test_points_are_means_over_seeds(adata, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    for stored in (adata, ad.read_h5ad(tmp_path / "x.h5ad")):
        left, right = sm.pl.holdout_arithmetic(stored, show=False)
        assert [text.get_text() for text in left.get_xticklabels()] == list(ERRORS)
        # points and the line at the median, method by method
        for i, errors in enumerate(ERRORS.values()):
            points, line = left.collections[2 * i : 2 * i + 2]
            np.testing.assert_allclose(np.asarray(points.get_offsets())[:, 1], errors)
            assert line.get_segments()[0][0, 1] == np.median(errors)
        gain = np.subtract(ERRORS["model"], ERRORS["control cells"])
        np.testing.assert_allclose(right.collections[0].get_offsets(), np.column_stack([ENTROPY, gain]))
        assert right.get_title(loc="left") == f"Spearman {spearmanr(ENTROPY, gain).statistic:.2f}, n = 4"
        assert left.get_title(loc="left") == "n = 4 combinations, 2 seeds"
        assert [(text.get_text(), text.xy) for text in right.texts] == [
            (f"g{i}", (ENTROPY[i], gain[i])) for i in np.lexsort((gain, np.array(ENTROPY) > 3.5))
        ]


def test_choices(adata):
    _, axes = plt.subplots(1, 2)
    drawn = sm.pl.holdout_arithmetic(adata, method="model, mean codes", rival="model", ax=axes, score="r2", show=False)
    assert list(drawn) == list(axes)
    assert axes[1].get_xlabel() == "ΔH of model, mean codes\n(low: a prediction to trust)"
    assert axes[1].get_ylabel() == "gain over model\nR² of all genes' means"
    assert axes[1].get_title(loc="left") == "no correlation, n = 4"
    assert isinstance(sm.pl.holdout_arithmetic(adata, return_fig=True), Figure)


def test_names_are_apart_and_inside(adata):
    table = adata.uns["holdout_arithmetic"]["results"]
    adata.uns["holdout_arithmetic"]["results"] = pd.concat(
        [table.assign(rf_error=10.0, condition=name) for name in ("drug", "other drug")]
    )
    _, right = sm.pl.holdout_arithmetic(adata, show=False)
    assert {text.get_text() for text in right.texts} == {f"g{i}, {c}" for i in range(4) for c in ("drug", "other drug")}
    right.figure.canvas.draw()
    boxes = {True: [], False: []}
    for text in right.texts:
        boxes[text.get_ha() == "left"].append(text.get_window_extent(right.figure.canvas.get_renderer()))
        assert 0 <= text.get_position()[1] <= 1
    for side in boxes.values():
        side.sort(key=lambda box: (box.y0 + box.y1) / 2)
        assert all(upper.y0 + upper.y1 > lower.y0 + lower.y1 + 10 for lower, upper in zip(side, side[1:], strict=False))


def test_long_names_are_numbers_of_a_legend():
    groups = [f"CD{i}+ monocytes (classical, inflammatory)" for i in range(20)]
    rows = [
        {"group": group, "condition": "drug", "method": method, "seed": 0, "rf_error": 9.0 * i, "delta_entropy": -i}
        for i, group in enumerate(groups)
        for method in ("model", "control cells")
    ]
    adata = ad.AnnData(np.ones((3, 2)))
    adata.uns["holdout_arithmetic"] = {"results": pd.DataFrame(rows)}
    _, right = sm.pl.holdout_arithmetic(adata, show=False)
    (legend,) = (child for child in right.get_children() if isinstance(child, Legend))
    listed = dict(text.get_text().split("  ", 1) for text in legend.get_texts())
    assert list(listed.values()) == [plain(group) for group in groups]
    # the number at a point is that of its group
    assert {text.get_text(): text.xy[0] for text in right.texts} == {str(i + 1): -i for i in range(20)}
    assert all(listed[str(i + 1)].startswith(f"CD{i}+") for i in range(20))


def test_spread():
    """No pair nearer than the gap, and moved as little as a quadratic program moves them."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 9):
        heights = np.sort(rng.uniform(0.2, 0.8, n))
        found = _spread(heights, 0.05)
        assert (np.diff(found) >= 0.05 - 1e-9).all()
        apart = LinearConstraint(np.eye(n)[1:] - np.eye(n)[:-1], 0.05, np.inf) if n > 1 else ()
        best = minimize(
            lambda x, h=heights: ((x - h) ** 2).sum(), np.linspace(0, 1, n), constraints=apart, method="SLSQP"
        )
        np.testing.assert_allclose(found, best.x, atol=1e-3)
    assert _spread(np.zeros(0), 0.05).size == 0
    many = _spread(np.full(50, 0.5), 0.05)
    assert many.min() >= 0 and many.max() <= 1 and (np.diff(many) > 0).all()


def test_bad_input(adata):
    with pytest.raises(KeyError, match=r"run `sm.tl.holdout_arithmetic"):
        sm.pl.holdout_arithmetic(adata, key="x")
    with pytest.raises(ValueError, match="`score` must be"):
        sm.pl.holdout_arithmetic(adata, score="auc")
    with pytest.raises(ValueError, match="`rival='mean shift'` is not among"):
        sm.pl.holdout_arithmetic(adata, rival="mean shift")
