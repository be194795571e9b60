"""Does latent arithmetic depend on the seed of the training, and is its trust worth anything?

    python benchmarks/arithmetic_seeds.py --data kang.h5ad --groups cell_type --conditions condition \\
        --control control --condition stimulated --target "CD4+ T cells" --out out
    python benchmarks/arithmetic_seeds.py ... --models BetaTCVAE MichiGAN --models-dir trained

Plain use, in scanpy's order: cells scaled to 10,000, log1p, 1,000 highly variable genes of all cells; a model with its
defaults, trained without one group under the condition; and `sm.tl.latent_arithmetic` with its defaults, and with all
reference groups counting alike. Means over genes are compared with those of the real cells, beside control cells and
mean shifts. "foretold" is the share of the squared change from the control cells that is foretold: what `trust` says
beforehand. --out gets a line of results.jsonl for each row as soon as it is done. A run that was stopped goes on where
it was. With --models-dir trained models are kept there, and taken from there where they are.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _common import append_json, environment, json_object, mean_and_spread, read_counts, show
from sklearn.metrics import r2_score

import scmimic as sm
from scmimic.tl._combinations import Combinations
from scmimic.tl._gene_means import trivial_means
from scmimic.tl._similarity import Weighting
from scmimic.tl.holdout._trial import (
    CONTROL,
    MEAN_SHIFT,
    SIMILAR_SHIFT,
    HoldoutScores,
    HoldoutTrial,
    TrainingAxes,
    changed_genes,
)

QUIET = {"enable_progress_bar": False}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "BetaTCVAE": (sm.BetaTCVAE, {}),
    "BetaTCVAE, start='pca'": (sm.BetaTCVAE, {"start": "pca"}),
    "VAE": (sm.BetaTCVAE, {"beta": 0.0}),
    # on the codes of that BetaTCVAE
    "MichiGAN": (sm.MichiGAN, {}),
}
WEIGHTS = ("equal", "similar")
MEASURES = [
    "rf_error",
    "r2",
    "pearson2",
    "r2_de",
    "foretold",
    "trust",
    "trust_decoded",
    "trust_mean_shift",
    "delta_entropy",
]


class Listener(logging.Handler):
    """Remembers the warnings of one call."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def plain_cells(args: argparse.Namespace) -> Any:
    adata = read_counts(args.data, args.groups)
    adata.obs = adata.obs[[args.groups, args.conditions]].astype(str)
    adata.uns.clear()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=args.genes)
    return adata[:, adata.var["highly_variable"].to_numpy()].copy()


def trained(name: str, seen: Any, target: str, seed: int, args: argparse.Namespace) -> Any:
    model_class, kwargs = MODELS[name]
    folder = None if args.models_dir is None else Path(args.models_dir) / f"{name}-{target}-{seed}".replace(" ", "_")
    if folder is not None and folder.exists():
        return model_class.load(folder, adata=seen)
    codes = trained("BetaTCVAE", seen, target, seed, args) if model_class is sm.MichiGAN else None
    scvi.settings.seed = seed
    if codes is None:
        model_class.setup_anndata(seen)
        model = model_class(seen, **kwargs)
    else:
        model = model_class.from_representation(codes)
    model.train(**QUIET | args.train_kwargs)
    if folder is not None:
        model.save(folder)
    return model


def measured(real: np.ndarray, predicted: np.ndarray, control: np.ndarray, top: np.ndarray) -> dict[str, float]:
    return {
        "r2": r2_score(real, predicted),
        "pearson2": np.corrcoef(real, predicted)[0, 1] ** 2,
        "r2_de": r2_score(real[top], predicted[top]),
        "foretold": 1 - np.mean((predicted - real) ** 2) / np.mean((control - real) ** 2),
    }


def of_target(cells: Any, target: str, done: set, args: argparse.Namespace) -> list[dict[str, Any]]:
    held = ((cells.obs[args.groups] == target) & (cells.obs[args.conditions] == args.condition)).to_numpy()
    seen, pair = cells[~held].copy(), (target, args.condition)
    combinations = Combinations(seen, args.groups, args.conditions)
    routes = combinations.routes(pair, args.control)
    means, start = combinations.means(seen.X), combinations.rows[routes[0].start]
    real, control = np.asarray(cells.X[held].mean(axis=0)).ravel(), means[routes[0].start]
    top = changed_genes(seen.X[start], cells.X[held], 100)
    rows = []
    judge = None
    if args.trees:
        some = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(held))[: args.cells])
        trial = HoldoutTrial(seen.X, combinations, pair, routes, cells.X[some])
        judge = HoldoutScores(
            trial, TrainingAxes(seen.X, 0), n_top_genes=100, n_trees=args.trees, n_cells=args.cells, seed=0
        )

    def forest(predicted: Any) -> dict[str, float]:
        return {} if judge is None else {"rf_error": judge(predicted)["rf_error"]}

    def add(method: str, weights: str, seed: int, found: dict[str, Any]) -> None:
        row = {"target": target, "method": method, "weights": weights, "seed": seed, **found, "genes": args.genes}
        append_json(Path(args.out) / "results.jsonl", [row | {"environment": environment()}])
        rows.append(row)

    listener = Listener()
    logging.getLogger("scmimic").addHandler(listener)
    for weights in WEIGHTS:
        trivial = trivial_means(means, Weighting.of(weights, routes, "condition", means)(routes))
        for method, name in {CONTROL: "control", MEAN_SHIFT: "mean_shift"}.items():
            if (target, method, weights, 0) not in done and (weights, name) != ("similar", "control"):
                rival = SIMILAR_SHIFT if (weights, method) == ("similar", MEAN_SHIFT) else method
                found = forest(trial.rival(rival, args.cells, np.random.default_rng(1))) if judge else {}
                add(method, weights, 0, measured(real, trivial[name], control, top) | found)
    for name in args.models:
        for seed in args.seed:
            if all((target, name, weights, seed) in done for weights in WEIGHTS):
                continue
            model = trained(name, seen, target, seed, args)
            for weights in WEIGHTS:
                listener.said.clear()
                new = sm.tl.latent_arithmetic(
                    seen,
                    model,
                    group_key=args.groups,
                    condition_key=args.conditions,
                    target=pair,
                    control=args.control,
                    reference_weights=weights,
                    seed=seed,
                )
                record = new.uns["latent_arithmetic"]
                said = {name: record[name] for name in MEASURES if name in record}
                about = {"power": record["reference_power"], "warning": " ".join(listener.said)}
                predicted = np.asarray(new.X.mean(axis=0)).ravel()
                add(name, weights, seed, measured(real, predicted, control, top) | said | about | forest(new.X))
    logging.getLogger("scmimic").removeHandler(listener)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--groups", required=True, help="column of obs with the groups, such as cell types")
    parser.add_argument("--conditions", required=True, help="column of obs with the conditions")
    parser.add_argument("--control", required=True, help="condition that predictions start from")
    parser.add_argument("--condition", required=True, help="condition to predict")
    parser.add_argument("--target", nargs="+", help="groups to hold out, each in turn; default: all")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=["BetaTCVAE", "BetaTCVAE, start='pca'"])
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--trees", type=int, default=0, help="trees of the forest of rf_error; 0: none")
    parser.add_argument("--cells", type=int, default=1000, help="largest number of cells of a side for the forest")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--train-kwargs", type=json_object, default={}, help="JSON object, for all trainings")
    parser.add_argument("--models-dir", help="folder of trained models")
    parser.add_argument("--out", required=True, help="folder for the results")
    args = parser.parse_args()
    cells = plain_cells(args)
    path = Path(args.out) / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [row for row in rows if row["genes"] == args.genes]
    done = {(row["target"], row["method"], row["weights"], row["seed"]) for row in rows}
    for target in args.target or sorted(cells.obs[args.groups].unique()):
        rows += of_target(cells, target, done, args)
    show(rows, ["target", "method", "weights", "seed", *MEASURES, "warning"], "each training")
    shown = ["target", "method", "weights", "seeds", *MEASURES]
    show(mean_and_spread(rows, ["target", "method", "weights"], MEASURES), shown, "mean over seeds")
    table = pd.DataFrame(rows)
    if "trust" not in table:
        return
    for (method, weights), part in table.dropna(subset=["trust"]).groupby(["method", "weights"]):
        said = part[["trust", "trust_decoded"]].sub(part["foretold"], axis=0)
        about = {"method": method, "weights": weights, "trainings": len(part)}
        about |= {f"{name} less what came": f"{said[name].mean():.2f} ± {said[name].std():.2f}" for name in said}
        about["Spearman of trust"] = f"{part['trust'].corr(part['foretold'], method='spearman'):.2f}"
        show([about], list(about), "what was said beforehand")


if __name__ == "__main__":
    main()
