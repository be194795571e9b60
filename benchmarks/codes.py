"""Where codes come from: realism, copies and membership of the cells of one model, by source of codes.

    python benchmarks/codes.py --data pbmc3k_raw.h5ad --labels cell_type --seed 0 1 2 --out out
    python benchmarks/codes.py --data pbmc68k_reduced_counts.h5ad --labels bulk_labels --resplit --draws 3 --out out

Cells and split are those of `realism.py`, --resplit makes one for each seed (for small sets). ACTIVA is trained on
train, once for each seed; --draws sets of as many cells of each type as test has are judged, and the mean is kept.
"membership" is the AUC by which an attacker tells training from test cells, in the space of genes, who holds as many
generated cells as were trained on, or five times as many ("membership_5"). "types": AUC on genes of a forest that sees
one type alone, for those of 40 test cells or more, their mean and the worst. --out keeps models and codes.jsonl.

--guided adds rows in which a classifier chooses among four times as many cells: it learns to tell training from
generated cells, by four folds, and of each type cells are taken by the ratio of densities that it sees, between 1/10
and 10. They have no membership.

--kl-weight trains with another weight of the KL. --short adds rows in which the cells come in halves from two trainings
of half as many epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
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
    mean_of_each,
    show,
    trained,
)
from realism import Judge
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import scmimic as sm

FACTOR, FOLDS, LARGEST_RATIO = 4, 4, 10.0
# what a classifier sees: genes, or principal components of training and generated cells; each with the type
GUIDES: dict[str, tuple[str, Callable[[], Any]]] = {
    "logistic": ("components", lambda: LogisticRegression(C=0.1, max_iter=500)),
    "boosted trees": (
        "components",
        lambda: HistGradientBoostingClassifier(max_iter=60, learning_rate=0.08, max_leaf_nodes=8, random_state=0),
    ),
    "forest": ("genes", lambda: RandomForestClassifier(200, min_samples_leaf=5, random_state=0)),
}
MEASURES = (
    *("rf_auc_genes", "rf_auc_pc50", "rf_error_pct", "types_mean", "types_worst"),
    *("dcr_ratio", "membership", "membership_5", "fit_s"),
)


def membership(judge: Judge, cells: ad.AnnData) -> float:
    real = (judge.x[name].toarray() for name in ("train", "test"))
    return sm.metrics.membership_inference(*real, log_normalise(cells.X).toarray()).auc


def guided(judge: Judge, model: sm.ACTIVA, codes: str, by: str, args: argparse.Namespace, seed: int) -> ad.AnnData:
    """As many cells of each type as are wanted, of `FACTOR` times as many, by the ratio that a classifier sees."""
    train = model.adata
    pool = model.generate(labels={name: FACTOR * n for name, n in judge.wanted.items()}, codes=codes, seed=seed)
    sides = [log_normalise(cells.X).toarray() for cells in (train, pool)]
    space, make = GUIDES[by]
    if space == "components":
        pca = PCA(50, random_state=0).fit(np.vstack([sides[0], sides[1][: train.n_obs]]))
        sides = [pca.transform(side) for side in sides]
    kinds = np.concatenate([cells.obs[args.labels].to_numpy().astype(str) for cells in (train, pool)])
    x = np.hstack([np.vstack(sides), kinds[:, None] == np.unique(kinds)])
    is_real = np.arange(len(x)) < train.n_obs
    weight = np.where(is_real, pool.n_obs / train.n_obs, 1.0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    fit = {"cv": folds, "method": "predict_proba", "params": {"sample_weight": weight}}
    p = cross_val_predict(make(), x, is_real, **fit)[~is_real, 1].clip(1e-6, 1 - 1e-6)
    ratio = (p / (1 - p)).clip(1 / LARGEST_RATIO, LARGEST_RATIO)
    rng, chosen = np.random.default_rng(seed), []
    for name, n in judge.wanted.items():
        rows = np.flatnonzero(pool.obs[args.labels].to_numpy().astype(str) == str(name))
        chosen.append(rng.choice(rows, n, replace=False, p=ratio[rows] / ratio[rows].sum()))
    return pool[np.concatenate(chosen)].copy()


class Halves:
    """Two models of half as many epochs each, and half of the cells from each."""

    def __init__(self, train: ad.AnnData, labels_key: str, folder: str, seed: int, epochs: int):
        self.models = [
            trained(train, labels_key, f"{folder}_half{part}", seed + 1000 * part, epochs=epochs // 2)
            for part in (1, 2)
        ]

    def generate(
        self, n: int | None = None, labels: dict[Any, int] | None = None, *, codes: str, seed: int
    ) -> ad.AnnData:
        """Cells of either model."""
        asked = [{"n": part} if n is not None else {"labels": part} for part in self._shares(n, labels)]
        cells = [model.generate(**what, codes=codes, seed=seed) for model, what in zip(self.models, asked, strict=True)]
        return ad.concat(cells)

    def _shares(self, n: int | None, labels: dict[Any, int] | None) -> list[Any]:
        if n is not None:
            return [n - n // 2, n // 2]
        # of an odd number the one more comes from either in turn
        more = {name: (count % 2) * (number % 2) for number, (name, count) in enumerate(labels.items())}
        first = {name: count // 2 + more[name] for name, count in labels.items()}
        return [first, {name: count - first[name] for name, count in labels.items()}]


def measured(
    judge: Judge, model: sm.ACTIVA | Halves, codes: str, args: argparse.Namespace, seed: int, by: str | None = None
) -> dict[str, Any]:
    """Means over the draws."""
    draws, types = [], []
    for draw in range(args.draws):
        if by is None:
            cells = model.generate(labels=judge.wanted, codes=codes, seed=100 * draw + seed)
        else:
            cells = guided(judge, model, codes, by, args, 100 * draw + seed)
        labels = cells.obs[args.labels].to_numpy().astype(str)
        measure = judge.measure(cells.X, labels, seed=seed)
        draws.append({name: measure[name] for name in MEASURES if name in measure})
        types.append(judge.of_types(cells.X, labels, seed=seed))
    of_types = mean_of_each(types)
    found = mean_of_each(draws) | {"types": of_types}
    if of_types:
        found |= {"types_mean": float(np.mean(list(of_types.values()))), "types_worst": max(of_types.values())}
    return found


def complete(
    judge: Judge, model: sm.ACTIVA | Halves, codes: str, args: argparse.Namespace, seed: int, n_train: int
) -> dict[str, Any]:
    """What is measured, with the attacks."""
    found = measured(judge, model, codes, args, seed)
    for name, times in (("membership", 1), ("membership_5", 5)):
        found[name] = membership(judge, model.generate(times * n_train, codes=codes, seed=seed))
    return found


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each source and seed."""
    for seed in args.seed:
        if args.resplit:
            args.split_seed = seed
        parts = load_parts(args)
        judge = Judge(parts, args.labels, n_trees=args.trees, n_jobs=args.jobs)
        folder = str(args.out / f"{Path(args.split_dir or args.data).stem}_seed{seed}")
        train_kwargs: dict[str, Any] = {}
        if args.batch:
            folder = f"{folder}_{args.batch}"
        if args.kl_weight != 1:
            folder, train_kwargs = f"{folder}_kl{args.kl_weight:g}", {"plan_kwargs": {"kl_weight": args.kl_weight}}
        settings = {"epochs": args.epochs, "batch_key": args.batch, "train_kwargs": train_kwargs}
        model = trained(parts["train"], args.labels, folder, seed, **settings)
        n_train = model.adata.n_obs
        for codes in args.codes:
            model.fitted_codes_ = {}
            start = time.perf_counter()
            model.generate(1, codes=codes, seed=seed)
            row = {"codes": codes, "seed": seed, "n_train": n_train, "fit_s": time.perf_counter() - start}
            yield row | complete(judge, model, codes, args, seed, n_train)
            if args.short:
                halves = Halves(parts["train"], args.labels, folder, seed, len(model.history["elbo_train"]))
                row = {"codes": f"{codes}, two short trainings", "seed": seed, "n_train": n_train}
                yield row | complete(judge, halves, codes, args, seed, n_train)
            for by in args.guided:
                yield {"codes": f"{codes}, guided by {by}", "seed": seed} | measured(
                    judge, model, codes, args, seed, by
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--batch", help="column of obs with the batches; default: none is told")
    parser.add_argument("--resplit", action="store_true", help="another split for each seed")
    parser.add_argument("--codes", nargs="+", default=["mixture", "posterior"])
    parser.add_argument("--guided", nargs="*", choices=GUIDES, default=[])
    parser.add_argument("--kl-weight", type=float, default=1.0)
    parser.add_argument("--short", action="store_true", help="also two short trainings")
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
