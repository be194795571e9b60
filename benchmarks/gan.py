"""VAEs and GANs by the measures of the MichiGAN paper's table 2, and by the protocol of realism.py.

    python benchmarks/gan.py --data pbmc3k.h5ad --labels cell_type --row wgangp michigan_scvi --seed 0 1 --out out
    python benchmarks/gan.py --data kang.h5ad --labels cell_type --row vae beta_tcvae wgangp_log michigan --out out
    python benchmarks/gan.py --data linear.h5ad --labels path --genes 2000 --row wgangp_log --seed 0 1 2 3 4 --out out

Cells are split as in realism.py: generators see train alone, and as many cells as the test set has are generated, of
the test set's types. Forests see at most 3,000 cells of a side, as in the paper. All cells are compared after scaling
to 10,000 counts and log1p. The PCA of the random-forest error is fitted on reference cells, which the test does not
hold; the error comes with its interval. The forest of the inception score learns train; `real` is the score of the test
cells. The other measures are those of realism.py.

What the rows see:

- log expression, counts scaled to 10,000 and log1p'd, as in the paper: `vae`, `beta_tcvae`, `wgangp_log`, `michigan`
  and `michigan_mean` (codes of the beta-TCVAE: posterior samples or means). Their cells are compared as the values that
  the generator gives; VAEs give the mean of their likelihood, of codes from the training cells' posteriors.
  `..._counts` makes integer counts of the values first.
- raw counts, for which they give counts: all others. `michigan_draws` has its codes from log expression as `michigan`
  has them, and learns to draw the counts themselves.

Each run is kept in gan.jsonl of --out, and runs that are there already are not repeated. Rows that differ only in what
comes after a training share it; `seconds` counts every training that a row needs. The last table says for each row how
many of the runs kept finite losses to the end, and between which errors they lie.

A further row is one more entry of ROWS: a function of the training cells (counts, log expression as a layer), the label
column and the epochs asked for that returns a Fitted.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
from _common import (
    PARTS,
    add_source_arguments,
    append_json,
    environment,
    load_parts,
    log_normalise,
    mean_and_spread,
    show,
)
from realism import Judge

import scmimic as sm
from scmimic._interrupts import stop_if_interrupted

LOG, COUNTS = "log", "counts"
QUIET = {"enable_progress_bar": False}
PROTOCOL = ("rf_auc_genes", "rf_auc_pc50", "mmd2_pc50", "dcr_ratio", "label_agreement", "label_agreement_real")
MEASURES = ("random_forest_error", "inception_score", "real", "zeros", "zeros_real", *PROTOCOL, "seconds")


@dataclass
class Fitted:
    """What a row hands to the judge."""

    models: list[Any]
    """All models that were trained, in their order; the last one generates."""
    logged: bool = False
    """Whether the cells are log expression rather than counts."""
    seconds: float = 0.0
    """That the trainings took."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of `generate`."""

    def generate(self, seed: int, **kwargs: Any) -> ad.AnnData:
        return self.models[-1].generate(seed=seed, **kwargs, **self.options)

    def compared(self, cells: ad.AnnData) -> sp.csr_matrix:
        """Cells that it generated, in the space in which all are compared."""
        return log_normalise(sp.csr_matrix(cells.X).expm1() if self.logged else cells.X)


def finite(model: Any) -> bool:
    """Whether the losses of a training stayed finite to its end."""
    histories = {name: history for name, history in model.history.items() if name != "code_faithfulness"}
    losses = [history.to_numpy(dtype=float).ravel() for history in histories.values()]
    # nan is also what stands for a loss before its part of the training begins
    fine = all(np.isfinite(values[-1]) and not np.isinf(values).any() for values in losses)
    return fine and not any(getattr(callback, "diverged", False) for callback in model.trainer.callbacks)


def add_log(adata: ad.AnnData, transform: Callable[[sp.csr_matrix], sp.csr_matrix] = log_normalise) -> ad.AnnData:
    """A copy with its log expression in a layer, and its counts in another."""
    adata = adata.copy()
    adata.layers[COUNTS] = adata.X
    adata.layers[LOG] = transform(adata.X).astype(np.float32)
    return adata


def shared(fit: Callable[..., Fitted]) -> Callable[..., Fitted]:
    """Train once for the rows of a seed that need the same; each training starts from the seed."""
    known: dict[tuple, tuple] = {}

    @wraps(fit)
    def once(data: Any, *args: Any, **kwargs: Any) -> Fitted:
        seed = scvi.settings.seed
        key = (seed, id(data), args, tuple(sorted(kwargs.items())))
        if key not in known:
            for other in [other for other in known if other[0] != seed]:
                del known[other]
            scvi.settings.seed = seed
            # with its data, so that no other object gets the id
            known[key] = data, fit(data, *args, **kwargs)
        return known[key][1]

    return once


def trained(model: Any, epochs: int | None, logged: bool, *before: Fitted) -> Fitted:
    """A model after its training, with those that were trained before it."""
    start = time.perf_counter()
    model.train(epochs, **QUIET)
    stop_if_interrupted(model)
    seconds = time.perf_counter() - start + sum(fitted.seconds for fitted in before)
    return Fitted([model for fitted in before for model in fitted.models] + [model], logged, seconds)


@shared
def gan(train: ad.AnnData, model_class: Any, labels: str | None, epochs: int | None, log: bool, **kwargs) -> Fitted:
    data = train.copy()
    model_class.setup_anndata(data, layer=LOG if log else None, labels_key=labels)
    return trained(model_class(data, **kwargs), epochs, log)


@shared
def michigan(representation: Fitted, epochs: int | None, code: str = "sample", layer: str | None = None) -> Fitted:
    """MichiGAN on the codes of a representation that is trained; of its layer, or of the one named."""
    model = sm.MichiGAN.from_representation(representation.models[-1], code, layer=layer)
    return trained(model, epochs, representation.logged and layer != COUNTS, representation)


def wgangp(train: ad.AnnData, labels: str | None, epochs: int | None, *, log: bool = False, **kwargs) -> Fitted:
    return gan(train, sm.WGANGP, labels, epochs, log, **kwargs)


def infowgangp(train: ad.AnnData, labels: str | None, epochs: int | None, *, log: bool = False, **kwargs) -> Fitted:
    return gan(train, sm.InfoWGANGP, labels, epochs, log, **kwargs)


def beta_tcvae(train: ad.AnnData, labels: str | None, epochs: int | None, **kwargs) -> Fitted:
    return gan(train, sm.BetaTCVAE, labels, epochs, True, **kwargs)


def scvi_model(train: ad.AnnData, labels: str, epochs: int | None) -> Fitted:
    return gan(train, scvi.model.SCVI, labels, epochs, False)


def as_counts(fitted: Fitted) -> Fitted:
    """Integer counts in place of log expression."""
    return replace(fitted, logged=False, options={"as_counts": True})


ROWS: dict[str, Callable[[ad.AnnData, str, int | None], Fitted]] = {
    "vae": lambda *args: beta_tcvae(*args, beta=0.0),
    "beta_tcvae": beta_tcvae,
    "wgangp_log": lambda *args: wgangp(*args, log=True),
    "wgangp_log_counts": lambda *args: as_counts(wgangp(*args, log=True)),
    "michigan": lambda *args: michigan(beta_tcvae(*args), args[-1]),
    "michigan_mean": lambda *args: michigan(beta_tcvae(*args), args[-1], "mean"),
    "michigan_counts": lambda *args: as_counts(michigan(beta_tcvae(*args), args[-1])),
    "michigan_draws": lambda *args: michigan(beta_tcvae(*args), args[-1], layer=COUNTS),
    "wgangp": wgangp,
    "wgangp_concat": lambda *args: wgangp(*args, conditioning="concat"),
    "wgangp_batch_norm": lambda *args: wgangp(*args, conditioning="batch_norm"),
    "infowgangp": infowgangp,
    "michigan_scvi": lambda *args: michigan(scvi_model(*args), args[-1]),
    "michigan_scvi_mean": lambda *args: michigan(scvi_model(*args), args[-1], "mean"),
    "activa": lambda train, *args: gan(train, sm.ACTIVA, *args, False),
}


def measure(
    parts: Mapping[str, ad.AnnData], x: sp.csr_matrix, labels: str, *, seed: int, trees: int
) -> dict[str, float]:
    """Measures of generated cells, which are given as they are compared; of the parts, the counts are read."""
    known, fitted, real = (log_normalise(parts[part].X) for part in PARTS)
    error, interval = sm.metrics.random_forest_error(
        real, x, reference=fitted, n_trees=trees, seed=seed, return_interval=True
    )
    types = parts["train"].obs[labels].astype(str).to_numpy()
    return {
        "random_forest_error": error,
        "low": interval[0],
        "high": interval[1],
        "inception_score": sm.metrics.inception_score(known, types, x, n_trees=trees, seed=seed),
        "real": sm.metrics.inception_score(known, types, real, n_trees=trees, seed=seed),
        "zeros": 1 - x.count_nonzero() / np.prod(x.shape),
        "zeros_real": 1 - real.count_nonzero() / np.prod(real.shape),
    }


def run(
    name: str, parts: Mapping[str, ad.AnnData], train: ad.AnnData, judge: Judge, seed: int, epochs: int | None
) -> dict[str, Any]:
    """Train one generator on `train`, which has log expression, and measure its cells."""
    labels = judge.labels_key
    scvi.settings.seed = seed
    fitted = ROWS[name](train, labels, epochs)
    cells = fitted.generate(seed, labels=judge.wanted)
    x = fitted.compared(cells)
    measured = measure(parts, x, labels, seed=seed, trees=judge.n_trees)
    by_protocol = judge.measure(x.expm1(), cells.obs[labels].to_numpy().astype(str), seed=seed)
    measured |= {name: by_protocol[name] for name in PROTOCOL}
    return {**measured, "seconds": fitted.seconds, "finite": all(map(finite, fitted.models))}


def stability(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each row, and for all: the number of runs, how many had finite losses, and the band of their errors."""
    table = []
    keys = dict.fromkeys((row["data"], row["row"]) for row in rows)
    for data, name in [*keys, ("all", "all")]:
        runs = [row for row in rows if name == "all" or (row["data"], row["row"]) == (data, name)]
        errors = [run["random_forest_error"] for run in runs]
        line = {"data": data, "row": name, "runs": len(runs), "finite": sum(run["finite"] for run in runs)}
        table.append(line | {"lowest error": min(errors), "highest error": max(errors)})
    return table


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
    about = {"data": Path(args.split_dir or args.data).stem, "labels": args.labels}
    if args.data:
        about |= {"genes": args.genes, "split_seed": args.split_seed}
    file = args.out / "gan.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    parts = None
    # seeds outside, so that an interrupted run has every row
    for seed in args.seed:
        for name in args.row:
            key = {**about, "row": name, "seed": seed, "epochs": args.epochs, "trees": args.trees}
            if any(all(row.get(k) == value for k, value in key.items()) for row in rows):
                continue
            if parts is None:
                parts = load_parts(args)
                train = add_log(parts["train"])
                judge = Judge(parts, args.labels, n_trees=args.trees, n_jobs=1)
            rows.append({**key, **run(name, parts, train, judge, seed, args.epochs)})
            append_json(file, [rows[-1] | environment()])
    columns = ["data", "row", "seed", "epochs", "trees", "random_forest_error", "low", "high", *MEASURES[1:]]
    show(rows, columns, "Random-forest error (%, 50 is ideal) and inception score")
    table = mean_and_spread(rows, ("data", "row", "epochs"), MEASURES)
    show(table, ["data", "row", "epochs", "seeds", *MEASURES], "Mean over seeds")
    show(stability(rows), ["data", "row", "runs", "finite", "lowest error", "highest error"], "Finite losses")


if __name__ == "__main__":
    main()
