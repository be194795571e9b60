"""Many cells from one model: cells per second and memory by their number, parts, workers.

    python benchmarks/scaling.py DATA.h5ad [--labels-key cell_type] [--cells 10000 100000] [--workers 1 2]

Trains an ACTIVA for a few epochs, long enough for cells with the sparsity of real ones; each row is a process of its
own that loads it and writes a zarr store. Processor seconds stand beside those of the clock, since other work slows the
latter.
"""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import scvi
from _common import gene_scores, peak_memory, read_counts, show

import scmimic as sm
from scmimic.model.generation import parts


def trained(path: str, labels_key: str, n_genes: int, epochs: int) -> sm.ACTIVA:
    adata = read_counts(path, labels_key)
    adata = adata[:, np.sort(np.argsort(-gene_scores(adata.X))[:n_genes])].copy()
    sm.ACTIVA.setup_anndata(adata, labels_key=labels_key)
    model = sm.ACTIVA(adata)
    model.train(max_epochs=epochs, warmup_epochs=epochs - 1, batch_size=256, enable_progress_bar=False)
    return model


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def one_process(folder: Path, n: int, resume: bool) -> dict:
    model = sm.ACTIVA.load(folder / "model")
    model.generate(parts.BLOCK, seed=0)
    before, start, cpu = peak_memory(), time.perf_counter(), time.process_time()
    made = model.generate(n, seed=0, path=folder / "cells.zarr", overwrite=True, resume=resume, silent=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "cells": made.n_obs,
        "how": "in parts (resume=True)" if resume else "one process",
        "cells/s": round(n / seconds),
        "cells per processor second": round(n / cpu),
        "MiB above the model": round(peak_memory() - before),
        "store MiB": round(size_of(folder / "cells.zarr") / 2**20),
    }


def workers(folder: Path, n: int, n_workers: int) -> dict:
    from distributed import Client, LocalCluster

    settings = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        # imports and the model are paid for once
        first = {"n": 8 * parts.PART, "store": folder / "first.zarr", "overwrite": True}
        sm.tl.generate_distributed(folder / "model", **first, client=client, silent=True)
        join, joined = parts.Parts.join, []

        def timed(self, **kwargs):
            start = time.perf_counter()
            result = join(self, **kwargs)
            joined.append(time.perf_counter() - start)
            return result

        parts.Parts.join = timed
        start = time.perf_counter()
        sm.tl.generate_distributed(
            folder / "model", n, folder / "cells.zarr", client=client, overwrite=True, silent=True
        )
        seconds = time.perf_counter() - start
        peaks = client.run(peak_memory)
    return {
        "cells": n,
        "how": f"{n_workers} worker{'s' * (n_workers > 1)}",
        "cells/s": round(n / seconds),
        "seconds of the parts": round(seconds - joined[0], 1),
        "of joining them": round(joined[0], 1),
        "MiB of a worker": round(max(peaks.values())),
        "MiB of the client": round(peak_memory()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", help="a saved ACTIVA, in place of one that is trained on the data")
    parser.add_argument("--labels-key", default="cell_type")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.row:
        how, n, number = args.row.split()
        folder = Path(args.data)
        row = one_process(folder, int(n), number == "1") if how == "one" else workers(folder, int(n), int(number))
        print(json.dumps(row))
        return
    scvi.settings.seed = 0
    with tempfile.TemporaryDirectory() as folder:
        if args.model is None:
            trained(args.data, args.labels_key, args.genes, args.epochs).save(Path(folder) / "model")
        else:
            shutil.copytree(args.model, Path(folder) / "model")
        asked = [f"one {n} {resume}" for n in args.cells for resume in (0, 1)]
        asked += [f"workers {max(args.cells)} {number}" for number in args.workers]
        rows: dict[str, list] = {"one": [], "workers": []}
        for row in asked:
            command = [sys.executable, __file__, folder, "--row", row]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
            rows[row.split()[0]].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(json.dumps(rows[row.split()[0]][-1]), flush=True)
        for title, found in rows.items():
            show(found, list(found[0]), "One process" if title == "one" else "Dask")


if __name__ == "__main__":
    main()
