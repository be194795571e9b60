"""Simple predictions of perturbations, measured as the Virtual Cell Challenge 2026 does (sm.tl.evaluate_perturbation).

The real cells are halved: one half is the reference, the predictions are made of the other. Without --types every
perturbation of a screen is predicted; with --types each cell type is a context with one condition, and what stands at 0
is the mean shift learned in the other types.

    python benchmarks/perturbation.py --data papalexi.h5ad --perturbations perturbation --control non-targeting \
        --out out
    python benchmarks/perturbation.py --data kang.h5ad --perturbations condition --control control --types cell_type \
        --genes 2000 --models ACTIVA --out out

With --models each type is also predicted by models that were trained without its treated cells: an ACTIVA of counts
that is told types and conditions, or latent arithmetic in a BetaTCVAE of counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
from _common import append_json, environment, gene_scores, json_object, mean_and_spread, read_counts, show

import scmimic as sm

CONTROL, SHIFT, HALF = "control cells", "mean shift", "real half"
_CPM = 1e6


def halves(adata: ad.AnnData, groups: np.ndarray, rng: np.random.Generator) -> tuple[ad.AnnData, ad.AnnData]:
    """Two halves of the cells of each group."""
    first = np.zeros(adata.n_obs, dtype=bool)
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        first[rows[: len(rows) // 2]] = True
    return adata[first].copy(), adata[~first].copy()


def per_million(x: sp.csr_matrix) -> np.ndarray:
    """Mean counts per million of each gene."""
    total = np.asarray(x.sum(axis=1)).ravel()
    return np.asarray((sp.diags(_CPM / np.maximum(total, 1)) @ x).mean(axis=0)).ravel()


def change(treated: sp.csr_matrix, control: sp.csr_matrix) -> np.ndarray:
    """Log ratio of each gene's mean, one count per million added on both sides."""
    return np.log(per_million(treated) + 1) - np.log(per_million(control) + 1)


def moved(x: sp.csr_matrix, shift: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts times a factor for each gene, rounded up or down at random so that means are right."""
    x = sp.csr_matrix(x, dtype=np.float64, copy=True)
    values = x.data * np.exp(shift)[x.indices]
    low = np.floor(values)
    x.data = low + (rng.random(len(values)) < values - low)
    x.eliminate_zeros()
    return x.astype(np.float32)


def drawn(pool: sp.csr_matrix, n: int, rng: np.random.Generator) -> sp.csr_matrix:
    return sp.csr_matrix(pool[rng.integers(pool.shape[0], size=n)])


def assemble(blocks: list[sp.csr_matrix], obs: list[pd.DataFrame], like: ad.AnnData) -> ad.AnnData:
    table = pd.concat(obs, ignore_index=True)
    table.index = [str(i) for i in range(len(table))]
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=table, var=like.var[[]])


def screen_predictions(half: ad.AnnData, key: str, control: str, rng: np.random.Generator) -> dict[str, ad.AnnData]:
    """Of each perturbation: control cells, and these moved by the mean change of all others."""
    names = half.obs[key].to_numpy().astype(str)
    pool = half.X[names == control]
    others = [name for name in np.unique(names) if name != control]
    changes = {name: change(half.X[names == name], pool) for name in others}
    blocks: dict[str, list] = {CONTROL: [], SHIFT: []}
    obs = []
    for name in others:
        n = int((names == name).sum())
        shift = np.mean([changes[other] for other in others if other != name], axis=0)
        blocks[CONTROL].append(drawn(pool, n, rng))
        blocks[SHIFT].append(moved(drawn(pool, n, rng), shift, rng))
        obs.append(pd.DataFrame({key: [name] * n}))
    return {method: assemble(parts, obs, half) for method, parts in blocks.items()} | {HALF: half}


def type_predictions(
    half: ad.AnnData, key: str, control: str, types: str, rng: np.random.Generator
) -> dict[str, ad.AnnData]:
    """Of each type: its control cells, and these moved by the mean change in the other types."""
    label, condition = half.obs[types].to_numpy().astype(str), half.obs[key].to_numpy().astype(str)
    treated = condition != control
    names = np.unique(label)
    pools = {name: half.X[(label == name) & ~treated] for name in names}
    changes = {name: change(half.X[(label == name) & treated], pools[name]) for name in names}
    blocks: dict[str, list] = {CONTROL: [], SHIFT: []}
    obs = []
    for name in names:
        rows = (label == name) & treated
        n = int(rows.sum())
        shift = np.mean([changes[other] for other in names if other != name], axis=0)
        blocks[CONTROL].append(drawn(pools[name], n, rng))
        blocks[SHIFT].append(moved(drawn(pools[name], n, rng), shift, rng))
        obs.append(half.obs.loc[rows, [types, key]])
    return {method: assemble(parts, obs, half) for method, parts in blocks.items()} | {HALF: half}


def told(half: ad.AnnData, target: str, args: argparse.Namespace, seed: int) -> ad.AnnData:
    """As many cells as there are, from an ACTIVA that has not seen the target's treated cells."""
    key, types = args.perturbations, args.types
    is_held = held_out(half, target, args)
    train = half[~is_held].copy()
    condition = half.obs[key][is_held].iloc[0]
    scvi.settings.seed = seed
    sm.ACTIVA.setup_anndata(train, labels_key=types, categorical_covariate_keys=[key])
    model = sm.ACTIVA(train)
    model.train(args.epochs, enable_progress_bar=False)
    return model.generate(int(is_held.sum()), target, covariates={key: condition}, seed=seed)


def arithmetic(half: ad.AnnData, target: str, args: argparse.Namespace, seed: int) -> ad.AnnData:
    """Latent arithmetic in a BetaTCVAE of counts that has not seen the target's treated cells."""
    key, types = args.perturbations, args.types
    is_held = held_out(half, target, args)
    train, condition = half[~is_held].copy(), half.obs[key][is_held].iloc[0]
    scvi.settings.seed = seed
    sm.BetaTCVAE.setup_anndata(train)
    model = sm.BetaTCVAE(train, gene_likelihood="nb")
    model.train(args.epochs, enable_progress_bar=False)
    about = {"group_key": types, "condition_key": key, "target": (target, condition), "control": args.control}
    predicted = sm.tl.latent_arithmetic(train, model, **about, seed=seed)
    predicted.obs[types], predicted.obs[key] = target, condition
    return predicted


def held_out(half: ad.AnnData, target: str, args: argparse.Namespace) -> np.ndarray:
    """Which cells are the treated ones of the target."""
    return ((half.obs[args.types] == target) & (half.obs[args.perturbations] != args.control)).to_numpy()


MODELS = {"ACTIVA": told, "latent arithmetic": arithmetic}


def part(cells: ad.AnnData, types: str, kept: list[str]) -> ad.AnnData:
    return cells[cells.obs[types].isin(kept).to_numpy()].copy()


def run(args: argparse.Namespace) -> list[dict]:
    out = Path(args.out)
    adata = read_counts(args.data, args.types or args.perturbations)
    adata.obs[args.perturbations] = adata.obs[args.perturbations].astype(str)
    keys = [args.perturbations] + ([args.types] if args.types else [])
    groups = adata.obs[keys].agg("|".join, axis=1).to_numpy()
    if args.genes:
        adata = adata[:, np.sort(np.argsort(-gene_scores(adata.X))[: args.genes])].copy()
        full = np.asarray(adata.X.sum(axis=1)).ravel() > 0
        adata, groups = adata[full].copy(), groups[full]
    rows = []
    for seed in args.seed:
        rng = np.random.default_rng(seed)
        reference, other = halves(adata, groups, rng)
        tool = {"perturbation_key": args.perturbations, "control": args.control, "seed": seed, "changes": args.changes}
        evaluate: Callable[..., pd.DataFrame] = sm.tl.evaluate_perturbation
        if not args.types:
            predicted = screen_predictions(other, args.perturbations, args.control, rng)
            table = evaluate(reference, predicted, baseline=args.baseline, **tool)
        else:
            predicted = type_predictions(other, args.perturbations, args.control, args.types, rng)
            if args.only:
                predicted = {name: part(cells, args.types, args.only) for name, cells in predicted.items()}
                reference = part(reference, args.types, args.only)
            for name in args.models:
                made = [MODELS[name](other, target, args, seed) for target in reference.obs[args.types].unique()]
                predicted[name] = ad.concat(made, index_unique="-")
            table = evaluate(reference, predicted, context_key=args.types, baseline=predicted[SHIFT], **tool)
        changed = reference.uns["evaluate_perturbation"]["changed"]
        found = [row | {"seed": seed} for row in table.to_dict("records")]
        about = {
            "data": Path(args.data).name,
            "genes": adata.n_vars,
            "arm": args.baseline,
            "changed": changed,
            "environment": environment(),
        }
        append_json(out / "perturbation.jsonl", [row | about for row in found])
        rows += found
        show(found, ["context", "method", "metric", "score", "value", "baseline", "replicate", "note"], f"seed {seed}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--perturbations", required=True, help="column of obs with the perturbations or conditions")
    parser.add_argument("--control", required=True, help="its value for control cells")
    parser.add_argument("--types", help="column of obs with the cell types, each a context of its own")
    parser.add_argument("--only", nargs="+", help="measure these types; the mean shift is learned in all others")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=[], help="train these for each type, and measure"
    )
    parser.add_argument("--epochs", type=int, help="of the models; default: theirs")
    parser.add_argument("--baseline", choices=("tile", "dispersed"), default="tile", help="of a screen")
    parser.add_argument("--changes", type=json_object, default={}, help="JSON object of settings of the preset")
    parser.add_argument("--genes", type=int, help="keep the most variable genes; default: all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", required=True, help="folder for the results")
    rows = run(parser.parse_args())
    overall = [row for row in rows if row["context"] == "overall"]
    measures = ["score", "value", "baseline", "replicate", "n_perturbations"]
    table = mean_and_spread(overall, ("metric", "method"), measures)
    show(table, ["metric", "method", "seeds", *measures], "over the seeds")


if __name__ == "__main__":
    main()
