"""Where codes come from: realism, copies and membership of the cells of one model, by source of codes.

    python benchmarks/codes.py --data pbmc3k_raw.h5ad --labels cell_type --seed 0 1 2 --out out
    python benchmarks/codes.py --data pbmc68k_reduced_counts.h5ad --labels bulk_labels --resplit --draws 3 --out out

Cells and split are those of `realism.py`, --resplit makes one for each seed (for small sets). ACTIVA is trained on
train, once for each seed; --draws sets of as many cells of each type as test has are judged, and the mean is kept.
"membership" is the AUC by which an attacker tells training from test cells, in the space of genes, who holds as many
generated cells as were trained on, or five times as many ("membership_5"). --out keeps models and codes.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from _common import (
    add_source_arguments,
    append_json,
    environment,
    load_parts,
    log_normalise,
    mean_and_spread,
    show,
    trained,
)
from realism import Judge

import scmimic as sm

MEASURES = ("rf_auc_genes", "rf_auc_pc50", "rf_error_pct", "dcr_ratio", "membership", "membership_5", "fit_s")


def membership(judge: Judge, cells: ad.AnnData) -> float:
    real = (judge.x[name].toarray() for name in ("train", "test"))
    return sm.metrics.membership_inference(*real, log_normalise(cells.X).toarray()).auc


def measured(judge: Judge, model: sm.ACTIVA, codes: str, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Means over the draws."""
    draws = []
    for draw in range(args.draws):
        cells = model.generate(labels=judge.wanted, codes=codes, seed=100 * draw + seed)
        draws.append(judge.measure(cells.X, cells.obs[args.labels].to_numpy().astype(str), seed=seed))
    return {name: float(np.mean([draw[name] for draw in draws])) for name in MEASURES if name in draws[0]}


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each source and seed."""
    for seed in args.seed:
        if args.resplit:
            args.split_seed = seed
        parts = load_parts(args)
        judge = Judge(parts, args.labels, n_trees=args.trees, n_jobs=args.jobs)
        folder = args.out / f"{Path(args.split_dir or args.data).stem}_seed{seed}"
        model = trained(parts["train"], args.labels, folder, seed, epochs=args.epochs)
        for codes in args.codes:
            model.fitted_codes_ = {}
            start = time.perf_counter()
            model.generate(1, codes=codes, seed=seed)
            row = {"codes": codes, "seed": seed, "n_train": model.adata.n_obs, "fit_s": time.perf_counter() - start}
            row |= measured(judge, model, codes, args, seed)
            for name, times in (("membership", 1), ("membership_5", 5)):
                cells = model.generate(times * model.adata.n_obs, codes=codes, seed=seed)
                row[name] = membership(judge, cells)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--resplit", action="store_true", help="another split for each seed")
    parser.add_argument("--codes", nargs="+", default=["mixture", "posterior"])
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="default: the model's")
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    origin = {"source": args.split_dir or args.data, "environment": environment()}
    table = []
    for row in rows(args):
        table.append(row)
        show([row], ["codes", "seed", *MEASURES], row["codes"])
        append_json(args.out / "codes.jsonl", [row | origin])
    show(mean_and_spread(table, ["codes"], MEASURES), ["codes", "seeds", *MEASURES], origin["source"])


if __name__ == "__main__":
    main()
