"""Training and generation on a CUDA device beside one of its processor cores, and beside ``scvi.model.SCVI``.

    python benchmarks/gpu.py [--part training wide generation agreement] [--cells 1000000] [--json gpu.json]

Seconds are of the wall clock, the device awaited at both ends of an epoch. Steps that make the host wait for the
device are counted by PyTorch's own debug mode. About five minutes on one H100.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import scvi
import torch
from _common import environment, show
from lightning.pytorch.callbacks import Callback
from speed import cells

import scmimic as sm


class EpochTimes(Callback):
    """Seconds of each epoch's batches, loading, step and logging included."""

    def __init__(self):
        self.seconds, self.steps = [], 0

    def on_train_epoch_start(self, trainer, plan):
        synchronise()
        self._start, self.steps = time.perf_counter(), 0

    def on_train_batch_end(self, *args):
        self.steps += 1

    def on_train_epoch_end(self, trainer, plan):
        synchronise()
        self.seconds.append(time.perf_counter() - self._start)


class Waits(Callback):
    """Where a step makes the host wait for the device, counted over one epoch."""

    def __init__(self):
        self.where, self.steps = Counter(), 0

    def on_train_epoch_start(self, trainer, plan):
        torch.cuda.set_sync_debug_mode("warn")
        self._caught = warnings.catch_warnings(record=True)
        self._found = self._caught.__enter__()
        warnings.simplefilter("always")

    def on_train_batch_end(self, *args):
        self.steps += 1

    def on_train_epoch_end(self, trainer, plan):
        torch.cuda.set_sync_debug_mode("default")
        self._caught.__exit__(None, None, None)
        for warning in self._found:
            if "synchronizing" in str(warning.message):
                parts = Path(warning.filename).parts
                self.where[f"{'/'.join(parts[-2:])}:{warning.lineno}"] += 1


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def gemm(device: str, size: int = 2048, repeats: int = 20) -> float:
    """Median seconds of one float32 product."""
    a, b = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    times = []
    for _ in range(repeats):
        synchronise()
        start = time.perf_counter()
        a @ b
        synchronise()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def models(data, small: bool = True) -> dict:
    """Name -> (a new model, arguments of its training of 3 epochs)."""

    def activa(layer=None, **kwargs):
        sm.ACTIVA.setup_anndata(data, layer=layer, labels_key="type")
        return sm.ACTIVA(data, **kwargs)

    def beta(**kwargs):
        sm.BetaTCVAE.setup_anndata(data)
        return sm.BetaTCVAE(data, **kwargs)

    def scvi_model():
        scvi.model.SCVI.setup_anndata(data)
        return scvi.model.SCVI(data)

    def wgangp():
        sm.WGANGP.setup_anndata(data, labels_key="type")
        return sm.WGANGP(data)

    def michigan():
        representation = beta()
        representation.train(max_epochs=1, enable_progress_bar=False)
        return sm.MichiGAN.from_representation(representation)

    warm, game = {"warmup_epochs": 3}, {"warmup_epochs": 0, "plan_kwargs": {"n_epochs_classifier": 0}}
    quick = {"calibrate_dispersion": False, "calibrate_spread": False, "calibrate_margins": False}
    paper = {"n_latent": 128, "n_hidden": (1024, 512, 256)}
    rows = {
        "ACTIVA nb, warm-up": (activa, {**warm, **quick}),
        "ACTIVA nb, introspective": (activa, {**game, **quick}),
    }
    if small:
        return rows | {
            "BetaTCVAE nb": (lambda: beta(gene_likelihood="nb"), {}),
            "BetaTCVAE normal": (beta, {}),
            "WGANGP, critic steps": (wgangp, {}),
            "MichiGAN, critic steps": (michigan, {}),
            "scvi.model.SCVI": (scvi_model, {"train_size": 1.0}),
        }
    return rows | {
        "ACTIVA normal, warm-up": (lambda: activa("norm", gene_likelihood="normal"), {**warm, **quick}),
        "ACTIVA normal, introspective": (lambda: activa("norm", gene_likelihood="normal"), {**game, **quick}),
        "ACTIVA nb, paper's widths, introspective": (lambda: activa(**paper), {**game, **quick}),
        "scvi.model.SCVI": (scvi_model, {"train_size": 1.0}),
    }


def timed(make, kwargs: dict, accelerator: str, batch_size: int, epochs: int = 3) -> EpochTimes:
    times = EpochTimes()
    make().train(
        max_epochs=epochs,
        batch_size=batch_size,
        accelerator=accelerator,
        devices=1,
        callbacks=[times],
        enable_progress_bar=False,
        **kwargs,
    )
    return times


def training_rows(args, n_cells: int = 20_000, genes: int = 2_000, small: bool = True) -> list[dict]:
    data = cells(n_cells, genes, density=0.1 if small else 0.03)
    if not small:
        data.layers["norm"] = data.layers["norm"].log1p()
    few = data[: 128 * 12].copy()
    rows = []
    for name in models(data, small):
        result = {"model": name, "cells x genes": f"{n_cells:,} x {genes:,}"}
        for size in (128, 1024):
            times = timed(*models(data, small)[name], "gpu", size)
            best = min(times.seconds[1:])
            result[f"ms a step, {size}"] = round(1e3 * best / times.steps, 2)
            result[f"cells/s, {size}"] = round(n_cells / best)
        one = timed(*models(few, small)[name], "cpu", 128, epochs=2)
        result["ms a step, 128, CPU"] = round(1e3 * one.seconds[1] / one.steps, 1)
        waits = Waits()
        make, kwargs = models(few, small)[name]
        make().train(
            max_epochs=1,
            batch_size=128,
            accelerator="gpu",
            devices=1,
            callbacks=[waits],
            enable_progress_bar=False,
            **(kwargs | ({"warmup_epochs": min(kwargs["warmup_epochs"], 1)} if "warmup_epochs" in kwargs else {})),
        )
        result["waits a step"] = round(sum(waits.where.values()) / max(waits.steps, 1), 1)
        result["most"] = "; ".join(f"{where} x{n}" for where, n in waits.where.most_common(8))
        rows.append(result)
        print(json.dumps(result), flush=True)
    return rows


def wide_rows(args) -> list[dict]:
    return training_rows(args, 4_096, 17_789, small=False)


def generation_rows(args) -> list[dict]:
    data = cells(20_000, 2_000, density=0.1)
    sm.ACTIVA.setup_anndata(data, labels_key="type")
    model = sm.ACTIVA(data)
    start = time.perf_counter()
    model.train(max_epochs=4, accelerator="gpu", devices=1, enable_progress_bar=False)
    rows = [{"what": "4 epochs of 20,000 x 2,000 and calibration", "seconds": round(time.perf_counter() - start, 1)}]
    with tempfile.TemporaryDirectory() as folder:
        for device in ("cuda:0", "cpu"):
            model.to_device(device)
            n = 100_000 if device != "cpu" else 20_000
            start = time.perf_counter()
            model.generate(n, seed=0)
            seconds = time.perf_counter() - start
            rows.append(
                {"what": f"{n:,} cells in memory, {device}", "seconds": round(seconds, 1), "cells/s": n / seconds}
            )
            print(json.dumps(rows[-1]), flush=True)
        model.to_device("cuda:0")
        n = args.cells
        start = time.perf_counter()
        model.generate(n, seed=0, path=Path(folder) / "cells.zarr")
        seconds = time.perf_counter() - start
        rows.append({"what": f"{n:,} cells to zarr, cuda", "seconds": round(seconds, 1), "cells/s": n / seconds})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def agreement_rows(args) -> list[dict]:
    """Whether a model gives on the device what it gives on the processor."""
    data = sm.datasets.synthetic_counts(n_obs=2_000, n_vars=300, n_labels=3, n_batches=2, seed=0)
    rows = []
    for cls in (sm.ACTIVA, sm.BetaTCVAE, sm.WGANGP, sm.InfoWGANGP):
        cls.setup_anndata(data, labels_key="cell_type")
        scvi.settings.seed = 0
        model = cls(data)
        model.train(max_epochs=10, accelerator="gpu", devices=1, enable_progress_bar=False)
        made = {}
        for device in ("cuda:0", "cuda:0 again", "cpu"):
            model.to_device(device.split()[0])
            made[device] = model.generate(2_000, seed=1).X.toarray()
        on_gpu, again, on_cpu = made.values()
        result = {
            "model": cls.__name__,
            "same seed, same cells": bool((on_gpu == again).all()),
            "entries equal to the CPU's": round(float((on_gpu == on_cpu).mean()), 5),
            "largest difference of gene means": round(float(np.abs(on_gpu.mean(0) - on_cpu.mean(0)).max()), 4),
        }
        rows.append(result)
        print(json.dumps(result), flush=True)
    return rows


PARTS = {
    "agreement": ("The same cells on the device and on the processor", agreement_rows),
    "training": ("Training", training_rows),
    "generation": ("Generation, ACTIVA nb at its defaults, 2,000 genes", generation_rows),
    "wide": ("Training, 17,789 genes", wide_rows),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cells", type=int, default=1_000_000, help="cells generated to a file")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here.")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.seed = 0
    torch.set_num_threads(1)
    found = {
        "environment": environment(),
        "device": torch.cuda.get_device_name(),
        "GEMM, ms": {"cuda": 1e3 * gemm("cuda"), "one core": 1e3 * gemm("cpu", repeats=3)},
    }
    print(json.dumps(found), flush=True)
    for part in args.part:
        title, measure = PARTS[part]
        found[part] = measure(args)
        show(found[part], list(found[part][0]), title)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
