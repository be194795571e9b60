"""A normal session with one model: what is shown on the terminal is what this program, run by a test, writes."""

import sys
import warnings
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import scvi

import scmimic as sm
from scmimic._noise import without_noise


def main(folder: Path) -> None:
    cells = sm.datasets.synthetic_counts(n_obs=100, n_vars=20, seed=0)
    cells.obs["donor"] = np.where(np.arange(100) % 2, "a", "b")
    train, test = cells[:60].copy(), cells[60:].copy()
    quiet = {"enable_progress_bar": False}

    sm.ACTIVA.setup_anndata(train, labels_key="cell_type", categorical_covariate_keys=["donor"])
    model = sm.ACTIVA(train, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=2, warmup_epochs=1, **quiet)
    model.get_latent_representation(test)
    model.classify(test)
    new = model.generate(40, seed=0)
    for name in ("new.h5ad", "new.zarr"):
        model.generate(40, seed=0, path=folder / name).to_memory()
    ad.read_zarr(folder / "new.zarr")
    model.save(folder / "model", save_anndata=True)
    sm.ACTIVA.load(folder / "model")
    model.save(folder / "alone")
    sm.ACTIVA.load(folder / "alone").generate(3, seed=0)
    # the verdict on two epochs is ours to say
    warnings.filterwarnings("ignore", "Smooth output")
    sm.evaluate(test, new, labels_key="cell_type", train=train, metrics="mmd")

    michigan = sm.MichiGAN.from_representation(model, n_hidden_generator=(8,), n_hidden_critic=(8,))
    michigan.train(max_epochs=1, **quiet)
    michigan.save(folder / "michigan")
    sm.MichiGAN.load(folder / "michigan", adata=train)

    reference = sm.baselines.SCVIReference(train, labels_key="cell_type", max_epochs=1).fit(seed=0)
    reference.generate(5, seed=0)

    # what users do with mudata by themselves is not ours
    with without_noise():
        mdata = md.MuData({"rna": train.copy()})
    sm.ACTIVA.setup_mudata(mdata, modalities={"rna_layer": "rna", "labels_key": "rna"}, labels_key="cell_type")
    model = sm.ACTIVA(mdata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=2, warmup_epochs=1, **quiet)
    model.generate(5, seed=0)
    model.save(folder / "mudata", save_anndata=True)
    sm.ACTIVA.load(folder / "mudata")
    sys.stdout.write(f"{len(scvi.__version__) and 'whole'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
