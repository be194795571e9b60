"""Which representation keeps batch, path, step and library size apart? Every metric, several seeds.

    python benchmarks/disentanglement.py --data linear.h5ad nonlinear.h5ad --row pca ica ppca --seed 0 1 2 3 4 --out out
    python benchmarks/disentanglement.py --data kang.h5ad --genes 2000 --factors condition cell_type library_size \\
        --out out

The files hold raw counts. `library_size` is the total of a cell over all genes, cut into quartiles where a metric needs
classes.
--input says how linear rows (and models with a Gaussian likelihood) see the counts; count models take them as they are.
Each run is kept in disentanglement.jsonl of --out, and runs that are there already are not repeated.

A further row is one more entry of ROWS: a function of the cells, a seed and the epochs asked for that returns a Latent.
`trained` makes it for a model of scvi-tools' kind. The rows of VARIANTS change one default of BetaTCVAE each.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
from _common import append_json, environment, gene_scores, log_normalise, mean_and_spread, show
from sklearn.decomposition import PCA, FastICA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import scmimic as sm

N_LATENT = 10
INPUT = "input"
LIBRARY = "library_size"
MEASURES = (
    *("mig_posterior", "mig_histogram", "mig_quantile", "mig_knn", "factor_vae", "factor_vae_michigan"),
    *("spearman_gap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap", "modularity"),
    *("lms_smi", "lms_spn", "lms_asc", "lms_gain", "reconstruction", "reconstruction_held_out", "train_s"),
)


@dataclass
class Latent:
    """What a row hands to the judge."""

    mean: np.ndarray
    """Codes, or the means of their posteriors: cells x dimensions."""
    variance: np.ndarray | None = None
    """Variances of the posteriors, where there are any."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the figures depend on, such as beta and epochs; kept with the result."""
    reconstruction: float | None = None
    """Negative log likelihood per training cell in the last epoch, where there is a decoder."""
    reconstruction_held_out: float | None = None
    """The same of the cells that --held-out kept from the training."""


Fit = Callable[[ad.AnnData, int, Mapping[str, Any]], Latent]
"""Of the cells, a seed, and what the training is asked for (`max_epochs`, `train_size`)."""


@dataclass
class Row:
    """A way to get a representation."""

    fit: Fit
    has_epochs: bool = False
    """Whether --epochs changes the result."""
    on_counts: bool = False
    """Whether it sees the counts themselves, whatever --input says."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What differs from a model's defaults; a row whose settings have changed is run anew."""


def judge(
    mean: np.ndarray, factors: Mapping[str, Any], variance: np.ndarray | None = None, *, seed: int = 0
) -> dict[str, float]:
    """All figures of one representation; `metric` over all factors, `metric:factor` of each."""
    obs = pd.DataFrame({name: np.asarray(values) for name, values in factors.items()})
    cells = ad.AnnData(obs=obs.set_index(obs.index.astype(str)))
    cells.obsm["latent"] = mean
    if variance is not None:
        cells.obsm["variance"] = variance
    table = sm.tl.disentanglement(
        cells, use_rep="latent", use_var=None if variance is None else "variance", factors=list(factors), seed=seed
    )
    row = {
        metric if factor == "overall" else f"{metric}:{factor}": float(value)
        for metric, factor, value in table.itertuples(index=False)
    }
    known = {name: obs[name].to_numpy() for name in obs}
    row["mig_quantile"] = sm.metrics.mutual_information_gap(mean, known, estimator="histogram", strategy="quantile")
    row["factor_vae_michigan"] = sm.metrics.factor_vae_score(mean, known, vote="michigan_argmax", seed=seed)
    return row


def pca(cells: ad.AnnData, seed: int, asked: Mapping[str, Any]) -> Latent:
    return Latent(PCA(N_LATENT, svd_solver="arpack", random_state=seed).fit_transform(cells.layers[INPUT]))


def ica(cells: ad.AnnData, seed: int, asked: Mapping[str, Any]) -> Latent:
    """FastICA of the principal components, which is what its own whitening would give it."""
    model = FastICA(N_LATENT, whiten="unit-variance", max_iter=2000, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        # whether it converged is kept with the result
        warnings.simplefilter("ignore")
        codes = model.fit_transform(pca(cells, seed, asked).mean)
    return Latent(codes, settings={"n_iter": int(model.n_iter_), "converged": bool(model.n_iter_ < 2000)})


def known_axis(by_type: bool) -> Fit:
    """A ceiling, with labels: the axis of the condition, and components from which the condition is taken out.

    The axis is that of a linear discriminant analysis of 50 components, by 10-fold cross-validation; the condition's
    mean is taken out of nine components over all cells, or in each type.
    """

    def fit(cells: ad.AnnData, seed: int, asked: Mapping[str, Any]) -> Latent:
        known = cells.obs["condition"].to_numpy() == cells.obs["condition"].to_numpy()[0]
        components = PCA(50, svd_solver="arpack", random_state=seed).fit_transform(cells.layers[INPUT])
        folds = StratifiedKFold(10, shuffle=True, random_state=seed)
        axis = cross_val_predict(LinearDiscriminantAnalysis(), components, known, cv=folds, method="decision_function")
        groups = cells.obs["cell_type"].astype(str).to_numpy() if by_type else np.zeros(len(known))
        rest = pd.DataFrame(components[:, : N_LATENT - 1])
        shift = rest.groupby([groups, known]).transform("mean") - rest.groupby(groups).transform("mean")
        return Latent(np.column_stack([axis, rest - shift]))

    return fit


def ppca(cells: ad.AnnData, seed: int, asked: Mapping[str, Any]) -> Latent:
    model = sm.baselines.PPCA(cells, n_latent=N_LATENT, layer=INPUT).fit(seed)
    return Latent(*model.get_latent_representation(return_dist=True))


def trained(
    model_class: Any,
    *,
    on_counts: bool = False,
    init: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> Row:
    """Row of a model of scvi-tools' kind, with what its constructor and train are given."""
    init, train = dict(init or {}), dict(train or {})

    def fit(cells: ad.AnnData, seed: int, asked: Mapping[str, Any]) -> Latent:
        scvi.settings.seed = seed
        cells = cells.copy()
        model_class.setup_anndata(cells, layer=None if on_counts else INPUT)
        model = model_class(cells, **{"n_latent": N_LATENT, **init})
        model.train(enable_progress_bar=False, **{**asked, **train})
        mean, variance = model.get_latent_representation(return_dist=True)
        known = {name: value for name, value in model.init_params_["non_kwargs"].items() if value is not None}
        run = max(map(len, model.history.values()))
        settings = {"init": known, "epochs": run, "train": train}
        last = {part: values.iloc[-1, 0] for part, values in model.history.items() if part.startswith("reconstruction")}
        held_out = last.get("reconstruction_loss_validation")
        return Latent(mean, variance, settings, last["reconstruction_loss_train"], held_out)

    return Row(fit, has_epochs=True, on_counts=on_counts, asked={"init": init, "train": train})


def as_published(beta: float) -> Row:
    """BetaTCVAE as the paper has it, but for the epochs."""
    init = {"n_comps": None, "standardize": False, "posterior_gradients": True, "dropout_rate": 0.2}
    plan = {"memory_size": 0, "lr_final_factor": 1.0}
    return trained(sm.BetaTCVAE, init={"beta": beta} | init, train={"plan_kwargs": plan})


VARIANTS: dict[str, dict[str, Any]] = {
    "pca_start": {"init": {"start": "pca"}},
    "pca_start_split_sum": {"init": {"start": "pca", "split_aggregation": "sum"}},
    "pca_start_split_logsumexp": {"init": {"start": "pca", "split_aggregation": "logsumexp"}},
    "split_sum": {"init": {"split_aggregation": "sum"}},
    "kl_warmup": {"train": {"plan_kwargs": {"n_epochs_kl_warmup": 6}}},
    "beta_warmup": {"train": {"plan_kwargs": {"n_epochs_beta_warmup": 6}}},
    "comps_20": {"init": {"n_comps": 20}},
    "latent_6": {"init": {"n_latent": 6}},
    "kl_4": {"init": {"kl_weight": 4.0}},
    "beta_5": {"init": {"beta": 5.0}},
    "beta_10": {"init": {"beta": 10.0}},
    "beta_50": {"init": {"beta": 50.0}},
    "kl_0.5": {"init": {"kl_weight": 0.5}},
    "mws": {"init": {"estimator": "mws"}},
    "through_posteriors": {"init": {"posterior_gradients": True}},
    "batch_alone": {"train": {"plan_kwargs": {"memory_size": 0}}},
    "memory_4096": {"train": {"plan_kwargs": {"memory_size": 4096}}},
    "batch_512": {"train": {"batch_size": 512}},
    "all_genes": {"init": {"n_comps": None}},
    "comps_100": {"init": {"n_comps": 100}},
    "not_standardized": {"init": {"standardize": False}},
    "dropout_0.2": {"init": {"dropout_rate": 0.2}},
    "lr_3e-3": {"train": {"plan_kwargs": {"lr": 3e-3}}},
    "constant_lr": {"train": {"plan_kwargs": {"lr_final_factor": 1.0}}},
    "gene_noise": {"init": {"noise": "gene"}},
    "nb": {"init": {"gene_likelihood": "nb"}, "on_counts": True},
    "nb_beta_100": {"init": {"gene_likelihood": "nb", "beta": 100.0}, "on_counts": True},
}

ROWS = {
    "pca": Row(pca),
    "ica": Row(ica),
    "ppca": Row(ppca),
    "known_axis": Row(known_axis(by_type=False)),
    "known_axis_by_type": Row(known_axis(by_type=True)),
    "vae": trained(sm.BetaTCVAE, init={"beta": 0.0}),
    "beta_vae": trained(sm.BetaTCVAE, init={"beta": 0.0, "kl_weight": 4.0}),
    "beta_tcvae": trained(sm.BetaTCVAE),
    # takes the library size as observed, so that its latent space need not hold it
    "scvi": trained(scvi.model.SCVI, on_counts=True),
    # the paper's beta for linear and for non-linear steps
    "published_10": as_published(10.0),
    "published_50": as_published(50.0),
    **{name: trained(sm.BetaTCVAE, **changes) for name, changes in VARIANTS.items()},
}


REFERENCES = ["pca", "ica", "ppca", "vae", "beta_vae", "beta_tcvae", "scvi"]


def log1p_scaled(x: sp.csr_matrix) -> sp.csr_matrix:
    """log1p counts, each gene over its standard deviation."""
    x = x.log1p()
    mean = np.asarray(x.mean(axis=0)).ravel()
    sd = np.sqrt(np.maximum(np.asarray(x.power(2).mean(axis=0)).ravel() - mean**2, 0))
    return sp.csr_matrix(x @ sp.diags(np.divide(1, sd, out=np.zeros_like(sd), where=sd > 0)))


INPUTS: dict[str, Callable[[sp.csr_matrix], sp.csr_matrix]] = {
    "log1p": lambda x: x.log1p(),
    "log1p_scaled": log1p_scaled,
    "lognorm": log_normalise,
}


def read(path: str, factors: list[str], space: str, genes: int | None) -> ad.AnnData:
    """Counts with the input of the linear rows as a layer, and the factors as columns of obs."""
    cells = ad.read_h5ad(path)
    counts = sp.csr_matrix(cells.X, dtype=np.float64)
    cells.obs[LIBRARY] = np.asarray(counts.sum(axis=1)).ravel()
    if genes is not None:
        chosen = np.sort(np.argsort(-gene_scores(counts))[:genes])
        cells, counts = cells[:, chosen].copy(), counts[:, chosen]
    cells.X = counts.astype(np.float32)
    if missing := [name for name in factors if name not in cells.obs]:
        raise SystemExit(f"{path}: no column {missing} in .obs. It holds: {list(cells.obs.columns)}.")
    cells.layers[INPUT] = INPUTS[space](counts)
    return cells


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds; LMS also over that of PCA on the same data, input and seed."""
    same = ("data", "input", "seed")
    base = {tuple(row[key] for key in same): row["lms_smi"] for row in rows if row["name"] == "pca"}
    for row in rows:
        # count models have the principal components of log1p counts beside them
        space = "log1p" if row["input"] == "counts" else row["input"]
        if reference := base.get((row["data"], space, row["seed"])):
            row["lms_gain"] = row["lms_smi"] / reference
    return mean_and_spread(rows, ("data", "input", "name"), MEASURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="h5ad files with raw counts in X")
    parser.add_argument("--factors", nargs="+", default=["batch", "path", "step", LIBRARY])
    parser.add_argument("--genes", type=int, help="most variable genes to keep; all without")
    parser.add_argument("--row", nargs="+", choices=ROWS, default=REFERENCES, metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--input", nargs="+", choices=INPUTS, default=["log1p"], metavar="INPUT", help=" ".join(INPUTS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, help="epochs of the models; their own default without")
    parser.add_argument("--held-out", type=float, default=0.0, help="share of the cells that models do not train on")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    file = args.out / "disentanglement.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    asked: dict[str, Any] = {"max_epochs": args.epochs}
    if args.held_out:
        asked |= {"train_size": 1 - args.held_out, "check_val_every_n_epoch": 1}
    rows = []
    for path in args.data:
        for space in args.input:
            cells = None
            # seeds outside, so that an interrupted run has every row
            for seed in args.seed:
                for name in args.row:
                    key: dict[str, Any] = {
                        "data": Path(path).stem,
                        "input": "counts" if ROWS[name].on_counts else space,
                        "name": name,
                        "seed": seed,
                        "factors": args.factors,
                        "genes": args.genes,
                        "asked": ROWS[name].asked,
                        "asked_epochs": args.epochs if ROWS[name].has_epochs else None,
                        "held_out": (args.held_out or None) if ROWS[name].has_epochs else None,
                    }
                    found = [row for row in rows + done if all(row.get(k) == value for k, value in key.items())]
                    if not found:
                        cells = read(path, args.factors, space, args.genes) if cells is None else cells
                        start = time.perf_counter()
                        latent = ROWS[name].fit(cells, seed, asked)
                        seconds = time.perf_counter() - start
                        factors = {factor: cells.obs[factor].to_numpy() for factor in args.factors}
                        figures = judge(latent.mean, factors, latent.variance, seed=seed)
                        losses = {name: getattr(latent, name) for name in ("reconstruction", "reconstruction_held_out")}
                        figures |= {name: float(value) for name, value in losses.items() if value is not None}
                        found = [{**key, "train_s": seconds, **figures, "settings": latent.settings}]
                        append_json(file, [found[0] | {"environment": environment()}])
                    if found[0] not in rows:
                        rows.append(found[0])
    lines = {" ".join((line["data"], line["input"], line["name"])): line for line in summary(rows)}
    # more measures than rows: one line per measure
    table = [{"measure": m} | {name: line.get(m) for name, line in lines.items()} for m in ("seeds", *MEASURES)]
    show(table, ["measure", *lines], ", ".join(args.factors))


if __name__ == "__main__":
    main()
