import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

from scmimic.pl._figure import category_palette, finish, make_axes, stored_colors


@pytest.fixture
def shown(monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: calls.append(1))
    return calls


def test_no_screen_means_no_show(shown):
    fig, axes = make_axes(2, None, n_cols=2, panel_size=(2, 2))
    assert finish(fig, axes, show=None, return_fig=False) is axes
    assert finish(fig, axes, show=False, return_fig=False) is axes
    assert finish(fig, axes, show=True, return_fig=False) is None
    assert finish(fig, axes, show=True, return_fig=True) is fig
    assert not shown


def test_screen(shown, monkeypatch):
    monkeypatch.setattr(mpl, "get_backend", lambda: "QtAgg")
    fig, axes = make_axes(1, None, n_cols=1, panel_size=(2, 2))
    assert finish(fig, axes, show=False, return_fig=False) is axes
    assert not shown
    assert finish(fig, axes, show=None, return_fig=False) is None
    assert len(shown) == 1
    before = sc.settings.autoshow
    sc.settings.autoshow = False
    try:
        assert finish(fig, axes, show=None, return_fig=False) is axes
        assert finish(fig, axes, show=True, return_fig=False) is None
    finally:
        sc.settings.autoshow = before
    assert len(shown) == 2


def test_grid_has_no_spare_panels():
    fig, axes = make_axes(5, None, n_cols=3, panel_size=(2, 2))
    assert len(axes) == len(fig.axes) == 5
    assert tuple(fig.get_size_inches()) == (6, 4)


def test_axes_of_the_caller():
    fig, grid = plt.subplots(1, 2)
    assert make_axes(2, grid, n_cols=1, panel_size=(1, 1)) == (fig, list(grid))
    with pytest.raises(ValueError, match="3 panels, but `ax` holds 2"):
        make_axes(3, grid, n_cols=1, panel_size=(1, 1))


@pytest.mark.parametrize(
    ("n", "name"), [(3, "default_20"), (20, "default_20"), (21, "default_28"), (29, "default_102")]
)
def test_default_palette_is_scanpys(n, name):
    expected = getattr(sc.pl.palettes, name)[:n]
    assert list(category_palette(range(n)).values()) == [mpl.colors.to_hex(c) for c in expected]


def test_many_categories_differ():
    assert len(set(category_palette(range(150)).values())) > 100


def test_palettes_of_the_user():
    assert category_palette(["a", "b"], {"a": "red", "b": "blue"}) == {"a": "#ff0000", "b": "#0000ff"}
    assert category_palette(["a"], ["red", "blue"]) == {"a": "#ff0000"}
    assert category_palette(["a"], "tab10") == {"a": "#1f77b4"}
    with pytest.raises(ValueError, match=r"'kind'.*\['b'\]"):
        category_palette(["a", "b"], {"a": "red"}, name="kind")
    with pytest.raises(ValueError, match="1 colours for 2"):
        category_palette(["a", "b"], ["red"])


def test_stored_colors():
    adata = AnnData(obs=pd.DataFrame({"k": pd.Categorical(["a", "b"])}, index=["0", "1"]))
    assert stored_colors(adata, "k") == {}
    adata.uns["k_colors"] = ["red", "blue"]
    assert stored_colors(adata, "k") == {"a": "#ff0000", "b": "#0000ff"}
    adata.uns["k_colors"] = ["red"]
    assert stored_colors(adata, "k") == {}
