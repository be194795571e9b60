"""Does latent arithmetic predict cell types under a condition that they were never seen under?

    python benchmarks/arithmetic.py --data kang.h5ad --groups cell_type --conditions condition \\
        --control control --out out
    python benchmarks/arithmetic.py ... --targets "B" "NK cells" --models ACTIVA --train-kwargs '{"max_epochs": 100}'
    python benchmarks/arithmetic.py --data donors.h5ad --groups cell_type --conditions donor --batch --out out
    python benchmarks/arithmetic.py ... --pair A549 S1628 --pair K562 S1096 --pair MCF7 S7259 --together --shift group

Each group's cells under each other condition are held out in turn, or the pairs that are named, one by one or together
as in section 3.5; models are fitted without them, and their predictions compared with the real cells, beside control
cells, mean shifts and linear model. "ACTIVA, told" knows groups and conditions and is asked for the combination, with
the means that other groups foretell or those of its decoder alone; other models move codes. ACTIVA sees counts; VAE
(arithmetic as in scGen), BetaTCVAE and MichiGAN on that BetaTCVAE's codes see and give log expression, counts scaled to
10,000 and log1p'd; "MichiGAN, counts" draws counts from the same codes. All cells are compared after scaling to 10,000
and log1p. Genes are chosen without the held-out cells.
With two kinds of shift both are asked of the same models. MichiGAN's seconds are those of the GAN alone where BetaTCVAE
was fitted before it. --out gets a line of results.jsonl for each row as soon as it is done, and at the end results.csv
and tests_SHIFT.csv. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scvi
from _common import (
    append_json,
    environment,
    gene_scores,
    json_object,
    log_normalise,
    mean_and_spread,
    read_counts,
    show,
)

import scmimic as sm
from scmimic.tl._holdout_arithmetic import compare_methods

LOG, COUNTS = "log", "counts"
QUIET = {"enable_progress_bar": False}
MEASURES = ["rf_error", "r2", "r2_de", "correlation_change", "delta_entropy", "trust", "seconds"]


def fitting(model_class: Any, setup: dict, model_kwargs: dict, train_kwargs: dict) -> Callable[[Any, int], Any]:
    """Set up, seed and train a model."""

    def fit(train: Any, seed: int) -> Any:
        scvi.settings.seed = seed
        model_class.setup_anndata(train, **setup)
        model = model_class(train, **model_kwargs)
        model.train(**QUIET | train_kwargs)
        return model

    return fit


def activa(labels_key: str, model_kwargs: dict, train_kwargs: dict) -> Callable[[Any, int], Any]:
    """Fit an ACTIVA with the groups as its types."""
    return fitting(sm.ACTIVA, {"labels_key": labels_key}, model_kwargs, train_kwargs)


def told(args: argparse.Namespace) -> Callable[[Any, int], Any]:
    """Fit an ACTIVA that is told groups and conditions, and is asked for the combination itself."""
    key = {"batch_key": args.conditions} if args.batch else {"categorical_covariate_keys": [args.conditions]}
    setup = {"labels_key": args.groups} | key
    return fitting(sm.ACTIVA, setup, args.model_kwargs, args.train_kwargs)


def decoder_alone(fit: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """The same model, but the means of combinations without cells are its decoder's."""

    def without(train: Any, seed: int) -> Any:
        model = copy.copy(fit(train, seed))
        model.means_ = None
        return model

    return without


def shared(fit: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Train once for all models that start from the same cells and seed."""
    known: dict[tuple, Any] = {}

    def once(train: Any, seed: int) -> Any:
        key = (seed, *train.obs_names, *train.var_names)
        if key not in known:
            known.clear()
            known[key] = fit(train, seed)
        return known[key]

    return once


def beta_tcvae(model_kwargs: dict, train_kwargs: dict) -> Callable[[Any, int], Any]:
    """Fit a BetaTCVAE to log expression."""
    return fitting(sm.BetaTCVAE, {"layer": LOG}, model_kwargs, train_kwargs)


def michigan(
    representation: Callable[[Any, int], Any], train_kwargs: dict, layer: str | None = None
) -> Callable[[Any, int], Any]:
    """Fit a MichiGAN to samples of a representation's codes, and to its layer or the one named."""

    def fit(train: Any, seed: int) -> Any:
        codes = representation(train, seed)
        scvi.settings.seed = seed
        model = sm.MichiGAN.from_representation(codes, layer=layer)
        model.train(**QUIET | train_kwargs)
        return model

    return fit


def models(args: argparse.Namespace) -> dict[str, Callable[[Any, int], Any]]:
    """Name to fit. ACTIVA gives a group's average back with its label; without a baseline the code alone decides."""
    codes = shared(beta_tcvae(args.model_kwargs, args.train_kwargs))
    both = shared(told(args))
    return {
        "ACTIVA, told": both,
        "ACTIVA, told, decoder alone": decoder_alone(both),
        "ACTIVA": activa(args.groups, args.model_kwargs, args.train_kwargs),
        "ACTIVA, no baseline": activa(args.groups, {"label_baseline": 0.0} | args.model_kwargs, args.train_kwargs),
        "VAE": beta_tcvae({"beta": 0.0} | args.model_kwargs, args.train_kwargs),
        "BetaTCVAE": codes,
        "MichiGAN": michigan(codes, args.train_kwargs | args.gan_kwargs),
        "MichiGAN, counts": michigan(codes, args.train_kwargs | args.gan_kwargs, COUNTS),
    }


def choose_genes(adata: Any, held: np.ndarray, n: int) -> Any:
    genes = np.sort(np.argsort(-gene_scores(adata.X[~held]))[:n])
    chosen = adata[:, genes].copy()
    chosen = chosen[np.asarray(chosen.X.sum(axis=1)).ravel() > 0].copy()
    chosen.layers[LOG] = log_normalise(chosen.X).astype(np.float32)
    chosen.layers[COUNTS] = chosen.X.copy()
    return chosen


def run(args: argparse.Namespace) -> pd.DataFrame:
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    adata = read_counts(args.data, args.groups)
    adata.obs[args.conditions] = adata.obs[args.conditions].astype(str)
    known = models(args)
    # both shifts ask the same models
    fits = {name: shared(known[name]) for name in args.models or known}
    groups = args.targets or sorted(adata.obs[args.groups].unique())
    conditions = sorted(set(adata.obs[args.conditions]) - set(args.control))
    about = {"data": Path(args.data).name, "genes": args.genes, "trees": args.trees, "models": list(fits)}
    about |= {
        name: getattr(args, name)
        for name in ("model_kwargs", "train_kwargs", "gan_kwargs", "together", "reference_weights", "batch")
    }
    path = out / "results.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    # another choice of models, or other settings, are another run
    found = [row for row in found if all(row.get(key) == value for key, value in about.items())]
    done = {(row["group"], row["condition"], row["seed"], row["shift"]) for row in found}
    pairs = args.pair or [(group, condition) for group in groups for condition in conditions]
    pairs = [tuple(pair) for pair in pairs]
    for seed in args.seed:
        for targets in [pairs] if args.together else [[pair] for pair in pairs]:
            cells = zip(adata.obs[args.groups], adata.obs[args.conditions], strict=True)
            held = np.array([pair in targets for pair in cells])
            for shift in args.shift:
                if all((*pair, seed, shift) in done for pair in targets):
                    continue
                table = sm.tl.holdout_arithmetic(
                    choose_genes(adata, held, args.genes),
                    group_key=args.groups,
                    condition_key=args.conditions,
                    fit=fits,
                    targets=targets,
                    together=args.together,
                    control=args.control or None,
                    shift=shift,
                    reference_weights=args.reference_weights,
                    layers=[LOG, COUNTS],
                    n_cells=args.cells,
                    n_trees=args.trees,
                    seeds=[seed],
                )
                rows = [row | {"shift": shift} for row in table.to_dict("records")]
                append_json(path, [row | about | {"environment": environment()} for row in rows])
                found += rows
                if args.verbose:
                    shown = ["group", "condition", "method", "n_real", *MEASURES, "error"]
                    show(rows, shown, f"seed {seed}, shift of {shift}s")
    columns = ["group", "condition", "seed", "shift", "method", "n_real", "n_predicted", *MEASURES, "error"]
    table = pd.DataFrame(found)[columns]
    table.to_csv(out / "results.csv", index=False)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--groups", required=True, help="column of obs with the groups, such as cell types")
    parser.add_argument("--conditions", required=True, help="column of obs with the conditions")
    parser.add_argument("--control", nargs="+", default=[], help="conditions that predictions start from; default: all")
    parser.add_argument("--targets", nargs="+", help="groups to hold out; default: each in turn")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("GROUP", "CONDITION"), help="hold out this one")
    parser.add_argument("--together", action="store_true", help="hold out all of them at once")
    parser.add_argument("--batch", action="store_true", help="tell ACTIVA the conditions as batches, such as donors")
    parser.add_argument("--shift", nargs="+", choices=("condition", "group"), default=["condition"], help="one or both")
    parser.add_argument("--reference-weights", choices=("similar", "equal"), default="similar")
    parser.add_argument("--models", nargs="+", help="names of the models to fit; default: all")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--cells", type=int, default=1000, help="largest number of cells of a side that are compared")
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--verbose", action="store_true", help="show each combination as soon as it is measured")
    for option, what in {"model": "the models", "train": "all trainings", "gan": "MichiGAN's, beside those"}.items():
        parser.add_argument(f"--{option}-kwargs", type=json_object, default={}, help=f"JSON object, for {what}")
    args = parser.parse_args()
    if args.verbose:
        logging.getLogger("scmimic").setLevel(logging.INFO)
    whole = run(args)
    for shift, table in whole.groupby("shift", sort=False):
        tests = compare_methods(table)
        tests.to_csv(Path(args.out) / f"tests_{shift}.csv", index=False)
        rows = mean_and_spread(table.to_dict("records"), ["method"], MEASURES)
        about = f"{args.data}, shift of {shift}s"
        show(rows, ["method", "seeds", *MEASURES], f"{about}: mean over held-out combinations and seeds")
        show(tests.to_dict("records"), list(tests.columns), f"{about}: gain in RF error")


if __name__ == "__main__":
    main()
