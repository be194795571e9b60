"""VAEs and GANs by the measures of the MichiGAN paper's table 2: random-forest error and inception score.

    python benchmarks/gan.py --data pbmc3k.h5ad --labels cell_type --row wgangp michigan_scvi scvi --seed 0 1 --out out
    python benchmarks/gan.py --split-dir split --labels cell_type --row wgangp --epochs 20 --out out

Cells are split as in realism.py: generators see train alone, and as many cells as the test set has are generated, of
the test set's types. All cells are compared after scaling to 10,000 counts and log1p. The PCA of the random-forest
error is fitted on reference cells, which the test does not hold; the error comes with its interval. The forest of the
inception score learns train; `real` is the score of the test cells. Each run is kept in gan.jsonl of --out, and runs
that are there already are not repeated.

A further row is one more entry of ROWS: a function of the training cells, the label column, a seed and the epochs asked
for that returns a function from a dict of types and numbers to cells.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import anndata as ad
import numpy as np
import scvi
from _common import PARTS, add_source_arguments, append_json, environment, load_parts, log_normalise, show

import scmimic as sm

Generate = Callable[[Mapping[str, int], int], ad.AnnData]
QUIET = {"enable_progress_bar": False}


def logged(adata: ad.AnnData) -> ad.AnnData:
    """A copy with log-normalised values in a layer."""
    adata = adata.copy()
    adata.layers["log"] = log_normalise(adata.X).astype(np.float32)
    return adata


def of_model(model) -> Generate:
    return lambda counts, seed: model.generate(labels=counts, seed=seed)


def wgangp(train: ad.AnnData, labels: str, epochs: int | None, layer: str | None = None, **kwargs) -> Generate:
    data = logged(train)
    sm.WGANGP.setup_anndata(data, layer=layer, labels_key=labels)
    model = sm.WGANGP(data, **kwargs)
    model.train(epochs, **QUIET)
    if layer is None:
        return of_model(model)
    return lambda counts, seed: model.generate(labels=counts, seed=seed, as_counts=True)


def infowgangp(train: ad.AnnData, labels: str, epochs: int | None) -> Generate:
    data = train.copy()
    sm.InfoWGANGP.setup_anndata(data, labels_key=labels)
    model = sm.InfoWGANGP(data)
    model.train(epochs, **QUIET)
    return of_model(model)


def michigan_scvi(train: ad.AnnData, labels: str, epochs: int | None, code: str = "sample") -> Generate:
    data = train.copy()
    scvi.model.SCVI.setup_anndata(data, labels_key=labels)
    vae = scvi.model.SCVI(data)
    vae.train(epochs, **QUIET)
    model = sm.MichiGAN.from_representation(vae, code)
    model.train(epochs, **QUIET)
    return of_model(model)


def activa(train: ad.AnnData, labels: str, epochs: int | None) -> Generate:
    data = train.copy()
    sm.ACTIVA.setup_anndata(data, labels_key=labels)
    model = sm.ACTIVA(data)
    model.train(epochs, **QUIET)
    return of_model(model)


ROWS: dict[str, Callable[..., Generate]] = {
    "wgangp": wgangp,
    "wgangp_log": lambda *args: wgangp(*args, layer="log"),
    "wgangp_concat": lambda *args: wgangp(*args, conditioning="concat"),
    "wgangp_batch_norm": lambda *args: wgangp(*args, conditioning="batch_norm"),
    "infowgangp": infowgangp,
    "michigan_scvi": michigan_scvi,
    "michigan_scvi_mean": lambda *args: michigan_scvi(*args, code="mean"),
    "activa": activa,
}


def run(name: str, parts: Mapping[str, ad.AnnData], labels: str, seed: int, epochs: int | None, trees: int) -> dict:
    """Train one generator and measure its cells."""
    train, reference, test = (parts[part] for part in PARTS)
    scvi.settings.seed = seed
    start = time.perf_counter()
    generate = ROWS[name](train, labels, epochs)
    seconds = time.perf_counter() - start
    wanted = test.obs[labels].astype(str).value_counts().to_dict()
    cells = generate(wanted, seed)
    x, real, fitted, known = (log_normalise(part.X) for part in (cells, test, reference, train))
    error, interval = sm.metrics.random_forest_error(
        real, x, reference=fitted, n_trees=trees, seed=seed, return_interval=True
    )
    types = train.obs[labels].astype(str).to_numpy()
    return {
        "row": name,
        "seed": seed,
        "epochs": epochs,
        "trees": trees,
        "random_forest_error": error,
        "low": interval[0],
        "high": interval[1],
        "inception_score": sm.metrics.inception_score(known, types, x, n_trees=trees, seed=seed),
        "real": sm.metrics.inception_score(known, types, real, n_trees=trees, seed=seed),
        "zeros": 1 - x.nnz / np.prod(x.shape),
        "zeros_real": 1 - real.nnz / np.prod(real.shape),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--row", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="epochs of every model; each model's own default if left out")
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    parts = load_parts(args)
    file = args.out / "gan.jsonl"
    keys = ("row", "seed", "epochs", "trees")
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {tuple(row[key] for key in keys) for row in rows}
    for name in args.row:
        for seed in args.seed:
            if (name, seed, args.epochs, args.trees) in done:
                continue
            row = {**run(name, parts, args.labels, seed, args.epochs, args.trees), **environment()}
            append_json(file, [row])
            rows.append(row)
    columns = [*keys, "random_forest_error", "low", "high", "inception_score", "real", "zeros", "zeros_real", "seconds"]
    show(rows, columns, "Random-forest error (%, 50 is ideal) and inception score")


if __name__ == "__main__":
    main()
