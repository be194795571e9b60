import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import scmimic as sm
from scmimic.pl._figure import CONTROL_COLOR, REAL_COLOR, SYNTHETIC_COLOR


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"group": np.repeat(["A", "B"], 30), "condition": np.tile(["control", "drug", "other"], 20)},
        index=[f"c{i}" for i in range(60)],
    )
    real = ad.AnnData(np.ones((60, 2)), obs=obs)
    real.obsm["X_joint_umap"] = rng.normal(size=(60, 2))
    new = ad.AnnData(np.ones((12, 2)))
    new.obsm["X_joint_umap"] = rng.normal(size=(12, 2))
    new.uns["latent_arithmetic"] = {
        "controls": np.array(["control"]),
        "delta_entropy": 1.234,
        "delta_entropy_of": "target",
        "params": {"group_key": "group", "condition_key": "condition", "target": np.array(["A", "drug"])},
    }
    return real, new


def drawn(ax, color):
    points = ax.collections[1]
    same = np.isclose(points.get_facecolors()[:, :3], to_rgb(color)).all(axis=1)
    return {tuple(xy) for xy in np.asarray(points.get_offsets())[same]}


def test_points_are_those_of_the_three_kinds(cells):
    real, new = cells
    before = real.copy()
    ax = sm.pl.latent_arithmetic(real, new, show=False)
    xy, own = real.obsm["X_joint_umap"], (real.obs["group"] == "A").to_numpy()
    for condition, color in (("control", CONTROL_COLOR), ("drug", REAL_COLOR)):
        expected = xy[own & (real.obs["condition"] == condition).to_numpy()]
        assert drawn(ax, color) == set(map(tuple, expected))
    assert drawn(ax, SYNTHETIC_COLOR) == set(map(tuple, new.obsm["X_joint_umap"]))
    assert "A, drug" in ax.get_title() and "1.23" in ax.get_title()
    pd.testing.assert_frame_equal(real.obs, before.obs)
    assert isinstance(sm.pl.latent_arithmetic(real, new, return_fig=True), Figure)


def test_without_real_cells_and_with_own_colours(cells):
    real, new = cells
    seen = real[~((real.obs["group"] == "A") & (real.obs["condition"] == "drug"))].copy()
    ax = sm.pl.latent_arithmetic(seen, new, palette={"predicted": "green"}, title="mine", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["predicted", "control"]
    assert len(drawn(ax, "green")) == 12
    assert ax.get_title() == "mine"


def test_bad_input(cells):
    real, new = cells
    with pytest.raises(ValueError, match=r"colours of \['zzz'\]"):
        sm.pl.latent_arithmetic(real, new, palette={"zzz": "red"})
    with pytest.raises(KeyError, match="sm.tl.latent_arithmetic"):
        sm.pl.latent_arithmetic(real, new, key="x")
    with pytest.raises(KeyError, match=r"joint_embedding\(adata, predicted"):
        sm.pl.latent_arithmetic(real, new, basis="tsne")
    with pytest.raises(KeyError, match="no such column in `adata.obs`"):
        sm.pl.latent_arithmetic(ad.AnnData(np.ones((60, 2)), obsm=dict(real.obsm)), new)


def test_moved_groups_are_the_controls_of_shifts_of_groups(cells):
    real, new = cells
    record = new.uns["latent_arithmetic"]
    record["params"]["shift"], record["reference_groups"] = "group", np.array(["B"])
    ax = sm.pl.latent_arithmetic(real, new, palette={"control": "lime"}, show=False)
    moved = (real.obs["group"] == "B") & (real.obs["condition"] == "drug")
    assert drawn(ax, "lime") == {tuple(xy) for xy in real.obsm["X_joint_umap"][moved.to_numpy()]}
