import ast
import inspect

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from PIL import Image

import scmimic as sm
from scmimic.pl._figure import category_palette, finish, log_ticks, make_axes, stored_colors


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


def test_places_of_a_grid_that_stay_empty():
    fig, axes = make_axes(5, None, n_cols=3, panel_size=(2, 2), empty=[5])
    places = [ax.get_subplotspec() for ax in axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert len(fig.axes) == 5


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (200, 900, ["200", "300", "500"]),
        (0.02, 4, ["0.03", "0.1", "0.3", "1", "3"]),
        (2e-6, 2e6, ["1e-4", "0.01", "1", "100", "10,000", "1e6"]),
    ],
)
def test_numbers_of_a_logarithmic_axis(low, high, shown):
    _, ax = plt.subplots(figsize=(9, 2))
    ax.set(xscale="log", xlim=(low, high))
    log_ticks(ax.xaxis, low, high)
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels() if low <= t.get_position()[0] <= high] == shown
    assert not any(t.get_text() for t in ax.get_xticklabels(minor=True))


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


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_saved_in_the_format_of_its_ending(tmp_path, ending, start):
    fig, axes = make_axes(1, None, n_cols=1, panel_size=(2, 2))
    path = tmp_path / f"a.{ending}"
    assert finish(fig, axes, show=False, return_fig=False, save=str(path)) is axes
    assert path.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_saved_pixels_follow_matplotlibs_setting(tmp_path):
    fig, axes = make_axes(1, None, n_cols=1, panel_size=(2, 2))
    sizes = []
    for dpi in ("figure", 300):
        with mpl.rc_context({"savefig.dpi": dpi}):
            assert finish(fig, axes, show=None, return_fig=True, save=tmp_path / "a.png") is fig
        with Image.open(tmp_path / "a.png") as image:
            sizes.append(image.width)
    assert sizes[1] == pytest.approx(2 * sizes[0], abs=2)


def test_panels_of_a_part_are_saved_with_the_whole(tmp_path):
    whole = plt.figure()
    left, _ = whole.subfigures(1, 2)
    _, axes = make_axes(1, left.subplots(), n_cols=1, panel_size=(2, 2))
    finish(left, axes, show=False, return_fig=False, save=tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size


@pytest.mark.parametrize("name", sm.pl.__all__)
def test_every_plot_hands_over_what_is_asked_of_its_figure(name):
    calls = [
        node for node in ast.walk(ast.parse(inspect.getsource(getattr(sm.pl, name)))) if isinstance(node, ast.Call)
    ]
    named = {
        node.func.id: {keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) == keyword.arg}
        for node in calls
        if isinstance(node.func, ast.Name) and node.func.id in ("check_figure", "finish")
    }
    assert named == {
        "check_figure": {"figsize", "show", "return_fig", "save"},
        "finish": {"show", "return_fig", "save"},
    }
