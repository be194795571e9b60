"""What does each part of ACTIVA add? One change at a time, several seeds, the protocol of realism.py.

    python benchmarks/ablation.py --data pbmc3k.h5ad --labels cell_type --seed 0 1 2 --out out
    python benchmarks/ablation.py --split-dir out --labels cell_type --only default warmup_alone --out out

Each row changes the default settings in one place; --out keeps every run in ablation.jsonl, and runs that are there
already are not repeated. --develop splits the training cells alone, so that settings can be chosen without the test
cells. Rows that differ only in how cells are drawn share one training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _codes import SAMPLERS
from _common import (
    add_source_arguments,
    append_json,
    environment,
    load_parts,
    mean_and_spread,
    realism_split,
    show,
    write_split,
)
from realism import Judge

import scmimic as sm
from scmimic.model.activa._presets import preset_for

MEASURES = (
    *("rf_auc_genes", "rf_auc_pc50", "rf_error_pct", "mmd2_pc50", "dcr_ratio", "zero_fraction", "label_agreement"),
    *("worst_type", "train_s"),
)
# Settings of the model, of its training and of generate, and where codes and library sizes come from. The length of the
# run is the default's unless said otherwise.
ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "prior": {"generate": {"codes": "prior"}},
    **{name: {"codes": name} for name in SAMPLERS},
    "no_spread": {"codes": "no_spread"},
    "no_margins": {"generate": {"match_margins": False}},
    "warmup_alone": {"train": {"only_warmup": True}},
    "no_game": {"train": {"plan_kwargs": {"alpha1": 0.0}}},
    "vae": {"train": {"plan_kwargs": {"alpha1": 0.0, "alpha_cell_type": 0.0}}},
    "game_0.1": {"train": {"plan_kwargs": {"alpha1": 0.1}}},
    "kl_0.25": {"train": {"plan_kwargs": {"kl_weight": 0.25}}},
    "kl_0.5": {"train": {"plan_kwargs": {"kl_weight": 0.5}}},
    "kl_2": {"train": {"plan_kwargs": {"kl_weight": 2.0}}},
    "no_calibration": {"train": {"calibrate_dispersion": False}},
    "no_baseline": {"model": {"label_baseline": 0.0}},
    "full_baseline": {"model": {"label_baseline": 1.0}},
    "gene_dispersion": {"model": {"dispersion": "gene"}},
    "zinb": {"model": {"gene_likelihood": "zinb"}},
    "poisson": {"model": {"gene_likelihood": "poisson"}},
    "no_library": {"model": {"library_covariate": False}},
    "latent_10": {"model": {"n_latent": 10}},
    "latent_64": {"model": {"n_latent": 64}},
    "wide": {"model": {"n_hidden": (512, 256)}},
    "dropout_0.1": {"model": {"dropout_rate": 0.1}},
}


def fit(row: dict[str, Any], train: ad.AnnData, labels_key: str, seed: int) -> tuple[sm.ACTIVA, float]:
    """Train one configuration; return it and the seconds that it took."""
    import scvi

    scvi.settings.seed = seed
    train = train.copy()
    sm.ACTIVA.setup_anndata(train, labels_key=labels_key)
    model = sm.ACTIVA(train, **row.get("model", {}))
    options = dict(row.get("train", {}))
    if options.pop("only_warmup", False):
        preset = preset_for(model.module.gene_likelihood)
        epochs = preset.epochs(train.n_obs, 128)
        options["max_epochs"] = options["warmup_epochs"] = preset.warmup(epochs)
    start = time.perf_counter()
    model.train(enable_progress_bar=False, **options)
    return model, time.perf_counter() - start


@contextmanager
def drawn_from(model: sm.ACTIVA, codes: str | None, seed: int) -> Iterator[None]:
    """Let a model draw its codes from elsewhere for a while, its margins matched for that."""
    if codes is None:
        yield
        return
    kept = model.posterior_, model.margins_, model.fitted_codes_
    model.posterior_ = replace(kept[0], spread=1.0, center=None)
    if codes in SAMPLERS:
        model.posterior_ = SAMPLERS[codes](model.posterior_, np.random.default_rng(seed))
    model._calibrate(dispersion=False, spread=False, margins=True)
    yield
    model.posterior_, model.margins_, model.fitted_codes_ = kept


def measure(judge: Judge, model: sm.ACTIVA, row: dict[str, Any], seed: int) -> dict[str, Any]:
    """Score the cells of one trained model."""
    asked = dict(row.get("generate", {}))
    if "codes" in row:
        # as they are in the posterior that took the place of the model's, not in a mixture fitted to it
        asked["codes"] = "posterior"
    with drawn_from(model, row.get("codes"), seed):
        cells = model.generate(labels=judge.wanted, seed=seed, **asked)
    labels = cells.obs[judge.labels_key].to_numpy().astype(str)
    result = judge.measure(sp.csr_matrix(cells.X), labels, seed=seed)
    real = result["label_agreement_per_type_real"]
    ratios = [share / real[name] for name, share in result["label_agreement_per_type"].items() if real[name] > 0]
    return result | {"worst_type": min(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="threads of the forests")
    parser.add_argument(
        "--develop", action="store_true", help="split the training cells again and leave the test cells"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parts = load_parts(args)
    if not args.split_dir:
        write_split(parts, args.out)
    if args.develop:
        parts = realism_split(parts["train"], args.labels, n_genes=args.genes, seed=1)
    judge = Judge(parts, args.labels, n_trees=args.trees, n_jobs=args.jobs)

    file = args.out / "ablation.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    source_name = str(args.split_dir or args.data)
    fixed = {"source": source_name, "labels": args.labels, "trees": args.trees, "develop": args.develop}
    rows = [row for row in done if row["name"] in args.only and all(row[key] == value for key, value in fixed.items())]
    for seed in args.seed:
        trained: dict[str, tuple[sm.ACTIVA, float]] = {}
        for name in args.only:
            if any(row["name"] == name and row["seed"] == seed for row in rows):
                continue
            settings = json.dumps({key: ROWS[name].get(key) for key in ("model", "train")})
            if settings not in trained:
                trained[settings] = fit(ROWS[name], parts["train"], args.labels, seed)
            model, seconds = trained[settings]
            result = measure(judge, model, ROWS[name], seed)
            rows.append({"name": name, "seed": seed, **fixed, "train_s": seconds, **result})
            append_json(file, [rows[-1] | {"settings": ROWS[name], "environment": environment()}])
    show(mean_and_spread(rows, ("name",), MEASURES), ["name", "seeds", *MEASURES], f"{source_name}, {args.labels}")


if __name__ == "__main__":
    main()
