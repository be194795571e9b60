"""One small trained model of each class, for what all of them must do."""

import scvi

import scmimic as sm

QUIET = {"enable_progress_bar": False}
GAN = {"n_hidden_generator": (16, 32), "n_hidden_critic": (32, 16), "n_noise": 4}
CLASSES = ("ACTIVA", "ACTINN", "BetaTCVAE", "WGANGP", "InfoWGANGP", "MichiGAN")


def cells():
    """120 cells of 40 genes, three types, two batches, raw counts."""
    return sm.datasets.synthetic_counts(n_obs=120, n_vars=40, n_labels=3, n_batches=2, seed=0)


def fit(name, epochs=2, **init):
    """A trained model of a class; a MichiGAN is one on a BetaTCVAE."""
    scvi.settings.seed = 0
    adata = cells()
    if name == "MichiGAN":
        representation = fit("BetaTCVAE", epochs)
        model = sm.MichiGAN.from_representation(representation, **GAN | init)
        model.train(epochs, n_faithfulness_cells=50, **QUIET)
        return model
    cls, keys, sizes, settings = getattr(sm, name), {"labels_key": "cell_type"}, {}, {}
    if name in ("ACTIVA", "BetaTCVAE"):
        keys["batch_key"] = "batch"
        sizes = {"n_latent": 4, "n_hidden": (16,), "gene_likelihood": "nb"}
    if name == "ACTIVA":
        settings["warmup_epochs"] = epochs - 1
    if name == "InfoWGANGP":
        sizes = {**GAN, "n_latent": 4}
    if name == "WGANGP":
        sizes = {**GAN, "n_latent": 4}
        del sizes["n_noise"]
    cls.setup_anndata(adata, **keys)
    model = cls(adata, **sizes | init)
    model.train(epochs, **settings, **QUIET)
    return model
