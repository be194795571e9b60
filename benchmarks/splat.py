"""`sm.datasets.splat` beside the R package Splatter: do the two differ more than two seeds of ours do?

    python benchmarks/splat.py --linear splatter_linear.h5ad --nonlinear splatter_nonlinear.h5ad

The files hold counts of Splatter's `splatSimulatePaths`, 2 batches x 2 paths x 20 steps, and per gene its BaseGeneMean,
OutlierFactor, GeneMean, BatchFacBatch1/2, DEFacPath1/2 and SigmaFacPath1/2. Ours takes the same values per gene. Writes
the page and its picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _common import environment, peak_memory, put_table
from sklearn.utils.sparsefuncs import mean_variance_axis

import scmimic as sm

COLUMNS = {
    "BaseGeneMean": "base_mean",
    "OutlierFactor": "outlier_factor",
    "GeneMean": "mean",
    **{f"BatchFacBatch{i + 1}": f"batch_factor_batch_{i}" for i in range(2)},
    **{f"DEFacPath{i + 1}": f"de_factor_path_{i}" for i in range(2)},
    **{f"SigmaFacPath{i + 1}": f"sigma_factor_path_{i}" for i in range(2)},
}
BCV_COMMON, N_STEPS = 0.1, 20
LEVELS = np.linspace(0.01, 0.99, 99)
R_COLOR, OUR_COLOR = "#2f6db3", "#d1442f"


def known_genes(adata: ad.AnnData) -> pd.DataFrame:
    return adata.var[list(COLUMNS)].rename(columns=COLUMNS)


def degrees_of_freedom(adata: ad.AnnData) -> float:
    """bcv.df of the linear file, which does not state it.

    All means are known there, so the squared deviations of either half of the cells give each gene's df / chi-square.
    The covariance of its inverse between the halves is 2 / df, free of the noise within a half.
    """
    genes = known_genes(adata)
    batch = (adata.obs["batch"].astype(str) == "Batch2").to_numpy(dtype=int)
    path = (adata.obs["path"].astype(str) == "Path2").to_numpy(dtype=int)
    base = genes["mean"].to_numpy() * genes[[f"batch_factor_batch_{i}" for i in range(2)]].to_numpy().T
    end = genes[[f"de_factor_path_{i}" for i in range(2)]].to_numpy().T
    place = (adata.obs["step"].to_numpy() - 1) / (N_STEPS - 1)
    halves = np.random.default_rng(0).permutation(adata.n_obs) % 2
    above, below = np.zeros((2, adata.n_vars)), np.zeros((2, adata.n_vars))
    for start in range(0, adata.n_obs, 500):
        rows = slice(start, start + 500)
        mean = base[batch[rows]] * (1 + place[rows, None] * (end[path[rows]] - 1))
        mean *= (adata.obs["exp_lib_size"].to_numpy()[rows] / mean.sum(axis=1))[:, None]
        spread = mean * (1 + BCV_COMMON * np.sqrt(mean)) ** 2
        weight = spread / (mean + spread) ** 2
        excess = weight * ((adata.X[rows].toarray() - mean) ** 2 - mean)
        for half in range(2):
            mine = halves[rows] == half
            above[half] += excess[mine].sum(axis=0)
            below[half] += (weight * spread)[mine].sum(axis=0)
    seen = adata.X.mean(axis=0).A1 > 1
    inverse = (below / above)[:, seen]
    return float(2 / np.cov(inverse)[0, 1])


def statistics(adata: ad.AnnData) -> dict[str, np.ndarray]:
    """Per gene and cell, what is compared."""
    mean, variance = mean_variance_axis(adata.X.astype(np.float64), axis=0)
    return {
        "mean": mean,
        "variance": variance,
        "zeros": 1 - adata.X.getnnz(axis=0) / adata.n_obs,
        "library": np.asarray(adata.X.sum(axis=1, dtype=np.float64)).ravel(),
    }


def profiles(values: dict[str, np.ndarray], edges: np.ndarray) -> dict[str, np.ndarray]:
    """Quantiles and curves of one data set; two of them are compared by the mean absolute difference."""
    mean, variance = (np.log10(np.maximum(values[name], 1e-4)) for name in ("mean", "variance"))
    fano = variance - mean
    bins = np.digitize(mean, edges)
    return {
        "gene means, quantiles": np.quantile(mean, LEVELS),
        "gene variances, quantiles": np.quantile(variance, LEVELS),
        "zero fractions, quantiles": np.quantile(values["zeros"], LEVELS),
        "library sizes, quantiles": np.quantile(np.log10(values["library"]), LEVELS),
        "variance over mean along the mean": np.array([np.median(fano[bins == b]) for b in range(len(edges) + 1)]),
        "mean, gene by gene": mean,
        "variance, gene by gene": variance,
        "zero fraction, gene by gene": values["zeros"],
    }


def compare(reference: dict[str, np.ndarray], ours: list[dict[str, np.ndarray]]) -> list[dict]:
    """Distances of R to ours and among ours, and the rank of R among all by its mean distance to the others."""
    rows = []
    for name in reference:
        members = np.stack([reference[name], *(one[name] for one in ours)])
        distance = np.abs(members[:, None] - members[None]).mean(axis=-1)
        among = distance[1:, 1:][np.triu_indices(len(ours), 1)]
        outlying = distance.sum(axis=1) / (len(members) - 1)
        rows.append(
            {
                "what": name,
                "R": distance[0, 1:].mean(),
                "ours": among.mean(),
                "limit": np.quantile(among, 0.95),
                "p": (outlying >= outlying[0] * (1 - 1e-12)).mean(),
            }
        )
    return rows


def draw(panels: dict[str, tuple], path: Path) -> None:
    """Mean-variance and mean-zeros of one seed on top of R, library sizes, and quantile differences with our range."""
    fig, axes = plt.subplots(2, 4, figsize=(16, 7.4), layout="constrained")
    for row, (name, (r, ours, r_profile, our_profiles)) in zip(axes, panels.items(), strict=True):
        for values, color, label, size in (
            (r, R_COLOR, "Splatter (R)", 9),
            (ours, OUR_COLOR, "sm.datasets.splat", 2.5),
        ):
            options = {"s": size, "lw": 0, "color": color, "label": label, "rasterized": True}
            row[0].scatter(values["mean"], values["variance"], **options)
            row[1].scatter(values["mean"], values["zeros"], **options)
            bins = np.linspace(3.5, 7.1, 61)
            row[2].hist(np.log10(values["library"]), bins=bins, histtype="step", lw=1.5, color=color, label=label)
        row[0].set(
            xscale="log", yscale="log", xlabel="mean of the gene", ylabel="variance of the gene", xlim=(1e-2, None)
        )
        row[0].set_ylim(1e-2, None)
        row[1].set(xscale="log", xlabel="mean of the gene", ylabel="fraction of zeros", xlim=(1e-2, None))
        row[2].set(xlabel="log10 of the cell's counts", ylabel="cells")
        key = "gene variances, quantiles"
        stack = np.stack([one[key] for one in our_profiles])
        centre = stack.mean(axis=0)
        band = stack - centre
        row[3].fill_between(
            LEVELS, band.min(axis=0), band.max(axis=0), color=OUR_COLOR, alpha=0.25, lw=0, label="our seeds"
        )
        row[3].plot(LEVELS, r_profile[key] - centre, color=R_COLOR, lw=1.5, label="Splatter (R)")
        row[3].axhline(0, color="gray", lw=0.7)
        row[3].set(xlabel="quantile of the genes", ylabel="log10 variance, less our mean")
        for ax in row:
            ax.spines[["top", "right"]].set_visible(False)
            ax.legend(frameon=False, fontsize=8, markerscale=2)
        row[0].set_title(f"{name} steps", loc="left", fontweight="bold")
    fig.savefig(path, dpi=90)
    plt.close(fig)


def cost(n_obs: int, n_vars: int) -> dict[str, float]:
    """Seconds and peak memory of one simulation, in this process."""
    before = peak_memory()
    start, used = time.perf_counter(), time.process_time()
    adata = sm.datasets.splat(n_obs, n_vars)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = peak_memory()
    result = (adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes) / 2**20
    return {"cells": n_obs, "genes": n_vars, "seconds": seconds, "cpu": used, "rise": peak - before, "result": result}


def costs(sizes: list[tuple[int, int]]) -> list[dict[str, float]]:
    """Each in a process of its own, so that the peak of memory is its own."""
    rows = []
    for n_obs, n_vars in sizes:
        command = [sys.executable, __file__, "--cost", str(n_obs), str(n_vars)]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        rows.append(json.loads(out.stdout.strip().splitlines()[-1]))
    return rows


PAGE = """# Splat beside the R package

{{func}}`scmimic.datasets.splat` beside Splatter 1.29.1 on MichiGAN's two simulations, 10,000 cells x 2,000 genes each.
R made its files with parameters estimated from Tabula Muris (kidney), two batches, two paths from one origin, 20 steps,
de.prob 0.5, de.facLoc 0.01, de.facScale 0.5, bcv.common 0.1, and nonlinearProb 0 or 1.

```bash
python benchmarks/splat.py --linear splatter_michigan_linear.h5ad --nonlinear splatter_michigan_nonlinear.h5ad
```

Ours is given what R wrote per gene: base mean, outlier factor, mean, batch factors, factors at the end of the paths.
It draws library sizes, cells' batches, paths and steps, the genes' chi-square, the bridges and the counts anew for each
of the seeds 0 to {last}. Two things R's files do not state. Library sizes are log-normal with the mean and standard
deviation of the logarithm of R's expected ones ({library}). And bcv.df is {df:.0f},
from the spread of the squared deviations in the linear file, where all means are known.

```{{image}} ../_static/splat.png
:alt: Mean and variance, mean and zeros, library sizes and quantiles of the variances of R's cells and ours
```

**The test.** Each set of cells gives a profile: 99 quantiles over genes of log10 mean, log10 variance and fraction of
zeros; 99 quantiles over cells of log10 counts; the median of log10 variance over mean in 20 bins of the mean; and the
same values gene by gene. The distance of two sets is the mean absolute difference of their profiles. If R's cells come
from the same distribution as ours, R is one of {members} exchangeable sets. p is the share of the sets whose mean
distance to the others is at least R's: 1/{members} = {least:.3f} where R is farther off than each of ours.

```{{results}} distances
```

{verdict}

Ours is centred on R where it matters for depth, since the library parameters come from R's own cells. So R should lie
nearer to ours than ours among each other, and does. The rows that depend little on depth are the sharp ones: zero
fractions, and gene by gene with non-linear steps, where the bridges decide.

## Cost

Default parameters, linear steps, one core of a {cpus}-core {machine} machine that was shared: the seconds of the
processor are what it costs. Memory is the rise of the peak of the process.

```{{results}} cost
```

{versions}. The numbers of this page are in [`results/splat.json`](results/splat.json).
"""


def put_tables(tables: dict[str, list[dict]], rows: list[dict]) -> None:
    columns = ["steps", "what", "R to ours", "ours to ours", "95 % of ours below", "p"]
    keys = ["R", "ours", "limit", "p"]
    lines = [(name, row) for name, table in tables.items() for row in table]
    rows_of_test = [[name, row["what"], *(float(row[key]) for key in keys)] for name, row in lines]
    put_table("splat", "distances", columns, rows_of_test)
    columns = ["cells", "genes", "seconds", "seconds of the processor", "peak, MiB", "of which the counts, MiB"]
    put_table("splat", "cost", columns, [list(row.values()) for row in rows])


def page(tables: dict[str, list[dict]], args: argparse.Namespace, library: str, df: float) -> str:
    members = args.seeds + 1
    tests = [row["p"] for table in tables.values() for row in table]
    far = sum(p <= 1 / members + 1e-9 for p in tests)
    verdict = (
        f"R is the farthest set in {far} of the {len(tests)} comparisons; chance alone would make it "
        f"{len(tests) / members:.1f} of them. Quantiles and gene-by-gene values are not independent of each other. "
        f"The least p is {min(tests):.2f}, the median {np.median(tests):.2f}."
    )
    found = environment()
    return PAGE.format(
        last=args.seeds - 1,
        members=members,
        least=1 / members,
        library=library,
        df=df,
        verdict=verdict,
        cpus=os.cpu_count(),
        machine=platform.machine(),
        versions=f"scmimic {found['scmimic']}, numpy {np.__version__}, anndata {found['anndata']}",
    )


def main() -> None:
    docs = Path(__file__).parents[1] / "docs"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--linear", type=Path, help="R's file with linear steps")
    parser.add_argument("--nonlinear", type=Path, help="R's file with non-linear steps")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--page", type=Path, default=docs / "benchmarks" / "splat.md")
    parser.add_argument("--picture", type=Path, default=docs / "_static" / "splat.png")
    parser.add_argument(
        "--cost", type=int, nargs=2, metavar=("CELLS", "GENES"), help="time one simulation, and no more"
    )
    args = parser.parse_args()
    if args.cost:
        sys.stdout.write(json.dumps(cost(*args.cost)) + "\n")
        return
    if args.linear is None or args.nonlinear is None:
        parser.error("--linear and --nonlinear are needed")
    tables, panels, library, df = {}, {}, [], None
    for step, path in (("linear", args.linear), ("nonlinear", args.nonlinear)):
        r = ad.read_h5ad(path)
        df = degrees_of_freedom(r) if df is None else df
        log = np.log(r.obs["exp_lib_size"])
        library.append(f"{log.mean():.2f} and {log.std():.2f}, {step}")
        parameters = sm.datasets.SplatParameters(
            lib_loc=log.mean(), lib_scale=log.std(), bcv_common=BCV_COMMON, bcv_df=df
        )
        genes, values = known_genes(r), statistics(r)
        edges = np.quantile(np.log10(np.maximum(values["mean"], 1e-4)), np.linspace(0, 1, 21)[1:-1])
        reference = profiles(values, edges)
        found, first = [], None
        for seed in range(args.seeds):
            made = statistics(
                sm.datasets.splat(r.n_obs, genes=genes, n_steps=N_STEPS, step=step, parameters=parameters, seed=seed)
            )
            first = first or made
            found.append(profiles(made, edges))
        tables[step] = compare(reference, found)
        panels[step] = (values, first, reference, found)
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    draw(panels, args.picture)
    rows = costs([(2_000, 5_000), (10_000, 2_000), (10_000, 5_000), (20_000, 5_000)])
    put_tables(tables, rows)
    args.page.write_text(page(tables, args, "; ".join(library), df), encoding="utf-8")


if __name__ == "__main__":
    main()
