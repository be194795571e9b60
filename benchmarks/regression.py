"""What slows down: training steps, generation and evaluation, in matrix products, beside those of a committed run.

    python benchmarks/regression.py            # prints what is slower by 20 % than in regression.json
    python benchmarks/regression.py --update   # writes regression.json

All is processor time of one thread, over that of a 1024 x 1024 x 1024 float32 product (GEMM) measured before and after:
the least of some repetitions, so that other work on the machine counts little. It takes about a minute.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scvi
import torch
from _common import show
from lightning.pytorch.callbacks import Callback
from speed import cells

import scmimic as sm

BASELINE = Path(__file__).with_suffix(".json")
SLOWER = 1.2
GENES, STEPS, CELLS, REPEATS = 2_000, 12, 512, 3
QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "batch_size": 128}


def gemm() -> float:
    """Processor seconds of a product, the least of five."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return min(seconds(lambda: a @ b) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def in_products(measure: Callable[[], float]) -> float:
    """The least of some measurements, each over the products beside it."""
    found = []
    for _ in range(REPEATS):
        before, value = gemm(), measure()
        found.append(value / min(before, gemm()))
    return min(found)


class Clock(Callback):
    """Processor seconds from the end of one batch to that of the next, by epoch; the first two batches warm up."""

    def __init__(self):
        self.ends: dict[int, list[float]] = {}

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        self.ends.setdefault(trainer.current_epoch, []).append(time.process_time())

    def step(self, epoch: int) -> float:
        return float(np.mean(np.diff(self.ends[epoch][1:])))


def step_of(make: Callable[[], object], epoch: int = 0, **train) -> float:
    """Mean processor seconds of a step in an epoch of a new model's training, loading and logging included."""
    clock = Clock()
    make().train(max_epochs=epoch + 1, callbacks=[clock], **QUIET, **train)
    return clock.step(epoch)


def measured() -> Iterator[tuple[str, float]]:
    """What is watched, and its cost in products."""
    data = cells(128 * STEPS, GENES, density=0.1)
    data.layers["log"] = data.layers["norm"].log1p()
    sm.ACTIVA.setup_anndata(data, labels_key="type")
    quick = {"calibrate_dispersion": False, "calibrate_spread": False, "calibrate_margins": False}
    for name, epoch in (("ACTIVA nb, warm-up step", 0), ("ACTIVA nb, game step", 1)):
        yield name, in_products(lambda e=epoch: step_of(lambda: sm.ACTIVA(data), e, warmup_epochs=1, **quick))
    sm.BetaTCVAE.setup_anndata(data, layer="log")
    yield "BetaTCVAE, step", in_products(lambda: step_of(lambda: sm.BetaTCVAE(data)))
    sm.WGANGP.setup_anndata(data, layer="log", labels_key="type")
    yield "WGANGP, step", in_products(lambda: step_of(lambda: sm.WGANGP(data)))
    for likelihood, layer in (("nb", None), ("normal", "log")):
        sm.ACTIVA.setup_anndata(data, layer=layer, labels_key="type")
        model = sm.ACTIVA(data, gene_likelihood=likelihood)
        model.train(max_epochs=1, warmup_epochs=1, **QUIET)
        yield (
            f"ACTIVA {likelihood}, {CELLS} cells generated",
            in_products(lambda m=model: seconds(lambda: m.generate(CELLS, seed=0))),
        )
    real, new = (sm.datasets.synthetic_counts(n_obs=300, n_vars=300, n_labels=3, seed=seed) for seed in range(2))
    asked = {"metrics": ("rf_auc_genes", "rf_auc_pcs", "mmd", "wasserstein"), "n_trees": 50, "n_jobs": 1}
    yield "evaluation, 300 x 300 x 300", in_products(lambda: seconds(lambda: sm.evaluate(real, new, **asked)))
    real, new = (sm.datasets.synthetic_counts(n_obs=26 * 40, n_vars=300, seed=seed) for seed in range(2))
    for side in (real, new):
        side.obs["type"] = [f"type_{i % 26}" for i in range(side.n_obs)]
    asked |= {"metrics": ("rf_auc_genes", "rf_auc_pcs"), "labels_key": "type", "baselines": (), "n_trees": 10}
    yield "evaluation, 26 types of 40 cells", in_products(lambda: seconds(lambda: sm.evaluate(real, new, **asked)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    found = {name: round(value, 2) for name, value in measured()}
    if args.update:
        BASELINE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    before = json.loads(BASELINE.read_text(encoding="utf-8"))
    rows = [
        {"what": name, "GEMM": value, "baseline": before.get(name), "ratio": round(value / before.get(name, value), 2)}
        for name, value in found.items()
    ]
    show(rows, list(rows[0]), "Processor time in 1024³ matrix products")
    for row in rows:
        if row["ratio"] > SLOWER:
            print(f"SLOWER by {row['ratio'] - 1:.0%}: {row['what']}")


if __name__ == "__main__":
    main()
