"""Cost of training and generation, in multiples of one 2048 x 2048 x 2048 float32 matrix product (GEMM).

The product is timed beside every step, so that the ratio holds on a busy machine.

    python benchmarks/speed.py [--part gans vae training generation] [--genes 17789] [--steps 12] [--cells 20000]
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
import torch
from _common import peak_memory, show
from lightning.pytorch.callbacks import Callback

import scmimic as sm
from scmimic.train import WassersteinTrainingPlan

AUTHORS = {
    "ACTIVA normal, warm-up step": 5.7,
    "ACTIVA normal, introspective step": 14.3,
    "WGAN-GP, critic step": 0.55,
    "WGAN-GP, generator step": 0.69,
    "BetaTCVAE as published, step": "0.27 to 0.30",
}
TARGETS = {
    "ACTIVA normal, warm-up step": 2.5,
    "ACTIVA normal, introspective step": 7.0,
    "WGAN-GP, critic step": 0.18,
    "WGAN-GP, generator step": 0.23,
}


def gemm(size: int = 2048) -> float:
    """Seconds of one product."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    start = time.perf_counter()
    a @ b
    return time.perf_counter() - start


def cells(n: int, genes: int, density: float = 0.03, seed: int = 0) -> ad.AnnData:
    """Counts as sparse as droplet data, eight types."""
    rng = np.random.default_rng(seed)
    x = sp.random(n, genes, density, format="csr", dtype=np.float32, random_state=seed)
    x.data = np.float32(1 + rng.poisson(1.0, x.nnz))
    obs = pd.DataFrame({"type": [f"t{i % 8}" for i in range(n)]}, index=[f"c{i}" for i in range(n)])
    data = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]))
    data.layers["norm"] = sp.csr_matrix(sp.diags(2e4 / np.asarray(x.sum(1)).ravel()) @ x, dtype=np.float32)
    return data


class StepTimes(Callback):
    """Seconds from one batch's end to the next (loading, step, logging), and of a GEMM beside it."""

    def __init__(self):
        self.steps, self._last = [], None

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        now = time.perf_counter()
        if self._last is not None:
            self.steps.append((trainer.current_epoch, now - self._last, gemm()))
        self._last = time.perf_counter()

    def ratio(self, epoch: int) -> tuple[float, float, float]:
        rows = np.array([(t, g) for e, t, g in self.steps if e == epoch])[2:]
        ratios = rows[:, 0] / rows[:, 1]
        return float(np.median(ratios)), float(np.median(rows[:, 0])), float(np.median(rows[:, 1]))


def train(model, epochs: int, **kwargs) -> StepTimes:
    times = StepTimes()
    model.train(max_epochs=epochs, batch_size=128, callbacks=[times], enable_progress_bar=False, **kwargs)
    return times


def row(name: str, ratio: float, seconds: float, base: float) -> dict:
    return {
        "what": name,
        "GEMM": round(ratio, 2),
        "seconds": round(seconds, 3),
        "GEMM seconds": round(base, 3),
        "authors": AUTHORS.get(name, ""),
        "target": TARGETS.get(name, ""),
    }


def training_rows(args) -> list[dict]:
    data = cells(128 * (args.steps + 3), args.genes)
    rows = []
    paper = {"n_latent": 128, "n_hidden": (1024, 512, 256)}
    for name, layer, init, precision in (
        ("ACTIVA normal", "norm", {"gene_likelihood": "normal"}, "32-true"),
        ("ACTIVA nb, paper's widths", None, {"gene_likelihood": "nb", **paper}, "32-true"),
        ("ACTIVA nb, paper's widths, bf16-mixed", None, {"gene_likelihood": "nb", **paper}, "bf16-mixed"),
        ("ACTIVA nb, default widths", None, {"gene_likelihood": "nb"}, "32-true"),
    ):
        sm.ACTIVA.setup_anndata(data, layer=layer, labels_key="type")
        model = sm.ACTIVA(data, **init)
        plan = {"m": 1e6, "alpha1": 1.0, "n_epochs_classifier": 1}
        times = train(model, 2, warmup_epochs=1, plan_kwargs=plan, precision=precision)
        rows += [row(f"{name}, warm-up step", *times.ratio(0)), row(f"{name}, introspective step", *times.ratio(1))]
        del model
    sm.ACTINN.setup_anndata(data, labels_key="type")
    rows.append(row("ACTINN, step", *train(sm.ACTINN(data), 1).ratio(0)))
    scvi.model.SCVI.setup_anndata(data)
    rows.append(row("scvi.model.SCVI, step", *train(scvi.model.SCVI(data), 1, train_size=1.0).ratio(0)))
    return rows


def gan_rows(genes: int = 4_062, batch_size: int = 32, steps: int = 15) -> list[dict]:
    """Steps of WGAN-GP at the size of the authors' measurement: written out, and by automatic differentiation."""
    data = cells(batch_size, genes)
    sm.WGANGP.setup_anndata(data, layer="norm")
    module = sm.WGANGP(data).module.train()
    plan = WassersteinTrainingPlan(module)
    plan.log = lambda *args, **kwargs: None
    critic = torch.optim.Adam(module.critic_parameters(), lr=1e-4, fused=True)
    generator = torch.optim.Adam(module.generator.parameters(), lr=1e-4, fused=True)
    batch = {"X": torch.as_tensor(data.layers["norm"].toarray())}

    def by_autograd() -> None:
        real, draw = module.prepare(batch["X"]), module.draw(batch)
        with torch.no_grad():
            fake = module.run(module.generator, draw)
        critic.zero_grad()
        share = torch.rand(batch_size, 1)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(module.critic(mixed).sum(), mixed, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        (module.critic(fake).mean() - module.critic(real).mean() + 10 * penalty).backward()
        critic.step()

    rows = []
    for name, step in (
        ("WGAN-GP, critic step", lambda: plan._critic_step(batch, critic)),
        ("WGAN-GP, critic step by autograd", by_autograd),
        ("WGAN-GP, generator step", lambda: plan._generator_step(batch, generator)),
    ):
        times = []
        for _ in range(steps + 3):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start, gemm()))
        seconds, base = np.array(times[3:]).T
        rows.append(row(name, float(np.median(seconds / base)), float(np.median(seconds)), float(np.median(base))))
    return rows


def vae_rows(genes: int = 4_062, steps: int = 30) -> list[dict]:
    """Steps of beta-TCVAE at the size of the authors' measurement, with the defaults and as they train."""
    data = cells(128 * (steps + 3), genes)
    data.layers["log"] = data.layers["norm"].log1p()
    sm.BetaTCVAE.setup_anndata(data, layer="log")
    published = {"n_comps": None, "standardize": False, "posterior_gradients": True, "dropout_rate": 0.2}
    rows = []
    for name, init, plan in (
        ("BetaTCVAE, step", {}, {}),
        ("BetaTCVAE as published, step", published, {"memory_size": 0}),
    ):
        rows.append(row(name, *train(sm.BetaTCVAE(data, **init), 1, plan_kwargs=plan).ratio(0)))
    scvi.model.SCVI.setup_anndata(data)
    rows.append(row("scvi.model.SCVI, step", *train(scvi.model.SCVI(data), 1, train_size=1.0).ratio(0)))
    return rows


def generation(likelihood: str, n: int, genes: int, folder: Path) -> dict:
    """Stream ``n`` cells to a file; run in a process of its own, so that the peak memory is this one's."""
    data = cells(512, genes)
    sm.ACTIVA.setup_anndata(data, layer="norm" if likelihood == "normal" else None, labels_key="type")
    model = sm.ACTIVA(data, gene_likelihood=likelihood, n_latent=128, n_hidden=(1024, 512, 256))
    model.train(max_epochs=1, warmup_epochs=1, enable_progress_bar=False)
    before = peak_memory()
    base, start = gemm(), time.perf_counter()
    made = model.generate(n, seed=0, path=folder / "cells.h5ad")
    seconds = time.perf_counter() - start
    base = (base + gemm()) / 2
    peak = peak_memory()
    return {
        "what": f"generate {n:,} cells to disk, {likelihood}",
        "cells/s": round(made.n_obs / seconds),
        "seconds": round(seconds, 1),
        "GEMM": round(seconds / base, 1),
        "peak MiB": round(peak),
        "peak MiB before": round(before),
    }


def generation_rows(args) -> list[dict]:
    rows = []
    for likelihood in ("normal", "nb"):
        for n in (args.cells // 4, args.cells):
            command = [
                sys.executable,
                __file__,
                "--generate",
                likelihood,
                "--cells",
                str(n),
                "--genes",
                str(args.genes),
            ]
            out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            rows.append(json.loads(out.stdout.strip().splitlines()[-1]))
    return rows


PARTS = {
    "gans": ("GANs, batches of 32 cells, 4,062 genes", lambda args: gan_rows()),
    "vae": ("BetaTCVAE, batches of 128 cells, 4,062 genes", lambda args: vae_rows()),
    "training": ("Training, batches of 128 cells", training_rows),
    "generation": ("Generation", generation_rows),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=17_789)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--generate", choices=["normal", "nb"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.seed = 0
    if args.generate:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(generation(args.generate, args.cells, args.genes, Path(folder))))
        return
    for part in args.part:
        title, measure = PARTS[part]
        rows = measure(args)
        show(rows, list(rows[0]), title)


if __name__ == "__main__":
    main()
