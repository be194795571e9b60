"""Every argument of every public callable that is annotated as a truth value, a number, text or a choice, wrong.

The callables and their arguments are read from the package, so that a new one is tested as soon as it is there.
"""

import functools
import inspect
import math
import re
import typing

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import scmimic as sm

PARTS = ("pp", "tl", "pl", "metrics", "datasets", "baselines", "model")
# what each annotation does not take
WRONG = {
    "bool": ("no", 1, 0.0, [True]),
    "int": ("5", 2.5, -7, math.nan, [1], True),
    "float": ("0.5", math.nan, math.inf, [[0.5]], True),
    "str": (5, ["a"], b"a"),
    "Literal": ("no such choice", 5, ["a"]),
    "Sequence": ({"a", "b"}, frozenset({1})),
    "tuple": ((1, 2, 3), 5, "01"),
    "AnnData": (5, "cells.h5ad", np.zeros((60, 12))),
}
# values that are right although they look wrong
RIGHT = {
    "n_jobs": (-7,),
    # the types of labels and batches are whatever the column has
    **dict.fromkeys(("transform_batch", "label", "target", "control", "reference_group"), WRONG["str"]),
}
RIGHT |= {"group2": WRONG["str"], "labels": (5, ["a"], b"a", (1, 2, 3), "01")}
# what is not asked for here: models, and what belongs to matplotlib
ELSEWHERE = {"self", "cls", "registry", "ax", "palette", "cmap"}


@functools.cache
def cells():
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=12, n_labels=3, n_batches=2, seed=0)
    rng = np.random.default_rng(0)
    for key in ("X_umap", "X_joint_umap", "X_pca", "X_betatcvae", "X_michigan"):
        adata.obsm[key] = rng.normal(size=(60, 3)).astype(np.float32)
    return adata


@functools.cache
def model(name):
    """A model that is not trained: arguments are refused before anything is asked of it."""
    cls = getattr(sm, name)
    adata = cells().copy()
    cls.setup_anndata(adata, labels_key="cell_type")
    if name in ("ACTIVA", "BetaTCVAE"):
        made = cls(adata, n_latent=2, n_hidden=(4,), gene_likelihood="nb")
        # tools look at that first
        made.train(1, enable_progress_bar=False)
        return made
    return cls(adata) if name == "ACTINN" else cls(adata, n_hidden_generator=(8,), n_hidden_critic=(8,))


OF_BASELINES = {name: {} if name == "PPCA" else {"labels_key": "cell_type"} for name in sm.baselines.__all__}


@functools.cache
def baseline(name):
    return getattr(sm.baselines, name)(cells(), **OF_BASELINES[name])


@functools.cache
def arguments():
    """Valid arguments by name, for those that have no default."""
    x = cells().X.toarray()
    labels = np.asarray(cells().obs["cell_type"].astype(str))
    return {
        **dict.fromkeys(("adata", "synthetic", "holdout", "predicted", "traversal"), cells()),
        **dict.fromkeys(("real", "train", "test", "x", "latent", "codes", "mean"), x[:, :3].astype(float)),
        **dict.fromkeys(("real_labels", "synthetic_labels", "train_labels"), labels),
        "labels": labels,
        "variance": np.ones((60, 3)),
        "latents": [x[:, :3], x[:, 3:6]],
        "factors": ["cell_type"],
        "mdata": MuData({"rna": cells().copy()}),
        "modalities": {"rna_layer": "rna"},
        "model": model("ACTIVA"),
        "labels_key": "cell_type",
        "group_key": "cell_type",
        "condition_key": "batch",
        "perturbation_key": "cell_type",
        "control": "type_0",
        "label": "type_0",
        "fraction": 0.5,
        "use_rep": "X_pca",
        "target": ("type_0", "batch_1"),
        "start": "type_0",
        "fit": lambda train, seed: None,
        "result": pd.DataFrame({"method": ["a"], "fraction": [0.1], "n_real": [3], "f1": [0.5]}),
        "results": pd.DataFrame({"metric": ["a"], "group": ["genes"], "label": ["overall"], "score": [0.5]}),
        "model_or_history": {"elbo_train": pd.DataFrame({"elbo_train": [3.0, 2.0]})},
        **dict.fromkeys(("dir_path", "model_dir"), "no/such/folder"),
        "n": 5,
        **dict.fromkeys(("store", "collection_path"), "cells.zarr"),
        "z": np.zeros((2, 2), dtype=np.float32),
        "path": "report.html",
    }


ARRAYS = {"synthetic": "real", "factors": "labels"}


def callables():
    for part in PARTS:
        for name in getattr(sm, part).__all__:
            found = getattr(getattr(sm, part), name)
            if inspect.isfunction(found):
                yield f"{part}.{name}", found
            elif part in ("model", "baselines") and not inspect.isabstract(found):
                yield f"{part}.{name}", found
                for attribute, method in inspect.getmembers(found, callable):
                    if not attribute.startswith("_") and getattr(method, "__module__", "").startswith("scmimic"):
                        yield f"{part}.{name}.{attribute}", method
    yield "report", sm.report


CALLABLES = dict(callables())


def members(annotation, function):
    """Names of the types in an annotation, which is text; aliases are looked up where the function stands."""
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    found = []
    for part in re.split(r"\|(?![^\[]*\])", str(annotation)):
        part = part.strip()
        alias = scope.get(part)
        if typing.get_origin(alias) is typing.Literal:
            part = "Literal"
        found.append(part.split("[")[0])
    return found


def wrong_values(name, annotation, function):
    known = members(annotation, function)
    values = []
    for kind in known:
        values += WRONG.get(kind, ())
    if values and "None" not in known:
        values.append(None)
    takes = {
        "str": lambda v: isinstance(v, str) and "str" in known,
        "list": lambda v: isinstance(v, list) and {"Sequence", "list", "Any"} & set(known),
        "number": lambda v: type(v) in (int, float) and "float" in known and math.isfinite(v),
        "whole": lambda v: type(v) is int and "int" in known and v > 0,
        "truth": lambda v: isinstance(v, bool) and "bool" in known,
        "pair": lambda v: isinstance(v, tuple) and "Sequence" in known,
    }
    return [
        value
        for value in values
        if not any(take(value) for take in takes.values())
        and not any(value is right or (type(value) is type(right) and value == right) for right in RIGHT.get(name, ()))
    ]


def parameters():
    for where, function in CALLABLES.items():
        owner = function if not inspect.isclass(function) else function.__init__
        for name, parameter in inspect.signature(function).parameters.items():
            if name in ELSEWHERE or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            if values := wrong_values(name, parameter.annotation, owner):
                yield pytest.param(where, name, values, id=f"{where}-{name}")


def call(where, name, value):
    function = CALLABLES[where]
    known = dict(arguments())
    if where.startswith("metrics."):
        known |= {new: known[old] for new, old in ARRAYS.items()}
    own = {
        p.name: known[p.name]
        for p in inspect.signature(function).parameters.values()
        if p.name in known
        and p.name != "self"
        # a finished evaluation needs none
        and (p.default is p.empty or (where, p.name) == ("report", "synthetic"))
    }
    for key, data in own.items():
        if isinstance(data, AnnData):
            own[key] = data.copy()
    if where.startswith("model.") and where.count(".") == 1:
        # registered with the class
        own["adata"] = model(where.split(".")[1]).adata
    if inspect.isfunction(function) and "self" in inspect.signature(function).parameters:
        part, owner, _ = where.split(".")
        function = functools.partial(function, model(owner) if part == "model" else baseline(owner))
    if where.startswith("baselines.") and where.count(".") == 1:
        own |= OF_BASELINES[where.split(".")[1]]
    return function(**own | {name: value})


@pytest.mark.parametrize(("where", "name", "values"), parameters())
def test_refused(where, name, values):
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"`{name}[`=]"):
            call(where, name, value)


def test_the_walk_sees_the_package():
    """Were annotations read wrongly, nothing would be tested."""
    seen = [(case.values[0], case.values[1]) for case in parameters()]
    assert len(seen) > 600
    assert {"model.ACTIVA.generate", "tl.evaluate", "pl.embedding", "metrics.mmd", "pp.balanced_split"} <= {
        where for where, _ in seen
    }
    assert ("tl.latent_entropy", "shift") in seen
