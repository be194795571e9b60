"""Training on cells that stay on disk: time, memory and realism by their number.

    python benchmarks/streaming.py CELLS.zarr [CELLS.zarr ...] --test TEST.h5ad [--labels-key cell_type] [--memory]

Each file is written to a collection and trained on in a process of its own, by an ACTIVA with its defaults; with
`--memory` also by one that reads the file into memory. Cells are then judged beside those of TEST, which no model has
seen: by the forests of `sm.evaluate`'s settings.
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
import scvi
from _common import peak_memory, show

import scmimic as sm


def row(path: Path, args: argparse.Namespace) -> dict:
    """Set up, train and judge; in this process, whose memory it measures."""
    scvi.settings.seed = args.seed
    keys = {"labels_key": args.labels_key}
    before, start, cpu = peak_memory(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        if args.memory:
            adata = ad.read_zarr(path)
            sm.ACTIVA.setup_anndata(adata, **keys)
            model, training = sm.ACTIVA(adata), {}
            n_obs = adata.n_obs
        else:
            cells = sm.ACTIVA.setup_annbatch(f"{folder}/cells.zarr", path, **keys)
            model, training = sm.ACTIVA(registry=cells.registry), {"datamodule": cells}
            n_obs = cells.n_obs
        ready_cpu, ready_memory = time.process_time(), peak_memory()
        times: list[float] = []
        calibrate = model._calibrate

        def timed(**settings):
            begin = time.process_time()
            calibrate(**settings)
            times.append(time.process_time() - begin)

        model._calibrate = timed
        model.train(max_epochs=args.epochs, enable_progress_bar=False, **training)
    trained, trained_cpu = time.perf_counter(), time.process_time()
    epochs = len(model.history["train_loss"])
    test = ad.read_h5ad(args.test)
    found: dict[str, list[float]] = {"rf_auc_genes": [], "rf_auc_pcs": []}
    for seed in range(args.draws):
        new = model.generate(test.n_obs, seed=seed, silent=True)
        table = sm.evaluate(test, new, labels_key=args.labels_key, metrics=list(found), seed=seed).table
        overall = table[table["label"] == "overall"].set_index("metric")["value"]
        for name, values in found.items():
            values.append(overall[name])
    return {
        "cells": n_obs,
        "how": "in memory" if args.memory else "streamed",
        "set-up, s": round(ready_cpu - cpu),
        "epochs": epochs,
        "cells/s of training": round(n_obs * epochs / (trained_cpu - ready_cpu - sum(times))),
        "calibration, s": round(sum(times)),
        "clock, s": round(trained - start),
        "peak MiB": round(peak_memory()),
        "peak MiB of set-up": round(ready_memory),
        "MiB before": round(before),
        **{name: round(sum(values) / len(values), 3) for name, values in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--labels-key", default="cell_type")
    parser.add_argument("--epochs", type=int, help="default: those of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.row:
        print(json.dumps(row(args.cells[0], args)))
        return
    rows = []
    for path in args.cells:
        command = [sys.executable, __file__, *sys.argv[1:], "--row"]
        command = [part for part in command if part not in map(str, args.cells) or part == str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    show(rows, list(rows[0]), "Cells on disk")


if __name__ == "__main__":
    main()
