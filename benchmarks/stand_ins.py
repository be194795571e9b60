"""Simulated stand-ins for sets on which generators are weakest, as h5ad files for `codes.py`.

    python benchmarks/stand_ins.py --out sets
    python benchmarks/codes.py --data sets/deep_plates.h5ad --labels cell_type --resplit --out out
    python benchmarks/codes.py --data sets/deep_plates.h5ad --labels cell_type --batch batch --resplit --out out
    python benchmarks/codes.py --data sets/subtypes.h5ad --labels cell_type --resplit --out out

"deep_plates": 790 cells of five lines on three plates, 25,000 counts per cell. "subtypes": 1,500 cells of three types,
each of four subtypes that differ as much as types do and have no name, 5,000 counts per cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from anndata import AnnData

import scmimic as sm


def deep_plates(seed: int) -> AnnData:
    parameters = sm.datasets.SplatParameters(lib_loc=np.log(25_000), lib_scale=0.3, de_prob=0.2)
    adata = sm.datasets.splat(790, 5_000, n_batches=3, n_groups=5, parameters=parameters, seed=seed)
    adata.obs["cell_type"] = adata.obs["group"]
    return adata


def subtypes(seed: int) -> AnnData:
    parameters = sm.datasets.SplatParameters(lib_loc=np.log(5_000), lib_scale=0.3, de_prob=0.1)
    adata = sm.datasets.splat(1_500, 5_000, n_batches=1, n_groups=12, parameters=parameters, seed=seed)
    adata.obs["cell_type"] = (adata.obs["group"].cat.codes // 4).map("type_{}".format).astype("category")
    return adata


SETS = {"deep_plates": deep_plates, "subtypes": subtypes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the sets")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        SETS[name](args.seed).write_h5ad(args.out / f"{name}.h5ad")


if __name__ == "__main__":
    main()
