"""GANs that train in a second, for the tests."""

import numpy as np
import scanpy as sc

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (16, 32), "n_hidden_critic": (32, 16)}
MODELS = {
    "WGANGP": (sm.WGANGP, {"n_latent": 8}),
    "InfoWGANGP": (sm.InfoWGANGP, {"n_latent": 4, "n_noise": 6}),
}


def normalised(adata):
    adata.layers["norm"] = sc.pp.normalize_total(adata, target_sum=1_000, inplace=False)["X"]
    adata.layers["log"] = np.log1p(adata.layers["norm"])
    return adata


def fit(adata, name="WGANGP", layer=None, labels_key="cell_type", max_epochs=2, plan_kwargs=None, **init):
    cls, sizes = MODELS[name]
    cls.setup_anndata(adata, layer=layer, labels_key=labels_key)
    model = cls(adata, **{**SMALL, **sizes, **init})
    model.train(max_epochs, plan_kwargs=plan_kwargs, **QUIET)
    return model
