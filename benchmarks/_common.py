"""What the benchmarks share: splits, the space in which cells are compared, tables and result files."""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import train_test_split

PARTS = ("train", "reference", "test")
MIN_TEST_CELLS = 40
"""A forest that sees one group alone needs so many."""


def read_counts(path: str | Path, labels_key: str) -> ad.AnnData:
    """Read an h5ad file of raw counts as CSR, with its labels as text."""
    adata = ad.read_h5ad(path)
    if labels_key not in adata.obs:
        raise SystemExit(f"{path}: there is no column {labels_key!r} in .obs. It holds: {list(adata.obs.columns)}.")
    adata.X = sp.csr_matrix(adata.X)
    if (adata.X.data < 0).any() or (adata.X.data != np.rint(adata.X.data)).any():
        raise SystemExit(f"{path}: .X must hold raw counts.")
    adata = adata[adata.obs[labels_key].notna().to_numpy()].copy()
    adata.obs[labels_key] = adata.obs[labels_key].astype(str)
    return adata


def drop_rare(adata: ad.AnnData, labels_key: str, min_cells: int) -> ad.AnnData:
    """Keep the types with at least `min_cells` cells."""
    labels = adata.obs[labels_key]
    return adata[labels.map(labels.value_counts()).to_numpy() >= min_cells].copy()


def log_normalise(x: sp.spmatrix | np.ndarray, target_sum: float = 1e4) -> sp.csr_matrix:
    """Scale each cell to `target_sum` and take log1p, in double precision; cells without counts stay zero."""
    x = sp.csr_matrix(x, dtype=np.float64, copy=True)
    total = np.asarray(x.sum(axis=1)).ravel()
    x = sp.csr_matrix(sp.diags(target_sum / np.maximum(total, 1e-12)) @ x)
    x.data = np.log1p(x.data)
    return x


def auc_of_groups(real: Any, fake: Any, of_real: np.ndarray, of_fake: np.ndarray, **forest: Any) -> dict[str, float]:
    """AUC of a forest that sees one group alone, for each group with `MIN_TEST_CELLS` real cells."""
    from scmimic.metrics import discriminator_auc

    groups = [
        str(group) for group, n in zip(*np.unique(of_real, return_counts=True), strict=True) if n >= MIN_TEST_CELLS
    ]
    return {
        group: float(discriminator_auc(real[of_real == group], fake[of_fake == group], **forest)) for group in groups
    }


def gene_scores(counts: sp.csr_matrix, min_cells: int = 10) -> np.ndarray:
    """Score genes by how far log variance lies above its cubic trend on log mean, with a bonus for the mean."""
    x = log_normalise(counts)
    mean = np.asarray(x.mean(axis=0)).ravel()
    variance = np.asarray(x.power(2).mean(axis=0)).ravel() - mean**2
    known = np.flatnonzero(counts.getnnz(axis=0) >= min_cells)
    log_mean, log_variance = np.log(mean[known]), np.log(variance[known])
    trend = np.polyval(np.polyfit(log_mean, log_variance, 3), log_mean)
    scores = np.full(counts.shape[1], -np.inf)
    scores[known] = log_variance - trend + 0.5 * log_mean
    return scores


def realism_split(adata: ad.AnnData, labels_key: str, *, n_genes: int = 1000, seed: int = 0) -> dict[str, ad.AnnData]:
    """Split cells 60 / 15 / 25 % by type into train, reference and test; choose the genes on train alone."""
    adata = drop_rare(adata, labels_key, 30)
    labels = adata.obs[labels_key].to_numpy()
    rest, test = train_test_split(np.arange(adata.n_obs), test_size=0.25, stratify=labels, random_state=seed)
    train, reference = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=seed)
    genes = np.sort(np.argsort(-gene_scores(adata.X[train]))[:n_genes])
    parts = {}
    for name, index in zip(PARTS, (train, reference, test), strict=True):
        part = adata[np.sort(index)][:, genes].copy()
        parts[name] = part[np.asarray(part.X.sum(axis=1)).ravel() > 0].copy()
    return parts


def read_split(folder: str | Path, labels_key: str) -> dict[str, ad.AnnData]:
    """Read train, reference and test from a folder."""
    return {name: read_counts(Path(folder) / f"{name}.h5ad", labels_key) for name in PARTS}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the cells come from: a file that is split, or a folder with the parts."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="h5ad file with raw counts in X")
    source.add_argument("--split-dir", help="folder with train, reference and test .h5ad")
    parser.add_argument("--labels", required=True, help="column of obs with the cell types")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--split-seed", type=int, default=0)


def load_parts(args: argparse.Namespace) -> dict[str, ad.AnnData]:
    """Read or make the parts, as the arguments of :func:`add_source_arguments` say."""
    if args.split_dir:
        return read_split(args.split_dir, args.labels)
    return realism_split(read_counts(args.data, args.labels), args.labels, n_genes=args.genes, seed=args.split_seed)


def write_split(parts: Mapping[str, ad.AnnData], folder: str | Path) -> None:
    """Write train, reference and test into a folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        part.write_h5ad(Path(folder) / f"{name}.h5ad", compression="gzip")


def trained(
    train: ad.AnnData,
    labels_key: str,
    folder: str | Path,
    seed: int,
    *,
    epochs: int | None = None,
    batch_key: str | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    **model_kwargs: Any,
) -> Any:
    """ACTIVA of a seed: trained and saved in `folder`, or what was saved there."""
    import scvi

    import scmimic as sm

    train = train.copy()
    if Path(folder).exists():
        return sm.ACTIVA.load(folder, adata=train)
    scvi.settings.seed = seed
    sm.ACTIVA.setup_anndata(train, labels_key=labels_key, batch_key=batch_key)
    model = sm.ACTIVA(train, **model_kwargs)
    model.train(max_epochs=epochs, **(train_kwargs or {}))
    model.save(folder)
    return model


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("scmimic", "scvi-tools", "torch", "scikit-learn", "anndata"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory() -> float:
    """Highest resident memory of this process, in MiB. `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def append_json(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON line per row."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for row in rows:
            file.write(json.dumps(row, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def show(rows: list[dict[str, Any]], columns: list[str], title: str) -> None:
    """Print a table; columns that no row has are left out."""
    columns = [column for column in columns if any(row.get(column) is not None for row in rows)]
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if isinstance(rows[0].get(column), str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    # a file has no width to fit into
    console = Console()
    (console if console.is_terminal else Console(width=220)).print(table)


def put_table(page: str, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Put rows into a table of the documentation; `docs/results.py` says what cells are, and takes over JSON lines."""
    sys.path.append(str(Path(__file__).parents[1] / "docs"))
    import results

    results.put(page, name, columns, rows)


def mean_and_spread(rows: list[dict[str, Any]], by: Iterable[str], measures: Iterable[str]) -> list[dict[str, Any]]:
    """One line for all rows that agree in `by`: their number, and mean and standard deviation of each measure."""
    by, table = tuple(by), []
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        runs = [row for row in rows if tuple(row[name] for name in by) == key]
        line: dict[str, Any] = dict(zip(by, key, strict=True)) | {"seeds": len(runs)}
        for measure in measures:
            values = np.array([run[measure] for run in runs if run.get(measure) is not None])
            if len(values):
                spread = f" ± {values.std(ddof=1):.3g}" if len(values) > 1 else ""
                line[measure] = f"{values.mean():.4g}{spread}"
        table.append(line)
    return table


def mean_of_each(draws: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over several draws of cells."""
    return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def json_object(text: str) -> dict[str, Any]:
    """Parse the JSON object of a command-line option."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object such as '{{\"n_latent\": 32}}' is needed, got {text!r}")
    return value
