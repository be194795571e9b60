"""Is a rare cell type found better with generated cells? F1 of a random forest on held-out real cells.

    python benchmarks/augmentation.py --data pbmc3k.h5ad --labels cell_type --label B --out out
    python benchmarks/augmentation.py --data pbmc3k.h5ad --labels cell_type --label B --fractions 1 \\
        --methods none "class weights" --out ceiling
    python benchmarks/augmentation.py ... --classify --fractions 1 0.1 0.05 0.01 0.005 --out conditioner

For each seed: a quarter of each type is held out; of the rest, the label is thinned to each fraction; genes are chosen,
generators fitted and forests trained on what is left. --out gets split_seedN.csv, a line of results.jsonl as soon as a
seed and fraction are done, and at the end results.csv and augmentation.png. A run that was stopped goes on
where it was, if it is started again with the same --out. --classify asks classifiers of all types instead (tables S4
and S5 of ACTIVA): the conditioner, with and without class weights, and a logistic regression.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
from _common import append_json, environment, json_object, read_counts, show

import scmimic as sm

COLUMNS = ["fraction", "n_real", "method", "runs", "f1", "f1_min", "f1_max", "precision", "recall", "average_precision"]


def write_splits(adata: Any, args: argparse.Namespace, out: Path) -> None:
    for seed in args.seed:
        sm.pp.balanced_split(adata, args.labels, test_size=args.test_size, seed=seed)
        adata.obs[["split", args.labels]].to_csv(out / f"split_seed{seed}.csv")
    del adata.obs["split"]


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for (fraction, method), group in table.groupby(["fraction", "method"], sort=False):
        f1 = group["f1"]
        row: dict[str, Any] = {"fraction": fraction, "method": method, "runs": f"{f1.notna().sum()}/{len(f1)}"}
        row["n_real"] = "-".join(str(n) for n in sorted(set(group["n_real"])))
        if f1.notna().any():
            row |= {"f1": f1.mean(), "f1_min": f1.min(), "f1_max": f1.max()}
            row |= {key: group[key].mean() for key in ("precision", "recall", "average_precision", "seconds")}
        row["error"] = next((text for text in group["error"] if text), "")[:60]
        rows.append(row)
    return rows


def run(args: argparse.Namespace) -> pd.DataFrame:
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    adata = read_counts(args.data, args.labels)
    write_splits(adata, args, out)
    path = out / "results.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["seed"], row["fraction"]) for row in found}
    about = {"data": Path(args.data).name, "labels": args.labels, "label": args.label, "genes": args.genes}
    about |= {"trees": args.trees, "test_size": args.test_size, "n_synthetic": args.n_synthetic}
    for seed in args.seed:
        for fraction in args.fractions:
            if (seed, fraction) in done:
                continue
            settings = {"labels_key": args.labels, "label": args.label, "fractions": [fraction], "seeds": [seed]}
            settings |= {"methods": args.methods, "test_size": args.test_size, "n_top_genes": args.genes}
            settings |= {"model_kwargs": args.model_kwargs, "train_kwargs": args.train_kwargs}
            if args.classify:
                table = sm.tl.rare_classification(adata, **settings)
            else:
                forest = {"n_trees": args.trees, "n_jobs": args.jobs}
                table = sm.tl.rare_augmentation(adata, **settings, **forest, n_synthetic=args.n_synthetic)
            rows = table.to_dict("records")
            append_json(path, [row | about | {"environment": environment()} for row in rows])
            found += rows
            if args.verbose:
                show(summarise(table), [*COLUMNS, "seconds", "error"], f"seed {seed}")
    table = pd.DataFrame(found)[["method", "fraction", "seed", *table_columns(found)]]
    table.to_csv(out / "results.csv", index=False)
    return table


def table_columns(rows: list[dict[str, Any]]) -> list[str]:
    known = ("n_real", "n_added", "f1", "precision", "recall", "average_precision", "seconds", "error")
    return [key for key in known if key in rows[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--label", required=True, help="the type to make rare")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.05, 0.01, 0.005])
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", help="names of the methods to run; default: all")
    parser.add_argument("--genes", type=int, default=1000, help="chosen on the reduced training cells")
    parser.add_argument("--classify", action="store_true", help="score classifiers of all types; nothing is added")
    parser.add_argument("--n-synthetic", type=int, default=1500)
    parser.add_argument("--test-size", type=float, default=0.25)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="threads of the forests")
    parser.add_argument("--out", required=True, help="folder for splits, results and picture")
    parser.add_argument("--verbose", action="store_true", help="show each seed and fraction as soon as it is measured")
    for option in ("model", "train"):
        parser.add_argument(
            f"--{option}-kwargs", type=json_object, default={}, help="JSON object, for ACTIVA or ACTINN"
        )
    args = parser.parse_args()
    if args.verbose:
        logging.getLogger("scmimic").setLevel(logging.INFO)
    table = run(args)
    rows = summarise(table)
    show(rows, [*COLUMNS, "seconds", "error"], f"{args.data}: {args.label} against the rest, mean over seeds")
    figure = sm.pl.augmentation(table, return_fig=True)
    figure.savefig(Path(args.out) / "augmentation.png", dpi=150)


if __name__ == "__main__":
    main()
