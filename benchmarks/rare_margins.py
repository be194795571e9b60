"""Does the map to the gene margins of training cells help a type of few cells? Judged on cells that nothing has seen.

    python benchmarks/rare_margins.py --set nb bursts --out out
    python benchmarks/rare_margins.py --set kang --data kang2018_pbmc_ifnb.h5ad --labels cell_type --out out

One data set holds types of 5, 12, 30, 100 and 600 training cells beside larger ones, and 600 further cells of each of
them. ACTIVA is trained once; its cells are then drawn without a map, with the map, and with the map at other weights
of the training cells. Measured against the further cells: the mean over genes of the Kolmogorov-Smirnov distance, the
AUC of a forest, the spread of the logarithm of the totals, and the slope of the gene-gene correlations on the real
ones. --out keeps the models and a line of rare_margins.jsonl per drawn type; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _common import append_json, environment, gene_scores, log_normalise, mean_and_spread, read_counts, show

import scmimic as sm
from scmimic.model.generation.calibration import _calibration as calibration
from scmimic.model.generation.calibration import _margins as margins

SIZES = (5, 12, 30, 100, 600)
HELD_OUT = 600
N_DRAWN = 2_000
LABELS = "cell_type"
MEASURES = ("ks", "auc", "log_total_sd", "log_total_sd_real", "correlation_slope", "weight")


def simulate(law: str, seed: int, n_genes: int = 120) -> ad.AnnData:
    """Types with two shared programs and library sizes; counts are negative binomial, or bursts of a gene that is off
    in a part of the cells."""
    rng = np.random.default_rng([seed, 7])
    base = np.exp(rng.normal(-0.5, 1.4, n_genes))
    loadings = rng.normal(0, 0.35, (2, n_genes))
    theta = np.exp(rng.normal(0.7, 0.7, n_genes))
    off, spread = rng.beta(1, 4, n_genes), rng.uniform(0.4, 1.1, n_genes)
    counts, obs = [], []
    for number, n_train in enumerate((*SIZES, 1500)):
        mean = base * np.exp(rng.normal(0, 0.6, n_genes) * (rng.random(n_genes) < 0.5))
        n = n_train + HELD_OUT
        library = np.exp(rng.normal(0, 0.4, n))[:, None]
        rate = library * mean * np.exp(rng.normal(size=(n, 2)) @ loadings - 0.5 * (loadings**2).sum(0))
        if law == "nb":
            rate = rate * rng.gamma(theta, 1 / theta, rate.shape)
        else:
            rate = rate * np.exp(rng.normal(size=rate.shape) * spread - spread**2 / 2)
            rate = rate * (rng.random(rate.shape) >= off) / (1 - off)
        counts.append(rng.poisson(rate))
        obs += [(f"t{number}", "train")] * n_train + [(f"t{number}", "test")] * HELD_OUT
    frame = pd.DataFrame(obs, columns=[LABELS, "part"]).rename(index="c{}".format).astype({LABELS: "category"})
    return ad.AnnData(sp.csr_matrix(np.vstack(counts).astype(np.float32)), obs=frame)


def thinned(adata: ad.AnnData, labels_key: str, seed: int, n_genes: int = 1000) -> ad.AnnData:
    """Real types, thinned to the sizes in a random order; of the others 1,500 cells at most."""
    rng = np.random.default_rng(seed)
    labels = adata.obs[labels_key].astype(str)
    names = labels.value_counts()
    free, sizes = list(rng.permutation([name for name in names.index if names[name] >= HELD_OUT + 100])), {}
    for size in sorted(SIZES, reverse=True):
        sizes[size] = next(name for name in free if names[name] >= HELD_OUT + size)
        free.remove(sizes[size])
    parts = pd.Series("none", index=adata.obs_names)
    for name in names.index:
        cells = rng.permutation(adata.obs_names[labels == name])
        size = next((size for size, of in sizes.items() if of == name), None)
        if size is None:
            parts[cells[:1500]] = "train"
        else:
            parts[cells[:HELD_OUT]] = "test"
            parts[cells[HELD_OUT : HELD_OUT + size]] = "train"
    adata.obs["part"] = parts
    adata.obs[LABELS] = labels.astype("category")
    genes = np.sort(np.argsort(-gene_scores(adata.X[(parts == "train").to_numpy()]))[:n_genes])
    return adata[(parts != "none").to_numpy()][:, genes].copy()


def trained(adata: ad.AnnData, folder: Path, seed: int, epochs: int | None) -> sm.ACTIVA:
    """ACTIVA on the training cells, its margins not compared."""
    import scvi

    train = adata[adata.obs["part"] == "train"].copy()
    if folder.exists():
        return sm.ACTIVA.load(folder, adata=train)
    scvi.settings.seed = seed
    sm.ACTIVA.setup_anndata(train, labels_key=LABELS)
    model = sm.ACTIVA(train)
    model.train(max_epochs=epochs, calibrate_margins=False, enable_progress_bar=False)
    model.save(folder)
    return model


Weights = Callable[..., np.ndarray]


def prior_of(n_cells: float) -> Weights:
    """The weight n / (n + n_cells)."""
    return lambda model, data, n_model, n_data, n_genes, **kind: n_data / (n_data + n_cells)


def foretold(share: float) -> Weights:
    """The weight by which training cells foretell one another, with this share of their noise in the model."""
    return lambda *sides, **kind: margins.foretold_weights(*sides, np.full(len(sides[2]), share))


MAPS: dict[str, Weights | None] = {
    "no map": None,
    "map (default)": margins.data_weights,
    **{f"weight n / (n + {n})": prior_of(n) for n in (10, 120, 250)},
    "weight 1": prior_of(0),
    **{f"foretelling alone, {share:.0%} of the noise followed": foretold(share) for share in (0, 0.5, 0.7)},
}


def maps(model: sm.ACTIVA, seed: int) -> Iterator[tuple[str, margins.GeneMargins | None]]:
    """The map at each weight, from the same drawn cells."""
    module, posterior, codes = model.module.eval(), model.posterior_, model.fitted_codes_["mixture"]
    n_labels = len(calibration.cells_per_label(module, posterior))
    observed = margins.histogram(calibration.counts_and_labels(model._training_batches()), n_labels, module.n_input)
    for name, weights in MAPS.items():
        if weights is None:
            yield name, None
            continue
        kept, margins.data_weights = margins.data_weights, weights
        try:
            with torch.inference_mode():
                mapped = calibration.compare_margins(module, posterior, observed, seed, codes)
        finally:
            margins.data_weights = kept
        yield name, mapped


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples of counts."""
    n = int(max(x.max(), y.max())) + 1
    sides = (np.cumsum(np.bincount(side.astype(int), minlength=n)) / len(side) for side in (x, y))
    return float(np.abs(np.subtract(*sides)).max())


def correlations(x: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Correlations of log1p counts, one per pair of genes."""
    return np.nan_to_num(np.corrcoef(np.log1p(x[:, genes]).T))[np.triu_indices(len(genes), 1)]


def measures(drawn: np.ndarray, real: np.ndarray, seed: int) -> dict[str, float]:
    """Compare drawn with held-out cells of a type, on genes that these express; a forest sees as many of each."""
    expressed = np.flatnonzero(real.mean(0) > 0.02)
    top = np.argsort(-real.mean(0))[:40]
    of_drawn, of_real = correlations(drawn, top), correlations(real, top)
    return {
        "ks": float(np.mean([distance(drawn[:, gene], real[:, gene]) for gene in expressed])),
        "auc": float(
            sm.metrics.discriminator_auc(log_normalise(real), log_normalise(drawn[: len(real)]), n_trees=200, seed=seed)
        ),
        "log_total_sd": float(np.log(drawn.sum(1).clip(1)).std()),
        "log_total_sd_real": float(np.log(real.sum(1).clip(1)).std()),
        "correlation_slope": float(of_drawn @ of_real / (of_real @ of_real)),
    }


def judged(adata: ad.AnnData, model: sm.ACTIVA, seed: int) -> Iterator[dict[str, Any]]:
    """One row per size and map."""
    test = adata[adata.obs["part"] == "test"]
    names = list(model.label_categories_)
    n_train = adata.obs.loc[adata.obs["part"] == "train", LABELS].value_counts()
    for name, mapped in maps(model, seed):
        model.margins_ = mapped
        for label in test.obs[LABELS].unique():
            if n_train[label] not in SIZES:
                continue
            drawn = model.generate(N_DRAWN, labels=label, seed=seed).X.toarray()
            code = names.index(label)
            weight = 0.0 if mapped is None else mapped.weights.reshape(-1, mapped.n_genes)[code].mean()
            real = test[test.obs[LABELS] == label].X.toarray()
            row = {"n": int(n_train[label]), "map": name, "type": str(label), "weight": float(weight)}
            yield row | measures(drawn, real, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=("nb", "bursts", "kang"), default=["nb", "bursts"])
    parser.add_argument("--data", help="h5ad file with raw counts in X, for kang")
    parser.add_argument("--labels", default=LABELS, help="column of obs with the cell types, for kang")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="default: the model's")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rare_margins.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for kind in args.set:
        for seed in args.seed:
            if any(row["set"] == kind and row["seed"] == seed for row in rows):
                continue
            if kind == "kang":
                adata = thinned(read_counts(args.data, args.labels), args.labels, seed)
            else:
                adata = simulate(kind, seed)
            model = trained(adata, args.out / f"{kind}_seed{seed}", seed, args.epochs)
            made = [{"set": kind, "seed": seed, **row} for row in judged(adata, model, seed)]
            append_json(file, [row | {"environment": environment()} for row in made])
            rows += made
        of_set = [row for row in rows if row["set"] == kind]
        for n in SIZES:
            found = mean_and_spread([row for row in of_set if row["n"] == n], ("map",), MEASURES)
            show(found, ["map", "seeds", *MEASURES], f"{kind}, {n} training cells")


if __name__ == "__main__":
    main()
