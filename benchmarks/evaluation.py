"""All metrics for all generators: `sm.evaluate` on the cells that realism.py wrote.

    python benchmarks/realism.py --data pbmc3k.h5ad --labels cell_type --out out
    python benchmarks/evaluation.py out --labels cell_type --seed 0

Reads train, reference and test .h5ad and every NAME_seedN.h5ad of the folder, and writes a table of
docs/benchmarks/evaluation.md: one row per metric, one column per generator, each value with its 95 % interval and
calibrated score, and the real replicate and the best trivial generator beside them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
from _common import environment, put_table, read_split

import scmimic as sm


def evaluate(
    parts: dict[str, ad.AnnData], synthetic: ad.AnnData, labels_key: str, args: argparse.Namespace
) -> pd.DataFrame:
    """All metrics of one generator, over all cells."""
    with warnings.catch_warnings():
        # what is smooth or copied is known here: the memoriser is in the table
        warnings.simplefilter("ignore", UserWarning)
        table = sm.evaluate(
            parts["test"],
            synthetic,
            labels_key=labels_key,
            train=parts["train"],
            reference=parts["reference"],
            n_trees=args.trees,
            seed=args.seed,
            n_jobs=args.jobs,
        ).table
    return table[table["label"] == "overall"].set_index("metric")


def number(value: float) -> float | str:
    return "-" if pd.isna(value) else float(value)


def cell(row: pd.Series) -> dict[str, float] | float | str:
    """Value, interval and calibrated score."""
    if pd.isna(row["low"]) and pd.isna(row["score"]):
        return number(row["value"])
    return {key: float(row[key]) for key in ("value", "low", "high", "score") if not pd.isna(row[key])}


def rows(tables: dict[str, pd.DataFrame]) -> list[list[Any]]:
    """One row per metric, one column per generator."""
    first = next(iter(tables.values()))
    return [
        [
            metric,
            number(row["ideal"]),
            number(row["replicate"]),
            "-" if pd.isna(row["trivial_value"]) else {"value": float(row["trivial_value"]), "of": row["trivial"]},
            *(cell(table.loc[metric]) for table in tables.values()),
        ]
        for metric, row in first.iterrows()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what realism.py wrote with --out")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--table", default="pbmc3k", help="name of the table that is written")
    parser.add_argument("--only", nargs="+", help="these generators alone")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated files, and of the evaluation")
    parser.add_argument("--trees", type=int, help="trees of the forests; default: evaluate's own")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    parts = read_split(args.folder, args.labels)
    tail = f"_seed{args.seed}.h5ad"
    files = {path.name.removesuffix(tail): path for path in sorted(args.folder.glob(f"*{tail}"))}
    tables = {}
    for name in args.only or files:
        synthetic = ad.read_h5ad(files[name])
        start = time.perf_counter()
        tables[name] = evaluate(parts, synthetic, args.labels, args)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    put_table("evaluation", args.table, ["metric", "ideal", "real replicate", "best trivial", *tables], rows(tables))
    print(f"Seed {args.seed}; {', '.join(f'{key} {value}' for key, value in environment().items())}.")


if __name__ == "__main__":
    main()
