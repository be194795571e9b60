"""Seconds of processor time per epoch of BetaTCVAE beside scvi.model.SCVI, in turns, on 10,000 cells x 2,000 genes.

python benchmarks/beta_tcvae.py [--cells 10000] [--genes 2000] [--rounds 3] [--data counts.h5ad]
"""

import argparse
import logging
import resource
import warnings

import anndata as ad
import numpy as np
import scvi
from _common import show

import scmimic as sm

EPOCHS = 6


def cpu_seconds() -> float:
    """Of this process, which other processes on the machine do not change much."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="counts to train on instead of simulated ones")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if args.data:
        adata = ad.read_h5ad(args.data)
    else:
        adata = sm.datasets.synthetic_counts(n_obs=args.cells, n_vars=args.genes, seed=0)
    adata.layers["log"] = adata.X.log1p()

    scvi.settings.seed = 0
    sm.BetaTCVAE.setup_anndata(adata, layer="log")
    models = {"BetaTCVAE normal": sm.BetaTCVAE(adata)}
    sm.BetaTCVAE.setup_anndata(adata)
    models["BetaTCVAE nb"] = sm.BetaTCVAE(adata, gene_likelihood="nb")
    scvi.model.SCVI.setup_anndata(adata)
    models["scvi.model.SCVI"] = scvi.model.SCVI(adata)
    seconds = {name: [] for name in models}
    for _ in range(args.rounds):
        for name, model in models.items():
            start = cpu_seconds()
            model.train(max_epochs=EPOCHS, train_size=1.0, batch_size=128, enable_progress_bar=False)
            seconds[name].append((cpu_seconds() - start) / EPOCHS)
    rows = [{"model": name, "median": np.median(v), "least": min(v)} for name, v in seconds.items()]
    show(rows, ["model", "median", "least"], f"CPU seconds per epoch, {adata.n_obs} cells x {adata.n_vars} genes")


if __name__ == "__main__":
    main()
