"""Does a generator repeat itself where more cells are asked for than it was trained on?

    python benchmarks/diversity.py --data pbmc3k.h5ad --labels cell_type --codes posterior prior --seed 0 1 2 --out out

Cells and split are those of `realism.py`. ACTIVA is trained on train; each source of codes makes 1, 5 and 20 times as
many cells. Measured is the distance within them over that within the real cells (train and test together) at as many
cells, on 50 principal components fitted on reference, and the distance to the nearest training cell over that of a test
cell. The reference rows are a half of the real cells against the other half (at no more cells than a half has), a
generator that returns its training cells, and one that draws each gene alone. --out keeps models (what is there is not
trained again), a line of diversity.jsonl per row, and a picture.
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from _common import (
    add_source_arguments,
    append_json,
    environment,
    json_object,
    load_parts,
    log_normalise,
    mean_and_spread,
    show,
    trained,
)
from sklearn.decomposition import PCA

import scmimic as sm

TIMES = (1, 5, 20)
REFERENCES = {"memoriser": sm.baselines.Memoriser, "independent_nb": sm.baselines.IndependentNB}
COLUMNS = ["name", "seed", "times", "n", "ratio", "low", "high", "dcr_ratio", "generate_s", "measure_s"]


def project(pca: PCA, cells: ad.AnnData) -> np.ndarray:
    """Principal components of the log-normalised cells, some thousands at once."""
    blocks = range(0, cells.n_obs, 4096)
    return np.vstack([pca.transform(log_normalise(cells.X[i : i + 4096]).toarray()) for i in blocks])


def draw(model: Any, codes: str, n: int, seed: int) -> ad.AnnData:
    """Cells from a source of codes, whatever the argument is called."""
    known = inspect.signature(model.generate).parameters
    return model.generate(n, seed=seed, **{"codes" if "codes" in known else "method": codes})


def measure(real: np.ndarray, synthetic: np.ndarray, n: int, args: argparse.Namespace) -> dict[str, Any]:
    """Ratio at `n`, or at as many cells as there are or the real ones tell of."""
    start = time.perf_counter()
    n = min(n, len(synthetic), len(real) * (len(real) - 1) // 40)
    found = sm.metrics.self_distance_ratio(real, synthetic, n=n, n_jobs=args.jobs)
    low, high = found.interval
    row = {"n": n, "ratio": found.ratio, "low": low, "high": high}
    return row | {"measure_s": time.perf_counter() - start, "result": found}


def rows(parts: dict[str, ad.AnnData], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each generator, number of cells and seed."""
    fitted = log_normalise(parts["reference"].X).toarray()
    pca = PCA(min(50, *fitted.shape), random_state=0).fit(fitted)
    train, test = (project(pca, parts[name]) for name in ("train", "test"))
    real, n_train = np.vstack([train, test]), len(train)
    generators = {name: REFERENCES[name](parts["train"], labels_key=args.labels).fit() for name in args.references}
    for seed in args.seed:
        halves = np.array_split(np.random.default_rng(seed).permutation(len(real)), 2)
        folder = Path(args.out) / f"model_seed{seed}"
        options = {"epochs": args.epochs, **args.model_kwargs}
        model = trained(parts["train"], args.labels, folder, seed, **options) if args.codes else None
        for times in TIMES:
            n = times * n_train
            at = {"seed": seed, "times": times}
            yield at | {"name": "real replicate"} | measure(real[halves[0]], real[halves[1]], n, args)
            for name in (*args.references, *args.codes):
                start = time.perf_counter()
                cells = generators[name].generate(n, seed=seed) if name in generators else draw(model, name, n, seed)
                row = at | {"name": name, "generate_s": time.perf_counter() - start}
                pcs = project(pca, cells)
                row["dcr_ratio"] = sm.metrics.distance_to_closest_record(train, pcs, test, max_cells=3000).ratio
                yield row | measure(real, pcs, n, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--codes", nargs="*", default=["posterior", "prior"], help="sources of codes of `generate`")
    parser.add_argument("--references", nargs="*", default=list(REFERENCES), choices=list(REFERENCES))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2], help="of training and generation")
    parser.add_argument("--epochs", type=int, help="max_epochs of the model; default: its own")
    parser.add_argument("--jobs", type=int, default=1, help="threads of the distances")
    parser.add_argument("--out", required=True, help="folder for models, diversity.jsonl and the picture")
    parser.add_argument("--model-kwargs", type=json_object, default={}, help="JSON object")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    table, curves = [], {}
    for row in rows(load_parts(args), args):
        result = row.pop("result")
        if row["times"] == max(TIMES) and row["seed"] == args.seed[0]:
            curves[row["name"]] = result
        table.append(row)
        show([row], COLUMNS, row["name"])
        origin = {"source": args.split_dir or args.data, "environment": environment()}
        append_json(out / "diversity.jsonl", [row | origin])
    figure = sm.pl.self_distance(curves, title=f"{max(TIMES)} times the training cells", return_fig=True)
    figure.savefig(out / "diversity.png", dpi=150)
    table.sort(key=lambda row: (row["times"], row["name"]))
    measures = ("n", "ratio", "dcr_ratio", "generate_s", "measure_s")
    summary = mean_and_spread(table, ("times", "name"), measures)
    show(summary, ["times", "name", "seeds", *measures], f"{args.split_dir or args.data}, {args.labels}")


if __name__ == "__main__":
    main()
