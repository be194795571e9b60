"""Does MichiGAN generate from the codes of its beta-TCVAE, and keep what they mean? Tables 2 and 3 of the paper.

    python benchmarks/michigan.py --data linear.h5ad --labels path --seed 0 1 2 --out out
    python benchmarks/michigan.py --data kang.h5ad --labels cell_type \\
        --factors condition cell_type library_size --out out

The file holds raw counts and the factors as columns of .obs; `library_size` is the total of a cell over its genes.
Cells are split as in gan.py, without types: each model sees the training cells' log expression (--input) and generates
as many cells as there are, in their proportions. For each seed one beta-TCVAE is trained, and MichiGAN on its codes
(posterior samples, `michigan`, or means, `michigan_mean`); its `seconds` hold those of the beta-TCVAE. Codes of
InfoWGAN-GP are its ten, of WGAN-GP all 128 of its noise. For each row:

- `gap`: Spearman gap between the codes that cells were generated from and the factors that the cells show, read by
  three nearest real cells (the paper's section 3.3); all rows alike. `gap_real`, of the beta-TCVAE: between the
  posterior means of real cells and their own factors, which is what the paper's table 3 has beside the GANs' `gap`.
- `faithfulness`: median over informative dimensions of the correlation of codes with those of the generated cells;
  `informative` is their number and `ceiling` the median of what the posteriors allow samples to reach.
- random-forest error and inception score, as in gan.py: on counts scaled to 10,000 and log1p'd, whatever --input is.

Each run is kept in michigan.jsonl of --out, and runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scvi
from _common import add_source_arguments, append_json, environment, load_parts, mean_and_spread, show
from disentanglement import INPUTS, LIBRARY, N_LATENT
from gan import LOG, Fitted, add_log, beta_tcvae, finite, infowgangp, measure, michigan, wgangp

import scmimic as sm
from scmimic.metrics._factors import gap

VAE = "beta_tcvae"
CODES = {"michigan": "sample", "michigan_mean": "mean"}
GANS = {"wgangp": wgangp, "infowgangp": infowgangp}
ROWS = (VAE, *CODES, *GANS)
MEASURES = (
    *("gap", "gap_real", "faithfulness", "ceiling", "informative"),
    *("random_forest_error", "inception_score", "real", "seconds"),
)


def asked_epochs(name: str, args: argparse.Namespace) -> list[int | None]:
    """Epochs asked for of the models that a row trains."""
    if name == VAE:
        return [args.vae_epochs]
    return [args.vae_epochs, args.michigan_epochs] if name in CODES else [args.gan_epochs]


def fit(name: str, train: ad.AnnData, epochs: list[int | None]) -> Fitted:
    if name in GANS:
        return GANS[name](train, None, *epochs, log=True)
    vae = beta_tcvae(train, None, epochs[0], n_latent=N_LATENT)
    return vae if name == VAE else michigan(vae, epochs[-1], CODES[name])


def gaps(table: np.ndarray, factors: list[str], name: str) -> dict[str, float]:
    """Spearman gap of each factor, and their mean, from correlations (dimensions x factors)."""
    values = gap(np.abs(table))
    return {name: float(values.mean())} | {f"{name}:{f}": float(v) for f, v in zip(factors, values, strict=True)}


def judge(fitted: Fitted, parts: Mapping[str, ad.AnnData], train: ad.AnnData, args: argparse.Namespace, seed: int):
    """All figures of one row."""
    model = fitted.models[-1]
    cells = fitted.generate(seed, n=train.n_obs)
    cells.layers[LOG] = cells.X
    rep = f"X_{type(model).__name__.lower()}"
    table = sm.tl.code_factor_correlation(train, cells, factors=args.factors, use_rep=rep, layer=LOG, log1p=False)
    row = gaps(table.to_numpy(), args.factors, "gap")
    row |= measure(parts, fitted.compared(cells), args.labels, seed=seed, trees=args.trees)
    if isinstance(model, sm.BetaTCVAE):
        known = {name: train.obs[name].to_numpy() for name in args.factors}
        codes = model.get_latent_representation()
        row |= gaps(sm.metrics.spearman_correlation(codes, known), args.factors, "gap_real")
    if isinstance(model, sm.BetaTCVAE | sm.MichiGAN):
        # by the representation itself, which knows the widths of its posteriors also where its means were the codes
        found = sm.tl.code_faithfulness(cells, fitted.models[0], use_rep=rep)
        sure = found[found["informative"]]
        row |= {"faithfulness": sure["pearson"].median(), "ceiling": sure["ceiling"].median(), "informative": len(sure)}
        row["correlations"] = found["pearson"].round(4).tolist()
    return row | {"finite": all(map(finite, fitted.models))}


def run(names: list[str], parts: Mapping[str, ad.AnnData], args: argparse.Namespace, seed: int):
    """Each row's figures, as soon as they are there."""
    train = add_log(parts["train"], INPUTS[args.input])
    train.obs[LIBRARY] = np.asarray(train.X.sum(axis=1)).ravel()
    if missing := [name for name in args.factors if name not in train.obs]:
        raise SystemExit(f"There is no column {missing} in .obs. It holds: {list(train.obs.columns)}.")
    for name in names:
        scvi.settings.seed = seed
        fitted = fit(name, train, asked_epochs(name, args))
        yield {"row": name, **judge(fitted, parts, train, args, seed), "seconds": fitted.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.set_defaults(genes=2000)
    parser.add_argument("--factors", nargs="+", default=["batch", "path", "step", LIBRARY])
    parser.add_argument("--input", choices=INPUTS, default="log1p", metavar="INPUT", help=" ".join(INPUTS))
    parser.add_argument("--row", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--vae-epochs", type=int, help="of the beta-TCVAE; its own default without")
    parser.add_argument("--michigan-epochs", type=int, help="of MichiGAN; its own default without")
    parser.add_argument("--gan-epochs", type=int, help="of WGAN-GP and InfoWGAN-GP; their own default without")
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    about: dict[str, Any] = {"data": Path(args.split_dir or args.data).stem, "labels": args.labels}
    about |= {"factors": args.factors, "input": args.input, "genes": args.genes, "trees": args.trees}
    file = args.out / "michigan.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    parts = None
    for seed in args.seed:
        keys = {name: {**about, "row": name, "seed": seed, "epochs": asked_epochs(name, args)} for name in args.row}
        known = {name for name, key in keys.items() if any(row | key == row for row in rows)}
        if wanted := [name for name in args.row if name not in known]:
            parts = load_parts(args) if parts is None else parts
            for row in run(wanted, parts, args, seed):
                rows.append(keys[row["row"]] | row)
                append_json(file, [rows[-1] | environment()])
    same = [row for row in rows if row | about == row]
    table = mean_and_spread(same, ("data", "input", "row"), MEASURES)
    show(table, ["data", "input", "row", "seeds", *MEASURES], ", ".join(args.factors))


if __name__ == "__main__":
    main()
