"""Cells of a type and a donor, or a type and a condition: are they what was asked, and what of a pair never seen?

    python benchmarks/attributes.py --data kang2018_donors_control.h5ad --labels cell_type --covariate donor --batch \\
        --held "CD14+ Monocytes" 1244 --seed 0 1 2 --out out
    python benchmarks/attributes.py --data kang2018_pbmc_ifnb.h5ad --labels cell_type --covariate condition \\
        --held "CD4+ T cells" stimulated --cells 6000 --out out

70 % of the cells of each type and value train, 30 % test, genes are chosen on the training cells, and no cell of the
pair --held is trained on. All cells are compared after scaling to 10,000 counts and log1p.

"recognised": a forest learns the values of the covariate from the training cells of a type; the share of cells whose
value it finds, among test cells and among as many generated ones. Generated cells that are found more often show the
accidents of the training cells. "auc": a forest tells generated from test cells of a type. "auc_groups": the same of
each type and value that has so many test cells, mean and ("auc_worst") largest; "over_type": how far the group's AUC is
above that of its type, the largest. Means over --draws sets of cells.
"error": mean |difference| of the genes' means from those of all real cells of the held-out pair, and the squared
correlation with them, of all genes and of the 100 that differ most from the type's other cells; beside it the type's
other cells ("pool"), those of each other value ("others"), and the mean shift, by which the other types change.

A row is a way to train (ROWS) and a source of codes (--codes). --out keeps each model and a line for each result.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scvi
from _common import (
    append_json,
    auc_of_groups,
    environment,
    gene_scores,
    log_normalise,
    mean_and_spread,
    mean_of_each,
    read_counts,
    show,
)
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import scmimic as sm

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "encoder not told": {"init": {"encode_covariates": False}},
    "no decay": {"plan": {"batch_decay": 0.0}},
    "decay 2": {"plan": {"batch_decay": 2.0, "covariate_decay": 2.0}},
    "decay 20": {"plan": {"batch_decay": 20.0, "covariate_decay": 20.0}},
}
N_DE = 100
MEASURES = (
    *("recognised_real", "recognised", "excess", "auc", "auc_groups", "auc_worst", "over_type"),
    *("error", "r2", "r2_de", "train_s"),
)


def load(args: argparse.Namespace) -> tuple[ad.AnnData, ad.AnnData, ad.AnnData]:
    """Training cells, test cells, and all real cells of the pair that is held out."""
    adata = read_counts(args.data, args.labels)
    # text that no library takes for numbers
    adata.obs[args.covariate] = "v" + adata.obs[args.covariate].astype(str)
    pairs = (adata.obs[args.labels] + "|" + adata.obs[args.covariate]).to_numpy()
    if args.cells:
        keep, _ = train_test_split(np.arange(adata.n_obs), train_size=args.cells, stratify=pairs, random_state=0)
        adata, pairs = adata[np.sort(keep)].copy(), pairs[np.sort(keep)]
    held = pairs == f"{args.held[0]}|v{args.held[1]}"
    if not held.any():
        raise SystemExit(f"There are no cells of {args.held}.")
    train, test = train_test_split(np.arange(adata.n_obs), test_size=0.3, stratify=pairs, random_state=0)
    train, test = np.sort(train[~held[train]]), np.sort(test[~held[test]])
    genes = np.sort(np.argsort(-gene_scores(adata.X[train]))[: args.genes])
    return tuple(adata[rows][:, genes].copy() for rows in (train, test, held))


def gene_means(cells: ad.AnnData) -> np.ndarray:
    return np.asarray(log_normalise(cells.X).mean(axis=0)).ravel()


def fitted(row: str, train: ad.AnnData, args: argparse.Namespace, seed: int) -> tuple[sm.ACTIVA, float]:
    """Train, or load what was trained before."""
    told = "batch" if args.batch else "covariate"
    place = args.out / f"{Path(args.data).stem}_{row.replace(' ', '_')}_{told}_{seed}_{args.epochs}"
    if (place / "seconds.txt").exists():
        return sm.ACTIVA.load(place), float((place / "seconds.txt").read_text())
    scvi.settings.seed = seed
    train = train.copy()
    keys = {"batch_key": args.covariate} if args.batch else {"categorical_covariate_keys": [args.covariate]}
    sm.ACTIVA.setup_anndata(train, labels_key=args.labels, **keys)
    model = sm.ACTIVA(train, **ROWS[row].get("init", {}))
    start = time.perf_counter()
    model.train(max_epochs=args.epochs, plan_kwargs=ROWS[row].get("plan"), enable_progress_bar=False)
    seconds = time.perf_counter() - start
    model.save(place, overwrite=True)
    (place / "seconds.txt").write_text(str(seconds))
    return model, seconds


def of_types(
    model: sm.ACTIVA, codes: str, train: ad.AnnData, test: ad.AnnData, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """How often generated cells are recognised as what was asked, and whether they are told from test cells."""
    found: dict[str, dict[str, float]] = {"recognised_real": {}, "recognised": {}, "auc": {}, "auc_groups": {}}
    above: dict[str, float] = {}
    judge = {"n_trees": args.trees, "seed": seed, "n_jobs": args.jobs}
    for kind in sorted(train.obs[args.labels].unique()):
        known, real = (part[part.obs[args.labels] == kind] for part in (train, test))
        x, y = (log_normalise(part.X).toarray() for part in (known, real))
        values = real.obs[args.covariate].to_numpy()
        forest = RandomForestClassifier(
            args.trees, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=args.jobs
        ).fit(x, known.obs[args.covariate].to_numpy())
        found["recognised_real"][kind] = float((forest.predict(y) == values).mean())
        recognised, aucs, aucs_of_groups = [], [], []
        for draw in range(args.draws):
            # as the test cells, one for one: groups of one call have random numbers of their own
            new = model.generate(like=real, codes=codes, seed=100 * draw + seed)
            z = log_normalise(new.X).toarray()
            recognised.append((forest.predict(z) == values).mean())
            aucs.append(sm.metrics.discriminator_auc(y, z, **judge))
            aucs_of_groups.append(auc_of_groups(y, z, values, values, **judge))
        found["recognised"][kind], found["auc"][kind] = float(np.mean(recognised)), float(np.mean(aucs))
        for value, auc in mean_of_each(aucs_of_groups).items():
            found["auc_groups"][f"{kind}, {value}"], above[f"{kind}, {value}"] = auc, auc - found["auc"][kind]
    means = {name: float(np.mean(list(by.values()))) for name, by in found.items()}
    excess = {kind: found["recognised"][kind] - real for kind, real in found["recognised_real"].items()}
    worst = {"auc_worst": max(found["auc_groups"].values()), "over_type": max(above.values())}
    return means | worst | {"excess": float(np.mean(list(excess.values()))), "of_types": found}


def of_held(
    model: sm.ACTIVA | None, codes: str, train: ad.AnnData, held: ad.AnnData, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """How far the cells of the pair that was held out are from the real ones; without a model, simple predictions."""
    kind, value = args.held[0], f"v{args.held[1]}"
    truth, own = gene_means(held), train[train.obs[args.labels] == kind]
    base = gene_means(own)
    changed = np.argsort(-np.abs(truth - base))[:N_DE]

    def score(predicted: np.ndarray) -> dict[str, float]:
        r2, r2_de = (np.corrcoef(predicted[rows], truth[rows])[0, 1] ** 2 for rows in (slice(None), changed))
        return {"error": float(np.abs(predicted - truth).mean()), "r2": float(r2), "r2_de": float(r2_de)}

    if model is not None:
        new = model.generate(1000, kind, covariates={args.covariate: value}, codes=codes, seed=seed)
        return score(gene_means(new))
    others = train[train.obs[args.labels] != kind]
    shifts = []
    for other in others.obs[args.labels].unique():
        part = others[others.obs[args.labels] == other]
        told = part.obs[args.covariate] == value
        shifts.append(gene_means(part[told]) - gene_means(part[~told]))
    each = {v: score(gene_means(own[own.obs[args.covariate] == v])) for v in own.obs[args.covariate].unique()}
    nearest = min(each, key=lambda v: each[v]["error"])
    return {
        "pool": score(base),
        "mean shift": score(base + np.mean(shifts, axis=0)),
        f"others, best ({nearest})": each[nearest],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--covariate", required=True, help="column of obs with the donor, the condition, ...")
    parser.add_argument("--held", nargs=2, required=True, metavar=("TYPE", "VALUE"), help="pair without training cells")
    parser.add_argument("--batch", action="store_true", help="register the column as batch")
    parser.add_argument("--row", nargs="+", choices=ROWS, default=["default"])
    parser.add_argument("--codes", nargs="+", default=["mixture", "posterior"])
    parser.add_argument("--cells", type=int, help="take so many cells; default: all")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, help="default: the model's")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, test, held = load(args)
    path, about = (
        args.out / "attributes.jsonl",
        {"data": Path(args.data).name, "held": args.held, "batch": args.batch, "epochs": args.epochs},
    )
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows: list[dict[str, Any]] = []
    for name, scores in of_held(None, "", train, held, args, 0).items():
        rows.append({"row": name, "codes": "-", "seed": 0} | scores)
    for row in args.row:
        for seed in args.seed:
            for codes in args.codes:
                key = about | {"row": row, "codes": codes, "seed": seed}
                found = [line for line in done if all(line.get(k) == v for k, v in key.items())]
                if not found:
                    model, seconds = fitted(row, train, args, seed)
                    found = [key | of_types(model, codes, train, test, args, seed)]
                    found[0] |= of_held(model, codes, train, held, args, seed) | {"train_s": seconds}
                    append_json(path, [found[0] | {"environment": environment()}])
                rows += found
    table = mean_and_spread(rows, ("row", "codes"), MEASURES)
    show(table, ["row", "codes", "seeds", *MEASURES], f"{args.data}, {args.covariate}, {args.held} held out")


if __name__ == "__main__":
    main()
