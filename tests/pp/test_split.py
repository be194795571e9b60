import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmimic.pp as pp


def make(sizes):
    labels = np.random.default_rng(0).permutation(np.repeat([f"t{i}" for i in range(len(sizes))], sizes))
    adata = AnnData(np.arange(2.0 * len(labels)).reshape(-1, 2))
    adata.obs["label"] = pd.Categorical(labels)
    return adata


@pytest.mark.parametrize(
    ("sizes", "test_size", "expected"),
    [
        ([100, 50, 10], 0.1, [10, 5, 1]),
        ([15, 14, 5, 4], 0.1, [2, 1, 1, 0]),
        ([100, 2, 3], 0.9, [90, 1, 2]),
        ([7, 9], 0.25, [2, 2]),
    ],
)
def test_numbers_per_label(sizes, test_size, expected):
    adata = make(sizes)
    assert pp.balanced_split(adata, "label", test_size=test_size) is None
    split = adata.obs["split"]
    assert list(split.cat.categories) == ["train", "test"]
    counts = pd.crosstab(adata.obs["label"], split).reindex(columns=["train", "test"], fill_value=0)
    assert list(counts["test"]) == expected
    assert list(counts["train"]) == [n - t for n, t in zip(sizes, expected, strict=True)]


def test_single_cells_stay_in_train_with_a_warning():
    adata = make([20, 1, 1])
    with pytest.warns(UserWarning, match=r"\['t1', 't2'\]"):
        pp.balanced_split(adata, "label", test_size=0.5)
    assert set(adata.obs.loc[adata.obs["label"].isin(["t1", "t2"]), "split"]) == {"train"}


def test_every_cell_is_as_likely_to_be_tested():
    adata = make([8, 4])
    hits = np.zeros(12)
    for seed in range(400):
        pp.balanced_split(adata, "label", test_size=0.25, seed=seed)
        hits += adata.obs["split"] == "test"
    # binomial(400, 1/4): standard deviation 8.7
    assert np.abs(hits - 100).max() < 40


def test_seed_key_and_copy():
    adata = make([50, 50])
    out = pp.balanced_split(adata, "label", seed=1, key_added="mine", copy=True)
    assert "mine" not in adata.obs
    again = pp.balanced_split(adata, "label", seed=1, copy=True).obs["split"]
    other = pp.balanced_split(adata, "label", seed=2, copy=True).obs["split"]
    assert (out.obs["mine"].to_numpy() == again.to_numpy()).all()
    assert (again != other).any()


def test_unused_categories_and_plain_strings_are_fine():
    adata = make([20, 20, 5])[:30].copy()
    adata = adata[adata.obs["label"] != "t2"].copy()
    adata.obs["label"] = adata.obs["label"].cat.set_categories(["t0", "t1", "t2", "t3"])
    adata.obs["text"] = adata.obs["label"].astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pp.balanced_split(adata, "label", key_added="a")
        pp.balanced_split(adata, "text", key_added="b")
    assert (adata.obs["a"] == adata.obs["b"]).all()


@pytest.mark.parametrize("test_size", [0, 1, -0.1, 1.5])
def test_bad_fraction(test_size):
    with pytest.raises(ValueError, match="`test_size` must be a number above 0 and below 1"):
        pp.balanced_split(make([5]), "label", test_size=test_size)


def test_empty_test_set_and_bad_labels():
    with pytest.raises(ValueError, match="no cell for the test set"):
        pp.balanced_split(make([4, 4]), "label", test_size=0.1)
    with pytest.raises(KeyError, match="label"):
        pp.balanced_split(make([4]), "nothing")
    adata = make([10])
    adata.obs.loc[adata.obs_names[0], "label"] = np.nan
    with pytest.raises(ValueError, match="1 of 10 cells have no value"):
        pp.balanced_split(adata, "label")


@pytest.mark.parametrize(("fraction", "kept"), [(0.1, 4), (0.0125, 1), (0.001, 1), (0.5, 20), (1, 40)])
def test_downsample_keeps_the_fraction_and_everything_else(fraction, kept):
    adata = make([60, 40, 10])
    rare = pp.downsample_label(adata, "label", "t1", fraction=fraction)
    assert rare.obs["label"].value_counts()[["t0", "t1", "t2"]].tolist() == [60, kept, 10]
    assert adata.n_obs == 110
    assert not rare.is_view
    positions = adata.obs_names.get_indexer(rare.obs_names)
    assert (np.diff(positions) > 0).all()
    np.testing.assert_array_equal(rare.X, adata.X[positions])


def test_downsample_seed():
    adata = make([60, 40])
    one, same, other = (pp.downsample_label(adata, "label", "t1", fraction=0.5, seed=s) for s in (0, 0, 1))
    assert one.obs_names.equals(same.obs_names)
    assert not one.obs_names.equals(other.obs_names)


def test_downsample_bad_arguments():
    adata = make([5, 5])
    with pytest.raises(ValueError, match=r"'t0', 't1'"):
        pp.downsample_label(adata, "label", "t9", fraction=0.5)
    with pytest.raises(ValueError, match="fraction"):
        pp.downsample_label(adata, "label", "t1", fraction=0)
