"""Labels and batches of every type: what goes in comes back, and what cannot be meant is said."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
from mudata import MuData
from small_models import CLASSES, GAN, QUIET
from typer.testing import CliRunner

import scmimic as sm
from scmimic import _cli

SIZES = {"n_latent": 2, "n_hidden": (8,)}
UNCALIBRATED = {"calibrate_margins": False, "calibrate_spread": False, "calibrate_dispersion": False}
# Columns by the codes of three types, or of two batches.
COLUMNS = {
    "int8": lambda codes: np.array([30, 1, 2], dtype=np.int8)[codes],
    "int64": lambda codes: np.array([30, 1, 2])[codes],
    "uint16": lambda codes: np.array([30, 1, 2], dtype=np.uint16)[codes],
    "bool": lambda codes: codes > 0,
    "float32": lambda codes: np.array([1.1, -2, 0.5], dtype=np.float32)[codes],
    "float64": lambda codes: np.array([1.0, -2.0, 0.5])[codes],
    "nullable Int64": lambda codes: pd.array([30, 1, 2], dtype="Int64")[codes],
    "nullable boolean": lambda codes: pd.array(codes > 0, dtype="boolean"),
    "nullable Float64": lambda codes: pd.array([1.5, 0.5, 2], dtype="Float64")[codes],
    "string": lambda codes: pd.array(["T", "B", "NK"], dtype="string")[codes],
    "str": lambda codes: pd.Series(["T", "B", "NK"]).array[codes],
    "object of text": lambda codes: pd.Series(np.array(["T", "B", "NK"], dtype=object)[codes], dtype=object),
    "category of text": lambda codes: pd.Categorical.from_codes(codes, ["T", "B", "NK", "unused"]),
    "category of integers": lambda codes: pd.Categorical.from_codes(codes, [30, 1, 2]),
    "category of truth values": lambda codes: pd.Categorical(codes > 0),
    "ordered category of decimals": lambda codes: pd.Categorical.from_codes(codes, [2.5, 0.5, 1.0], ordered=True),
}
# What anndata cannot write comes back from a file as the closest that it can.
FROM_FILES = {"nullable Float64": np.dtype(float)}


def cells(**columns):
    """90 cells of 20 genes with the given columns by their types, or by their batches where the name begins with b."""
    adata = sm.datasets.synthetic_counts(n_obs=90, n_vars=20, n_labels=3, n_batches=2, seed=0)
    for name, make in columns.items():
        codes = adata.obs["batch" if name.startswith("b") else "cell_type"].cat.codes.to_numpy()
        adata.obs[name] = pd.Series(make(codes)).set_axis(adata.obs_names)
    return adata


def fit(name, adata, labels_key, **setup):
    scvi.settings.seed = 0
    cls = getattr(sm, name)
    if name == "MichiGAN":
        adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2)).astype(np.float32)
    cls.setup_anndata(adata, labels_key=labels_key, **setup)
    init = {"ACTINN": {}, "MichiGAN": GAN, "InfoWGANGP": {**GAN, "n_latent": 2}}.get(name, SIZES)
    if name == "WGANGP":
        init = {"n_hidden_generator": (8,), "n_hidden_critic": (8,), "n_latent": 2}
    if name == "BetaTCVAE":
        init = {**SIZES, "gene_likelihood": "nb"}
    model = cls(adata, **init)
    model.train(1, **(UNCALIBRATED if name == "ACTIVA" else {}), **QUIET)
    return model


@pytest.fixture(scope="module")
def integers():
    """A model of the types 30, 1 and 2 and the batches 30 and 1."""
    return fit("ACTIVA", cells(l=COLUMNS["int64"], b=COLUMNS["int64"]), "l", batch_key="b")


@pytest.mark.parametrize("kind", COLUMNS)
def test_column_comes_back_as_it_was(kind, tmp_path):
    adata = cells(l=COLUMNS[kind], b=COLUMNS[kind])
    before = adata.obs.copy()
    model = fit("ACTIVA", adata, "l", batch_key="b")
    pd.testing.assert_frame_equal(adata.obs[before.columns], before)
    dtypes = {key: adata.obs[key].dtype for key in ("l", "b")}
    label, batch = adata.obs["l"].iloc[0], adata.obs["b"].iloc[0]

    new = model.generate(8, [label], transform_batch=batch, seed=0)
    assert {key: new.obs[key].dtype for key in dtypes} == dtypes
    assert (new.obs["l"] == label).all() and (new.obs["b"] == batch).all()
    asked = model.decode(new.obsm["X_activa"], labels=list(new.obs["l"]), seed=0)
    assert asked.obs["l"].dtype == dtypes["l"] and (asked.obs["l"] == label).all()
    # the code of each training cell stands for its own label and batch
    for column, codes in ((model._labels, model.posterior_.labels), (model._batches, model.posterior_.batches)):
        assert list(column.restore(codes)) == list(adata.obs[column.key])
    assert model.classify().dtype == dtypes["l"]
    assert list(model.classify(soft=True).columns) == list(model._labels.values)
    assert sm.tl.augment(adata, model, n=5, seed=0).obs["l"].dtype == dtypes["l"]
    reference = sm.baselines.IndependentNB(adata, labels_key="l").fit().generate(4, [label], seed=0)
    assert reference.obs["l"].dtype == dtypes["l"] and (reference.obs["l"] == label).all()
    for ending in ("h5ad", "zarr"):
        path = tmp_path / f"new.{ending}"
        model.generate(8, [label], transform_batch=batch, seed=0, path=path)
        read = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
        expected = {key: FROM_FILES.get(kind, dtype) for key, dtype in dtypes.items()}
        # pandas 3 reads objects as text of its own
        assert kind == "object of text" or {key: read.obs[key].dtype for key in dtypes} == expected
        assert list(read.obs["l"]) == list(new.obs["l"]) and list(read.obs_names) == list(new.obs_names)


@pytest.mark.parametrize("kind", ["int64", "ordered category of decimals"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_model_takes_labels_of_any_type(name, kind, tmp_path):
    adata = cells(l=COLUMNS[kind])
    model = fit(name, adata, "l")
    model.save(tmp_path / "m")
    label = adata.obs["l"].iloc[0]
    for known in (model, getattr(sm, name).load(tmp_path / "m")):
        if name == "ACTINN":
            made, text = known.predict(adata), known.predict(adata, soft=True).columns
            assert set(text) == set(adata.obs["l"])
        else:
            made = known.generate(12, [label, str(label)][:1], seed=0).obs["l"]
            assert (made == label).all()
            assert (known.generate(3, str(label), seed=0).obs["l"] == label).all()
        assert made.dtype == adata.obs["l"].dtype
        assert set(made) <= set(adata.obs["l"])


@pytest.mark.parametrize("in_modality", [False, True], ids=["of the MuData", "of a modality"])
@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE"])
def test_columns_of_a_mudata(name, in_modality):
    rna = cells(l=COLUMNS["int64"], b=COLUMNS["bool"])
    rna.uns["l_colors"] = ["red", "green", "blue"]
    mdata = MuData({"rna": rna, "prot": rna[:, :3].copy()})
    for key in ("l", "b"):
        mdata.obs[key] = rna.obs[key].to_numpy()
    where = {"labels_key": "rna", "batch_key": "rna"} if in_modality else {}
    keys = {"modalities": {"rna_layer": "rna", **where}, "labels_key": "l", "batch_key": "b"}
    getattr(sm, name).setup_mudata(mdata, **keys)
    init = {"gene_likelihood": "nb"} if name == "BetaTCVAE" else {}
    model = getattr(sm, name)(mdata, **SIZES, **init)
    model.train(1, **(UNCALIBRATED if name == "ACTIVA" else {}), **QUIET)
    new = model.generate(6, [2, 30], transform_batch=True, seed=0)
    assert new.obs["l"].tolist() == [2, 2, 2, 30, 30, 30] and new.obs["l"].dtype == np.int64
    assert new.obs["b"].dtype == bool and new.obs["b"].all()
    assert ("l_colors" in new.uns) == in_modality
    table = mdata.mod["rna"].obs if in_modality else mdata.obs
    table["l"] = table["l"].astype(object)
    table.loc[table.index[0], "l"] = "1"
    place = r"mdata\.mod\['rna'\]\.obs" if in_modality else r"mdata\.obs"
    with pytest.raises(ValueError, match=rf"`{place}\['l'\]` holds text \('1'\) and integers"):
        getattr(sm, name).setup_mudata(mdata, **keys)


REQUESTS = [
    ("a number", {"n": 2, "labels": 1}, [1, 1]),
    ("its text", {"n": 2, "labels": "1"}, [1, 1]),
    ("a list", {"n": 3, "labels": [2, 1]}, [2, 2, 1]),
    ("numbers of numpy", {"n": 3, "labels": np.array([2, 1], dtype=np.int8)}, [2, 2, 1]),
    ("a decimal that is whole", {"n": 2, "labels": 1.0}, [1, 1]),
    ("a dict", {"labels": {30: 1, 2: 2}}, [30, 2, 2]),
    ("a dict of text", {"labels": {"30": 1, "2": 2}}, [30, 2, 2]),
    ("counts of a column", {"labels": pd.Series([30, 2, 2]).value_counts()}, [2, 2, 30]),
    ("a truth value", {"n": 2, "labels": True}, r"\[True\] were not.*are integers: 1, not True"),
    ("a fraction", {"n": 2, "labels": 1.5}, r"are integers: .*, not 1\.5"),
    ("other text", {"n": 2, "labels": ["1", "T"]}, r"\['T'\] were not seen.*\[1, 2, 30\].*integers"),
    ("another number", {"n": 2, "labels": 3}, r"\[3\] were not seen in training\. Known labels: \[1, 2, 30\]\.$"),
    ("its text", {"n": 2, "labels": "3"}, r"\['3'\] were not seen in training\. Known labels: \[1, 2, 30\]\.$"),
    ("nothing", {"n": 2, "labels": [None]}, r"\[None\] were not seen"),
    ("not a number", {"n": 2, "labels": [np.nan]}, r"\[nan\] were not seen"),
    ("one label twice", {"labels": {1: 1, "1": 1}}, "more than once"),
    ("a batch of another kind", {"n": 2, "transform_batch": "x"}, r"`transform_batch`.*batches: \[1, 30\].*integers"),
]


@pytest.mark.parametrize(("request_", "expected"), [r[1:] for r in REQUESTS], ids=[r[0] for r in REQUESTS])
def test_requests_to_a_model_of_integers(integers, request_, expected):
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            integers.generate(**request_, seed=0)
    else:
        assert integers.generate(**request_, seed=0).obs["l"].tolist() == expected


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [
        ("bool", "True", True),
        ("bool", np.True_, True),
        ("bool", 1, "are truth values: False, not 1"),
        ("bool", "yes", "are truth values: False, not 'yes'"),
        ("float64", 1, 1.0),
        ("float64", "1", 1.0),
        ("float32", 1.1, np.float32(1.1)),
        ("float64", "one", "are decimals: -2.0, not 'one'"),
        ("str", 1, "are text: 'B', not 1"),
    ],
)
def test_requests_to_models_of_other_kinds(kind, asked, expected):
    model = sm.baselines.Memoriser(cells(l=COLUMNS[kind]), labels_key="l").fit()
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            model.generate(2, asked, seed=0)
    else:
        assert model.generate(2, asked, seed=0).obs["l"].tolist() == [expected] * 2


MIXED = [
    ("1 and its text", [1, "1"], ValueError, r"integers \(1\) and text \('1'\).*astype\(str\)"),
    ("1 and 1.0", [1, 1.0], ValueError, r"integers \(1\) and decimals \(1.0\)"),
    ("true and 1", [True, 1], ValueError, r"truth values \(True\) and integers \(1\)"),
    ("times", [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02")], TypeError, r"of type Timestamp.*astype\(str\)"),
    ("pairs", [(1, 2), (2, 3)], TypeError, "of type tuple"),
    ("intervals", [pd.Interval(0, 1), pd.Interval(1, 2)], TypeError, "of type Interval"),
]


@pytest.mark.parametrize("argument", ["labels_key", "batch_key"])
@pytest.mark.parametrize(("values", "error", "message"), [m[1:] for m in MIXED], ids=[m[0] for m in MIXED])
def test_columns_of_several_kinds_or_of_none(argument, values, error, message):
    adata = cells()
    adata.obs["x"] = pd.Series([values[i % 2] for i in range(adata.n_obs)], dtype=object).to_numpy()
    uses = [lambda: sm.BetaTCVAE.setup_anndata(adata, **{argument: "x"})]
    if argument == "labels_key":
        uses += [
            lambda: sm.ACTINN.setup_anndata(adata, labels_key="x"),
            lambda: sm.baselines.Memoriser(adata, labels_key="x"),
            lambda: sm.pp.balanced_split(adata, "x"),
            lambda: sm.tl.rare_augmentation(adata, labels_key="x", label=values[0]),
            lambda: sm.tl.rare_classification(adata, labels_key="x", label=values[0]),
        ]
    for use in uses:
        with pytest.raises(error, match=f"`adata.obs\\['x'\\]` holds.*{message}"):
            use()
    assert not [key for key in adata.obs if key.startswith("_scvi")]


def changed(key, column):
    return lambda query: query.obs.update({}) or query.obs.__setitem__(key, column(query.obs[key]))


def with_missing(column):
    column = column.astype(object)
    column.iloc[3] = None
    return column


QUERIES = [
    ("batches missing", "b", with_missing, ValueError, r"1 of 20 cells have no value in `adata.obs\['b'\]`.*notna"),
    ("labels missing", "l", with_missing, ValueError, r"1 of 20 cells have no value.*fillna\('Unknown'\)"),
    ("no batches", "b", None, KeyError, r"set up with `batch_key='b'`.*no such column. Add it: .*= 1`"),
    ("no labels", "l", None, KeyError, r"set up with `labels_key='l'`.*= 'Unknown'` says that no type is known"),
    (
        "another batch",
        "b",
        lambda c: c * 0 + 7,
        ValueError,
        r"holds \[7\], which the training.*\[1, 30\]",
    ),
    ("a batch called 0", "b", lambda c: c * 0, ValueError, r"holds \[0\], which the training cells have not"),
    ("another label", "l", lambda c: c + 1, ValueError, "which the training cells have not.*call them 'Unknown'"),
    ("batches as text", "b", lambda c: c.astype(str), ValueError, r"text \('\d+'\).*integers \(1\).*astype\(int\)"),
    ("batches as truth values", "b", lambda c: c > 1, ValueError, "truth values.*integers"),
    ("labels of two kinds", "l", lambda c: [1, "1"] * 10, ValueError, "integers .1. and text"),
    ("batches as whole decimals", "b", lambda c: c.astype(float), None, ""),
    ("batches as categories", "b", lambda c: c.astype("category"), None, ""),
    ("labels not known", "l", lambda c: "Unknown", None, ""),
    ("some labels not known", "l", lambda c: c.astype(object).where(c > 1, "Unknown"), None, ""),
]


@pytest.mark.parametrize(("key", "column", "error", "message"), [q[1:] for q in QUERIES], ids=[q[0] for q in QUERIES])
def test_columns_of_a_query(integers, key, column, error, message):
    query = integers.adata[:20].copy()
    values = query.obs.pop(key)
    if column is not None:
        query.obs[key] = column(values)
    before = query.obs.copy()
    for use in (integers.get_latent_representation, integers.get_normalized_expression):
        if error is None:
            scvi.settings.seed = 0
            found = use(query.copy())
            scvi.settings.seed = 0
            expected = use(indices=range(20))
            # expression leans on the label, codes do not
            same = query.obs["l"].eq(integers.adata.obs["l"][:20]) | (np.shape(found)[1] == 2)
            np.testing.assert_allclose(np.asarray(found)[same], np.asarray(expected)[same], rtol=1e-4, atol=1e-5)
        else:
            with pytest.raises(error, match=message):
                use(query)
            pd.testing.assert_frame_equal(query.obs[before.columns], before)


def test_batches_of_expression_are_named_in_their_own_kind(integers):
    found = []
    for batch in (30, ["30"], 1):
        scvi.settings.seed = 0
        found.append(integers.get_normalized_expression(transform_batch=batch, return_numpy=True))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    with pytest.raises(ValueError, match="`transform_batch`.*batches"):
        integers.get_normalized_expression(transform_batch=True)
    table = integers.differential_expression(
        groupby="l", group1=[1], batch_correction=True, batchid1=[1], batchid2=[1], silent=True
    )
    assert len(table) == 20


# What stands for no type, and what is not known for sure.


def partly(unlabeled, kind="object of text"):
    """A column in which every third cell is of no known type."""
    return lambda codes: pd.Series(pd.Series(COLUMNS[kind](codes)).astype(object).to_numpy(), dtype=object).where(
        np.arange(len(codes)) % 3 > 0, unlabeled
    )


@pytest.mark.parametrize(
    ("column", "unlabeled", "level"),
    [
        (partly("Unknown"), "Unknown", logging.WARNING),
        (partly("none"), "none", logging.INFO),
        (partly("Unknown", "int64"), "Unknown", logging.WARNING),
        (partly(-1, "int64"), -1, logging.INFO),
        (partly(-1, "int64"), "-1", logging.INFO),
        (partly("Unknown"), None, None),
        (partly("other"), "Unknown", None),
    ],
)
@pytest.mark.parametrize("name", ["ACTIVA", "ACTINN", "InfoWGANGP", "MichiGAN"])
def test_cells_of_no_known_type_are_counted(caplog, name, column, unlabeled, level):
    adata = cells(l=column)
    adata.obsm["X_pca"] = np.ones((90, 2), dtype=np.float32)
    with caplog.at_level(logging.INFO, "scmimic"):
        getattr(sm, name).setup_anndata(adata, labels_key="l", unlabeled_category=unlabeled)
    said = [record for record in caplog.records if "no known type" in record.getMessage()]
    assert [record.levelno for record in said] == ([] if level is None else [level])
    if said:
        assert said[0].getMessage().startswith(f"30 of 90 cells are {adata.obs['l'].iloc[0]!r} in `.obs['l']`")
        assert "unlabeled_category=None" in said[0].getMessage()


def test_a_type_called_unknown_is_one_where_it_is_said():
    adata = cells(l=partly("Unknown"))
    hidden = fit("ACTIVA", adata, "l")
    with pytest.raises(ValueError, match="'Unknown' marks cells of no known type.*unlabeled_category=None"):
        hidden.generate(3, "Unknown")
    shown = fit("ACTIVA", adata, "l", unlabeled_category=None)
    assert shown.label_categories_ == ["B", "NK", "T", "Unknown"]
    assert set(shown.generate(3, "Unknown", seed=0).obs["l"]) == {"Unknown"}
    # where nothing can be unlabelled, "Unknown" and "None" are names as any other
    adata.obs["l"] = adata.obs["l"].replace({"T": "None"})
    gan = fit("WGANGP", adata, "l")
    assert set(gan.generate(4, ["None", "Unknown"], seed=0).obs["l"]) == {"None", "Unknown"}


@pytest.mark.parametrize("kind", ["object of text", "int64"])
def test_integers_beside_an_unlabeled_category_stay_integers(kind):
    adata = cells(l=partly("Unknown", kind))
    model = fit("ACTIVA", adata, "l")
    new = model.generate(20, seed=0)
    assert new.obs["l"].dtype == (np.dtype(int) if kind == "int64" else adata.obs["l"].dtype)
    assert set(new.obs["l"]) <= set(adata.obs["l"]) - {"Unknown"}
    known = (adata.obs["l"] != "Unknown").to_numpy()
    assert list(model._labels.restore(model.posterior_.labels[known])) == list(adata.obs["l"][known])


def test_unused_unlabeled_category_does_not_shift_the_types():
    """A categorical column may list "Unknown" although no cell has it."""
    adata = cells(l=lambda codes: pd.Categorical.from_codes(codes, ["B", "Z", "T"]).add_categories("Unknown"))
    adata.obs["l"] = adata.obs["l"].cat.reorder_categories(["B", "Unknown", "Z", "T"])
    model = fit("ACTIVA", adata, "l")
    assert list(model._labels.restore(model.posterior_.labels)) == list(adata.obs["l"])
    for label in ("B", "Z", "T"):
        new = model.generate(30, label, seed=0)
        assert (new.obs["l"] == label).all() and new.obs["l"].dtype == adata.obs["l"].dtype
        source = model.posterior_.mean[(adata.obs["l"] == label).to_numpy()]
        # codes lie about those of the cells that have the label
        assert abs(new.obsm["X_activa"].mean(0) - source.mean(0)).max() < 4 * model.posterior_.std.max() / 30**0.5 + 1


@pytest.mark.parametrize("name", ["ACTIVA", "ACTINN", "InfoWGANGP"])
@pytest.mark.parametrize("unlabeled", ["Unknown", 0])
def test_all_cells_unlabelled(name, unlabeled):
    adata = cells(l=lambda codes: np.full(len(codes), unlabeled))
    with pytest.raises(ValueError, match=r"Every cell is unlabeled in `adata.obs\['l'\]`.*unlabeled_category"):
        getattr(sm, name).setup_anndata(adata, labels_key="l", unlabeled_category=unlabeled)


def test_all_cells_of_a_query_may_be_unlabelled(tmp_path):
    adata = cells(l=COLUMNS["int64"])
    model = fit("ACTIVA", adata, "l")
    model.save(tmp_path / "m")
    adata.obs["l"] = "Unknown"
    again = sm.ACTIVA.load(tmp_path / "m", adata=adata)
    assert again.generate(3, 30, seed=0).obs["l"].tolist() == [30] * 3


# Names, genes and colours.

CALLS = {
    "another seed": lambda m: m.generate(6, seed=1),
    "another number": lambda m: m.generate(7, seed=0),
    "types": lambda m: m.generate(6, [1, 2], seed=0),
    "other types": lambda m: m.generate(6, [1, 30], seed=0),
    "a batch": lambda m: m.generate(6, transform_batch=1, seed=0),
    "the prior": lambda m: m.generate(6, method="prior", seed=0),
    "a library size": lambda m: m.generate(6, library_size=100, seed=0),
    "other library sizes": lambda m: m.generate(6, library_size=[100] * 5 + [99], seed=0),
    "no seed": lambda m: m.generate(6),
    "codes": lambda m: m.decode(np.zeros((6, 2)), seed=0),
    "other codes": lambda m: m.decode(np.full((6, 2), 1e-3), seed=0),
    "codes of a type": lambda m: m.decode(np.zeros((6, 2)), labels=1, seed=0),
    "codes of another type": lambda m: m.decode(np.zeros((6, 2)), labels=2, seed=0),
    "codes with a library size": lambda m: m.decode(np.zeros((6, 2)), library_size=100, seed=0),
    "a baseline": lambda m: sm.baselines.IndependentNB(m.adata, labels_key="l").fit().generate(6, seed=0),
    "another fit of it": lambda m: sm.baselines.IndependentNB(m.adata, labels_key="l").fit(1).generate(6, seed=0),
    "a baseline of other cells": lambda m: (
        sm.baselines.IndependentNB(m.adata[1:].copy(), labels_key="l").fit().generate(6, seed=0)
    ),
    "a baseline without seed": lambda m: sm.baselines.IndependentNB(m.adata, labels_key="l").fit().generate(6),
}


def test_names_of_two_calls_differ(integers):
    made = {"first": integers.generate(6, seed=0), "no seed, again": integers.generate(6)}
    made |= {name: call(integers) for name, call in CALLS.items()}
    other = fit("ACTIVA", cells(l=COLUMNS["int64"], b=COLUMNS["int64"])[10:].copy(), "l", batch_key="b")
    made["a model of other cells"] = other.generate(6, seed=0)
    together = ad.concat(made)
    assert together.obs_names.is_unique, together.obs_names[together.obs_names.duplicated()]
    assert together.obs_names.str.fullmatch(r"synthetic_[0-9a-f]{8}_\d+").all()


@pytest.mark.parametrize(
    "how", [{}, {"batch_size": 2}, {"path": "new.h5ad"}, {"path": "new.zarr"}, {"silent": False}, "loaded"], ids=str
)
def test_same_request_same_names(integers, how, tmp_path):
    model = integers
    if how == "loaded":
        model.save(tmp_path / "m")
        model, how = sm.ACTIVA.load(tmp_path / "m"), {}
    if "path" in how:
        how = {"path": tmp_path / how["path"]}
    expected = integers.generate(300, seed=0).obs_names
    assert list(model.generate(300, seed=0, **how).obs_names) == list(expected)
    assert expected[-1].endswith("_299")


def test_more_training_gives_other_names():
    adata = cells(l=COLUMNS["int64"])
    model = fit("WGANGP", adata, "l")
    first = model.generate(3, seed=0).obs_names
    model.train(1, **QUIET)
    assert not set(first) & set(model.generate(3, seed=0).obs_names)


def test_genes_keep_what_they_are_and_colours_their_categories(tmp_path):
    import scanpy as sc

    adata = cells(l=lambda codes: pd.Categorical.from_codes(codes, ["T", "B", "NK"]), b=COLUMNS["str"])
    adata.var["symbol"] = [f"S{i}" for i in range(20)]
    adata.var["entrez"] = np.arange(20)
    adata.var["gene_length"] = np.linspace(1, 2, 20)
    adata.var["mt"] = np.arange(20) < 2
    kept = [*adata.var.columns, "highly_variable"]
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None, inplace=True)
    sc.pp.filter_genes(adata, min_cells=1)
    logged = adata.copy()
    sc.pp.normalize_total(logged)
    sc.pp.log1p(logged)
    sc.pp.highly_variable_genes(logged, n_top_genes=10)
    sc.pp.scale(logged)
    assert {"means", "dispersions", "dispersions_norm", "mean", "std"} <= set(logged.var)
    adata.var = logged.var
    adata.uns["l_colors"], adata.uns["b_colors"] = ["red", "green", "blue"], ["black", "white"]
    model = fit("ACTIVA", adata, "l", batch_key="b")
    baseline = sm.baselines.IndependentNB(adata, labels_key="l").fit()
    paths = {"path": tmp_path / "new.h5ad"}, {"path": tmp_path / "new.zarr"}
    made = [model.generate(9, ["NK", "B"], seed=0, **path) for path in ({}, *paths)]
    for new in (*made, baseline.generate(9, seed=0), model.decode(np.zeros((3, 2)), labels="T", seed=0)):
        assert list(new.var) == kept
        pd.testing.assert_frame_equal(new.var, adata.var[kept], check_dtype=False)
        assert list(new.uns["l_colors"]) == ["red", "green", "blue"]
    assert list(made[0].uns["b_colors"]) == ["black", "white"]
    assert "n_cells" in adata.var
    both = sm.tl.augment(adata, model, n=5, labels="B", seed=0)
    assert list(both.uns["l_colors"]) == ["red", "green", "blue"]
    # scanpy makes categories of text that occurs: here of one batch
    only = model.generate(5, transform_batch=adata.obs["b"].max(), seed=0)
    assert list(only.uns["b_colors"]) == ["white"]
    del adata.uns["l_colors"]
    assert list(sm.tl.augment(adata, model, n=5, seed=0).uns["l_colors"]) == ["red", "green", "blue"]


# Tools and commands.


def test_tools_name_integers(integers):
    adata = integers.adata
    for label in (2, "2", 2.0):
        rare = sm.pp.downsample_label(adata, "l", label, fraction=0.1)
        assert (rare.obs["l"] == 2).sum() == round(0.1 * (adata.obs["l"] == 2).sum())
        table = sm.tl.rare_augmentation(
            adata, labels_key="l", label=label, fractions=[0.5], seeds=[0], methods=["independent NB"], n_trees=2
        )
        assert table["error"].tolist() == [""]
        table = sm.tl.rare_classification(
            adata, labels_key="l", label=label, fractions=[1], seeds=[0], train_kwargs={"max_epochs": 1}
        )
        assert table["error"].tolist() == [""] * 3
        found = sm.tl.latent_traversal(adata, integers, start=label, dims=[0], n_steps=2, seed=0)
        same = sm.tl.latent_traversal(adata, integers, start={"l": label}, dims=[0], n_steps=2, seed=0)
        np.testing.assert_array_equal(found.X.toarray(), same.X.toarray())
        new = sm.tl.latent_arithmetic(
            adata, integers, group_key="l", condition_key="b", target=(label, 30), control=1, n=4, seed=0
        )
        assert new.obs["l"].tolist() == [2] * 4 and new.obs["b"].tolist() == [30] * 4
        assert new.obs["l"].dtype == adata.obs["l"].dtype
    with pytest.raises(ValueError, match=r"No cell .* is True; the labels are \[1, 2, 30\], integers"):
        sm.pp.downsample_label(adata, "l", True, fraction=0.1)
    with pytest.raises(ValueError, match=r"no cell has 3 in `adata.obs\['l'\]`.*integers"):
        sm.tl.latent_arithmetic(adata, integers, group_key="l", condition_key="b", target=(3, 30))


def test_labels_are_compared_by_their_values():
    """Integers that a join has made decimals of are the same types."""
    adata = cells(l=COLUMNS["int64"])
    other = sm.baselines.Memoriser(adata, labels_key="l").fit().generate(90, seed=0)
    expected = sm.tl.evaluate(adata, other, labels_key="l", metrics=["mmd"], baselines=(), n_comps=5)
    other.obs["l"] = other.obs["l"].astype(float)
    found = sm.tl.evaluate(adata, other, labels_key="l", metrics=["mmd"], baselines=(), n_comps=5)
    pd.testing.assert_frame_equal(found, expected)
    assert {"1", "2", "30"} <= set(found["label"])


def test_weights_of_integer_types():
    adata = cells(l=COLUMNS["int64"])
    sm.ACTINN.setup_anndata(adata, labels_key="l")
    model = sm.ACTINN(adata, class_weights={30: 3.0, "1": 1.0, 2: 2.0})
    assert model.module.class_weights.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"no weight for \[1\]"):
        sm.ACTINN(adata, class_weights={30: 3.0, 2: 2.0})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--labels", "1", "--n", "3"], [1, 1, 1]),
        (["--labels", "30=1", "--labels", "2=2"], [30, 2, 2]),
        (["--labels", "7", "--n", "3"], r"[7] were not seen"),
        (["--labels", "x", "--n", "3"], "integers"),
    ],
)
def test_command_line_names_integers(integers, tmp_path, arguments, expected):
    integers.save(tmp_path / "m")
    out = tmp_path / "new.h5ad"
    result = CliRunner().invoke(_cli.app, ["generate", str(tmp_path / "m"), "--out", str(out), *arguments])
    if isinstance(expected, str):
        assert result.exit_code == 1 and expected.replace("[7]", "['7']") in result.output
    else:
        assert result.exit_code == 0, result.output
        assert ad.read_h5ad(out).obs["l"].tolist() == expected


def test_command_line_trains_a_type_called_unknown(tmp_path):
    cells(l=partly("Unknown")).write_h5ad(tmp_path / "a.h5ad")
    common = ["train", str(tmp_path / "a.h5ad"), "--labels", "l", "--max-epochs", "1", "--out"]
    for name, arguments in (("hidden", []), ("shown", ["--unlabeled", ""])):
        result = CliRunner().invoke(_cli.app, [*common, str(tmp_path / name), *arguments])
        assert result.exit_code == 0, result.output
        assert ("Unknown" in sm.ACTIVA.load(tmp_path / name).label_categories_) == (name == "shown")


def test_each_cell_a_type_of_its_own(caplog):
    # nothing varies within a type, and nothing is said of it
    adata = sm.datasets.synthetic_counts(n_obs=120, n_vars=20, seed=0)
    adata.obs["barcode"] = adata.obs_names
    with pytest.warns(UserWarning, match="fewer than 3 cells"):
        sm.ACTIVA.setup_anndata(adata, labels_key="barcode")
    model = sm.ACTIVA(adata, **SIZES)
    model.train(1, **QUIET)
    assert np.isfinite(model.posterior_.mean).all()
    assert model.generate(3, "cell_7", seed=0).obs["barcode"].tolist() == ["cell_7"] * 3
    assert "nan" not in caplog.text


@pytest.mark.parametrize("name", ["ACTIVA", "WGANGP"])
def test_columns_that_files_cannot_hold_are_named_before_a_cell_is_made(name, tmp_path):
    key = "type/β "
    model = fit(name, cells(**{key: COLUMNS["object of text"]}), key)
    for file, resume in (("new.zarr", False), ("new.zarr", True), ("new.h5ad", False)):
        with pytest.raises(ValueError, match=r"no column with a slash .*'type/β '\]: generate without `path`"):
            model.generate(4, seed=0, path=tmp_path / file, resume=resume)
    assert not list(tmp_path.iterdir())
    new = model.generate(4, "NK", seed=0)
    assert new.obs[key].tolist() == ["NK"] * 4


def test_names_longer_than_those_of_files(tmp_path):
    longest = "αβ T cell, " * 30
    model = fit("WGANGP", cells(l=lambda codes: np.array([longest, "B", "NK"], dtype=object)[codes]), "l")
    for ending in ("h5ad", "zarr"):
        new = model.generate(labels={longest: 2, "B": 1}, seed=0, path=tmp_path / f"new.{ending}")
        assert sorted(new.obs["l"]) == ["B", longest, longest]
        assert longest in new.uns["scmimic"]["parameters"]["labels"]
