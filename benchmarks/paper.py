"""The ACTIVA of the paper at its full length, judged as the paper judges, and what its cells lack.

    python benchmarks/paper.py --data pbmc3k.h5ad --labels cell_type --seed 0 1 2 --out out
    python benchmarks/paper.py --data kang.h5ad --labels cell_type --cells 3000 --training paper program --out out

Counts are scaled to 20,000 per cell, without logarithm; networks, losses and 10 + 600 epochs are the paper's ("paper"),
or with the values of the authors' program ("program"). The forest is that of section 4.1: 1,000 trees, Gini impurity,
square root of the genes, five folds, the held-out real cells against as many generated ones, on the scaled values; AUC
is the mean of the folds, as in the paper. Cells are split as in realism.py.

Each training is judged by several views. "prior" and "prior by type" are the paper's inference; "posterior" draws the
codes of training cells. The others change one thing to see what the forest goes by; they have --trees trees. --out
keeps each training, its cells, and a line of results.jsonl for each view; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from _common import append_json, environment, mean_and_spread, read_counts, realism_split, show, write_split
from scipy.sparse.linalg import svds
from scipy.stats import rankdata
from sklearn.model_selection import train_test_split

import scmimic as sm

TARGET_SUM = 20_000
PAPER_TREES = 1000
# "program": what the authors' code has, in our units. It has no factors of 1/2 in equations 2 and 5, one in front of
# the hinges, the cell-type loss summed over the batch of 128, and ReLU and batch norm after the encoder's outputs. The
# adversarial gradient that its generator lacks is here, but does not matter beside errors of squares of some 1e6.
TRAININGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "program": {
        "model": {"encoder_head": "relu_bn"},
        "plan": {"alpha1": 0.5, "alpha2": 0.1, "alpha_cell_type": 128.0, "m": 110.0},
    },
    "paper, lr 2e-3": {"plan": {"lr": 2e-3}},
    # the package's default on the same cells, to see what its noise is worth to the same forest
    "counts": {},
}
COLUMNS = ["training", "view", "auc", "auc_sd", "zeros", "too_small", "spread", "correlation"]


def scaled(counts: ad.AnnData) -> ad.AnnData:
    """Cells as the networks see them."""
    counts = counts.copy()
    counts.layers["counts"] = counts.X.copy()
    total = np.asarray(counts.X.sum(axis=1)).ravel()
    counts.obs["n_counts"] = total
    counts.X = sp.csr_matrix(sp.diags(TARGET_SUM / total) @ counts.X, dtype=np.float32)
    return counts


def fitted(name: str, train: ad.AnnData, labels_key: str, seed: int, epochs: int | None, folder: Path) -> sm.ACTIVA:
    """Train, or load what was trained before."""
    import scvi

    place = folder / f"{name}_seed{seed}"
    train = train.copy()
    if (place / "done.json").exists():
        return sm.ACTIVA.load(str(place), adata=train)
    scvi.settings.seed = seed
    row = TRAININGS[name]
    sm.ACTIVA.setup_anndata(train, labels_key=labels_key, layer="counts" if name == "counts" else None)
    model = sm.ACTIVA(train, gene_likelihood="nb" if name == "counts" else "normal", **row.get("model", {}))
    start = time.perf_counter()
    model.train(max_epochs=epochs, plan_kwargs=row.get("plan"), enable_progress_bar=False)
    seconds = time.perf_counter() - start
    model.save(str(place), overwrite=True)
    (place / "done.json").write_text(json.dumps({"train_s": seconds, "epochs": model.trainer.current_epoch}))
    return model


class Views:
    """Cells of one trained model, as the forest gets them."""

    def __init__(self, model: sm.ACTIVA, parts: dict[str, ad.AnnData], labels_key: str, seed: int) -> None:
        self.model, self.parts, self.seed = model, parts, seed
        self.rng = np.random.default_rng(seed)
        self.labels = {name: part.obs[labels_key].to_numpy().astype(str) for name, part in parts.items()}
        values, counts = np.unique(self.labels["test"], return_counts=True)
        self.wanted = dict(zip(values.tolist(), counts.tolist(), strict=True))
        self.n, self.labels_key = parts["test"].n_obs, labels_key
        self._posterior: ad.AnnData | None = None

    def prior(self) -> np.ndarray:
        return dense(self.model.decode(self._codes(), seed=self.seed).X)

    def prior_train_mode(self) -> np.ndarray:
        decoder = self.model.module.decoder
        before = {name: value.clone() for name, value in decoder.state_dict().items()}
        decoder.train()
        with torch.inference_mode():
            x = decoder(torch.as_tensor(self._codes(), dtype=torch.float32)).numpy()
        decoder.load_state_dict(before)
        decoder.eval()
        return x

    def prior_by_type(self) -> np.ndarray:
        return dense(self.model.generate(labels=self.wanted, codes="prior", seed=self.seed).X)

    def _codes(self) -> np.ndarray:
        return np.random.default_rng(self.seed).normal(size=(self.n, self.model.module.n_latent))

    def from_posterior(self) -> ad.AnnData:
        if self._posterior is None:
            self._posterior = self.model.generate(labels=self.wanted, codes="posterior", seed=self.seed)
        return self._posterior

    def posterior(self) -> np.ndarray:
        return dense(self.from_posterior().X)

    def reconstructed(self) -> np.ndarray:
        return self._reconstruction("test")

    def _reconstruction(self, part: str) -> np.ndarray:
        z = self.model.get_latent_representation(self.parts[part], give_mean=True)
        return dense(self.model.decode(z, seed=self.seed).X)

    def rescaled(self) -> np.ndarray:
        x = self.posterior()
        return x * (TARGET_SUM / x.sum(axis=1, keepdims=True))

    def _rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected counts of the cells from the posterior, and the factors that scale the counts."""
        totals = self.rng.choice(self.parts["train"].obs["n_counts"].to_numpy(), self.n)
        factor = (totals / TARGET_SUM)[:, None]
        return self.rescaled() * factor, factor

    def poisson(self) -> np.ndarray:
        rates, factor = self._rates()
        return refit(self.rng.poisson(rates) / factor)

    def negative_binomial(self) -> np.ndarray:
        rates, factor = self._rates()
        observed, size = (
            dense(self.parts["train"].X),
            self.parts["train"].obs["n_counts"].to_numpy()[:, None] / TARGET_SUM,
        )
        mean, counts = self._reconstruction("train") * size, observed * size
        excess = ((counts - mean) ** 2 - mean).sum(axis=0)
        theta = np.clip((mean**2).sum(axis=0) / np.maximum(excess, 1e-12), 0.05, 1e4)
        return refit(self.rng.poisson(self.rng.gamma(theta, rates / theta)) / factor)

    def margins(self) -> np.ndarray:
        """Every gene's values within a type replaced by those of training cells, in the order that they have."""
        x, kinds = self.posterior(), self.from_posterior().obs[self.labels_key].to_numpy().astype(str)
        new, train = np.empty_like(x), dense(self.parts["train"].X)
        for kind in np.unique(kinds):
            rows, known = kinds == kind, train[self.labels["train"] == kind]
            n = rows.sum()
            noise = self.rng.uniform(0, 1e-6, (n, x.shape[1]))
            ranks = np.argsort(np.argsort(x[rows] + noise, axis=0), axis=0)
            # a random sample's quantiles, not the evenly spaced ones
            levels = np.sort(self.rng.uniform(size=(n, x.shape[1])), axis=0)
            quantiles = np.take_along_axis(np.sort(known, axis=0), (levels * len(known)).astype(int), axis=0)
            new[rows] = np.take_along_axis(quantiles, ranks, axis=0)
        return new


def dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float64)


def refit(x: np.ndarray) -> np.ndarray:
    """Scale cells to the total that all real cells have."""
    return x * (TARGET_SUM / np.maximum(x.sum(axis=1, keepdims=True), 1e-9))


def zeros_alone(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether a value is nearer to none than to the least that the real cells have."""
    least = real[real > 0].min()
    return (real > least / 2).astype(float), (fake > least / 2).astype(float)


def ranks_alone(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each gene's ranks within its side: every margin is the same, what is left is dependence."""
    return tuple(rankdata(x + np.random.default_rng(0).uniform(0, 1e-6, x.shape), axis=0) for x in (real, fake))


def integrated(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical correlation of the two sides, genes scaled within each: the space in which section 3.3 integrates.

    The first step of Stuart et al. (2019): 30 dimensions, of length 1 for each cell.
    """
    real, fake = np.log1p(real), np.log1p(fake)
    sides = [(x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9) for x in (real, fake)]
    u, _, vt = svds(sides[0] @ sides[1].T, k=30, random_state=0)
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, vt.T))
    return u, v


class CountViews(Views):
    """Cells of a model of counts: its means, and what is drawn around them."""

    def counts(self, **options: Any) -> np.ndarray:
        return refit(dense(self.model.generate(labels=self.wanted, codes="posterior", seed=self.seed, **options).X))

    def likelihood(self) -> np.ndarray:
        return self.counts(match_margins=False)

    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        cells = self.from_posterior()
        totals = np.asarray(cells.X.sum(axis=1)).ravel()
        kinds = cells.obs[self.labels_key].astype(str).tolist()
        return self.model.expected_expression(cells.obsm["X_activa"], labels=kinds, library_size=totals), totals

    def means(self) -> np.ndarray:
        return refit(self._expected()[0].astype(float))

    def poisson(self) -> np.ndarray:
        return refit(self.rng.poisson(self._expected()[0]).astype(float))


COUNTS: dict[str, Callable[[Any], np.ndarray]] = {
    "posterior, means alone": CountViews.means,
    "posterior, Poisson counts": CountViews.poisson,
    "posterior, NB counts": CountViews.likelihood,
    "posterior": CountViews.counts,
}
PLAIN: dict[str, Callable[[Any], np.ndarray]] = {
    "prior": Views.prior,
    "prior by type": Views.prior_by_type,
    "posterior": Views.posterior,
    "prior, decoder in train mode": Views.prior_train_mode,
    "test cells, reconstructed": Views.reconstructed,
    "posterior, scaled to 20,000": Views.rescaled,
    "posterior, Poisson counts": Views.poisson,
    "posterior, NB counts": Views.negative_binomial,
    "posterior, margins of training cells": Views.margins,
}
CHANGED: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]] = {
    "posterior, zero or not": ("posterior", zeros_alone),
    "posterior, ranks": ("posterior", ranks_alone),
    "prior, canonical correlation": ("prior", integrated),
    "posterior, canonical correlation": ("posterior", integrated),
}
IN_THE_PAPER = ("real replicate", "prior", "prior by type", "posterior")
REPLICATES = {"real replicate": None, "real replicate, canonical correlation": integrated}


def looks(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """What tells the two sides apart at first sight.

    Shares of zeros, and of values between none and the least that real cells have; median over genes of the standard
    deviation over that of real cells; mean absolute correlation of the hundred highest genes.
    """
    least = real[real > 0].min()
    spread = fake.std(axis=0) / np.maximum(real.std(axis=0), 1e-9)
    measured = {"zeros": (fake == 0).mean(), "too_small": ((fake > 0) & (fake < 0.99 * least)).mean()}
    measured["spread"], highest = float(np.median(spread)), np.argsort(-real.mean(axis=0))[:100]
    off = ~np.eye(len(highest), dtype=bool)
    for name, x in (("correlation", fake), ("correlation_real", real)):
        measured[name] = float(np.abs(np.nan_to_num(np.corrcoef(x[:, highest].T))[off]).mean())
    return measured


def forest(real: np.ndarray, fake: np.ndarray, *, trees: int, seed: int) -> dict[str, Any]:
    """The forest of section 4.1."""
    result = sm.metrics.discriminator_auc(real, fake, n_trees=trees, seed=seed, return_folds=True)
    return {"auc": result.mean, "auc_sd": result.sd, "n": min(len(real), len(fake)), "trees": trees}


def view(name: str, views: Views, test: np.ndarray, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    trees = PAPER_TREES if name in IN_THE_PAPER else args.trees
    start, change = CHANGED.get(name, (name, None))
    try:
        fake = (COUNTS if isinstance(views, CountViews) else PLAIN)[start](views)
    except (ValueError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if change is not None:
        return forest(*change(test, fake), trees=trees, seed=seed)
    return forest(test, fake, trees=trees, seed=seed) | looks(test, fake)


def replicate(name: str, test: np.ndarray, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Two halves of the test cells."""
    trees, change = PAPER_TREES if name in IN_THE_PAPER else args.trees, REPLICATES[name]
    order = np.random.default_rng(seed).permutation(len(test))
    half, other = test[order[::2]], test[order[1::2]]
    if change is not None:
        return forest(*change(half, other), trees=trees, seed=seed)
    return forest(half, other, trees=trees, seed=seed) | looks(half, other)


def explained(views: Views) -> dict[str, float]:
    """Share of the variance of test cells, all genes together, that their reconstructions explain.

    With batch norm by the statistics of training, as everywhere else, and by those of each batch of 128.
    """
    x, module = dense(views.parts["test"].X), views.model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    with torch.inference_mode():
        batches = torch.as_tensor(x, dtype=torch.float32).split(128)
        found = [module.decoder(module.inference(batch, torch.zeros(len(batch), 1))["qz_mean"]) for batch in batches]
    module.load_state_dict(before)
    module.eval()
    sides = {"explained": views.reconstructed(), "explained_by_batch": torch.cat(found).numpy()}
    return {name: float(1 - ((x - y) ** 2).mean(axis=0).sum() / x.var(axis=0).sum()) for name, y in sides.items()}


def load(args: argparse.Namespace) -> dict[str, ad.AnnData]:
    adata = read_counts(args.data, args.labels)
    if args.cells:
        keep, _ = train_test_split(
            np.arange(adata.n_obs), train_size=args.cells, stratify=adata.obs[args.labels], random_state=0
        )
        adata = adata[np.sort(keep)].copy()
    parts = realism_split(adata, args.labels, n_genes=args.genes)
    write_split(parts, args.out)
    return {name: scaled(part) for name, part in parts.items()}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    parts = load(args)
    test, path = dense(parts["test"].X), args.out / "results.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    about = {"data": Path(args.data).name, "cells": args.cells, "genes": args.genes, "epochs": args.epochs}
    found = [row for row in found if all(row.get(key) == value for key, value in about.items())]
    done = {(row["training"], row["view"], row["seed"]) for row in found}

    def keep(row: dict[str, Any]) -> None:
        found.append(row | about)
        append_json(path, [found[-1] | {"environment": environment()}])

    for seed in args.seed:
        for name in REPLICATES:
            if ("-", name, seed) not in done:
                keep({"training": "-", "view": name, "seed": seed} | replicate(name, test, args, seed))
        for training in args.training:
            known = [*COUNTS] if training == "counts" else [*PLAIN, *CHANGED]
            asked = [name for name in known if args.views is None or name in args.views]
            todo = [name for name in asked if (training, name, seed) not in done]
            if not todo:
                continue
            model = fitted(training, parts["train"], args.labels, seed, args.epochs, args.out)
            views = (CountViews if training == "counts" else Views)(model, parts, args.labels, seed)
            share = {} if training == "counts" else explained(views)
            for name in todo:
                keep({"training": training, "view": name, "seed": seed} | view(name, views, test, args, seed) | share)
                show(found[-1:], [*COLUMNS, "seed", "error"], args.data)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="h5ad file with raw counts in X")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--cells", type=int, help="take so many cells, by type; default: all")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--training", nargs="+", choices=TRAININGS, default=["paper"])
    parser.add_argument("--views", nargs="+", choices=[*PLAIN, *CHANGED, *COUNTS], help="judge these alone")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of training, generation and forest")
    parser.add_argument("--epochs", type=int, help="default: the paper's 610")
    parser.add_argument("--trees", type=int, default=300, help="of the views that are not the paper's")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = run(args)
    measures = ("auc", "zeros", "too_small", "spread", "correlation", "explained", "explained_by_batch")
    table = mean_and_spread(rows, ("training", "view"), measures)
    show(table, ["training", "view", "seeds", *measures], f"{args.data}, {args.labels}")


if __name__ == "__main__":
    main()
