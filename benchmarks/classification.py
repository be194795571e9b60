"""Does ACTINN name cell types as well as logistic regression? Macro-F1 and accuracy on the same 20 % of cells.

    python benchmarks/classification.py --data pbmc3k.h5ad --labels cell_type --seeds 0 1 2

Types with fewer than 10 cells and the label "unassigned" are dropped; genes are those seen in at least 3 training
cells. Logistic regression gets counts scaled to 10,000 and log1p'd, scaled to unit variance without centring, and C
by 3-fold cross-validation on macro-F1.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import anndata as ad
import numpy as np
from _common import (
    append_json,
    drop_rare,
    environment,
    json_object,
    log_normalise,
    mean_and_spread,
    read_counts,
    show,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scmimic as sm

MEASURES = ("macro_f1", "accuracy", "seconds")
GRID = {"logisticregression__C": [0.001, 0.01, 0.1]}


def split(adata: ad.AnnData, labels_key: str, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    labels = adata.obs[labels_key].to_numpy()
    train, test = train_test_split(np.arange(adata.n_obs), test_size=0.2, stratify=labels, random_state=seed)
    genes = adata.X[train].getnnz(axis=0) >= 3
    return adata[np.sort(train)][:, genes].copy(), adata[np.sort(test)][:, genes].copy()


def actinn(train: ad.AnnData, test: ad.AnnData, args: argparse.Namespace, seed: int) -> np.ndarray:
    import scvi

    scvi.settings.seed = seed
    train, test = train.copy(), test.copy()
    sm.ACTINN.setup_anndata(train, labels_key=args.labels)
    model = sm.ACTINN(train, **args.model_kwargs)
    model.train(**({"max_epochs": args.epochs} if args.epochs else {}), **args.train_kwargs)
    return model.predict(test).to_numpy().astype(str)


def logistic_regression(train: ad.AnnData, test: ad.AnnData, args: argparse.Namespace, seed: int) -> np.ndarray:
    pipeline = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=500))
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    search = GridSearchCV(pipeline, GRID, scoring="f1_macro", cv=folds)
    search.fit(log_normalise(train.X), train.obs[args.labels].to_numpy())
    return search.predict(log_normalise(test.X))


METHODS = {"ACTINN": actinn, "logistic regression": logistic_regression}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    adata = read_counts(args.data, args.labels)
    adata = adata[(adata.obs[args.labels].str.lower() != "unassigned").to_numpy()].copy()
    adata = drop_rare(adata, args.labels, 10)
    rows = []
    for seed in args.seeds:
        train, test = split(adata, args.labels, seed)
        truth = test.obs[args.labels].to_numpy()
        for name in args.only or METHODS:
            start = time.perf_counter()
            predicted = METHODS[name](train, test, args, seed)
            rows.append(
                {
                    "name": name,
                    "seed": seed,
                    "macro_f1": f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0),
                    "accuracy": accuracy_score(truth, predicted),
                    "seconds": time.perf_counter() - start,
                    "n_train": train.n_obs,
                    "n_test": test.n_obs,
                    "n_genes": train.n_vars,
                    "n_types": len(np.unique(truth)),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="max_epochs of ACTINN; default: its own")
    parser.add_argument("--model-kwargs", type=json_object, default={}, help="JSON object for ACTINN")
    parser.add_argument("--train-kwargs", type=json_object, default={}, help="JSON object for ACTINN's .train")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), help="run these methods alone")
    parser.add_argument("--out", help="JSON lines file to append to")
    args = parser.parse_args()
    rows = run(args)
    print(f"{rows[0]['n_train']} + {rows[0]['n_test']} cells, {rows[0]['n_genes']} genes, {rows[0]['n_types']} types\n")
    show(rows, ["name", "seed", *MEASURES], args.data)
    show(mean_and_spread(rows, ["name"], MEASURES), ["name", "seeds", *MEASURES], "mean over seeds")
    if args.out:
        append_json(args.out, [row | {"data": args.data, "environment": environment()} for row in rows])


if __name__ == "__main__":
    main()
