"""What `docs/architecture.md` says of adding, each done with a toy."""

import inspect
from typing import Annotated, Any

import numpy as np
import numpydoc.docscrape
import pytest
import torch
from scvi.module.base import LossOutput

import scmimic as sm
from scmimic._arguments import PROBABILITY
from scmimic.model.base import GenerativeVAE, anndata_fields, register
from scmimic.model.base._likelihoods import Likelihood
from scmimic.model.base._negative_binomial import SparseNegativeBinomial
from scmimic.model.base._plan import SharedTrainingPlan
from scmimic.module import COUNT_LIKELIHOODS, CellVAEModule, kl_standard_normal
from scmimic.nn import CountDecoder, Encoder
from scmimic.tl.evaluation._measures import MEASURES, Measure, Metric, Outcome, Value
from scmimic.tl.evaluation._settings import Setting, Settings, complete, described, recorded, takes

QUIET = {"enable_progress_bar": False}


def geometric(rate, scale, theta, zero_logits):
    """The negative binomial of inverse dispersion 1."""
    return SparseNegativeBinomial(rate, torch.ones(rate.shape[-1]), scale)


@pytest.mark.parametrize("cls", [sm.ACTIVA, sm.BetaTCVAE])
def test_a_likelihood(cls, adata, monkeypatch):
    """One entry of the table: models take its name, learn by it, draw from it and compare their cells with the data."""
    with pytest.raises(ValueError, match="`gene_likelihood` must be 'normal', 'nb'"):
        cls.setup_anndata(adata, labels_key="cell_type")
        cls(adata, gene_likelihood="geometric")
    monkeypatch.setitem(COUNT_LIKELIHOODS, "geometric", Likelihood(geometric))
    model = cls(adata, gene_likelihood="geometric", n_latent=3, n_hidden=(16,))
    model.train(max_epochs=30, **QUIET)
    assert model.module.px_r is None
    cells = model.generate(2000, seed=0).X.toarray()
    np.testing.assert_array_equal(cells, np.rint(cells))
    # variance = mean + mean^2 at one code; the plain models know no gene-wise dispersion that could shrink it
    if cls is sm.BetaTCVAE:
        mean = cells.mean(0)
        assert np.median(cells.var(0) / (mean + mean**2)) > 0.9
    with pytest.raises(ValueError, match="needs gene_likelihood='nb'"):
        model.get_likelihood_parameters()


class ToyModule(CellVAEModule):
    """A plain VAE of Poisson counts."""

    def __init__(self, n_input, *, n_latent, n_batch, n_labels):
        super().__init__(n_input, n_latent=n_latent, n_batch=n_batch, n_labels=n_labels, gene_likelihood="poisson")
        self.encoder = Encoder(n_input, n_latent, (16,), n_covariates=self.design.n_columns, log1p=True)
        self.decoder = CountDecoder(n_latent, n_input, (16,), n_covariates=self.design.n_columns)
        self.px_r = None

    def _likelihood(self, decoded, log_library, labels):
        scale, _ = decoded
        return self.count_likelihood(scale * log_library.exp(), scale)

    def loss(self, tensors, inference_outputs, generative_outputs, kl_weight=1.0):
        kl = kl_standard_normal(inference_outputs["qz_mean"], inference_outputs["qz_log_var"])
        reconstruction = -generative_outputs["px"].log_prob(tensors["X"]).sum(-1)
        return LossOutput(
            loss=(reconstruction + kl_weight * kl).mean(), reconstruction_loss=reconstruction, kl_local=kl
        )


class Toy(GenerativeVAE):
    """A model: networks, registration, training; all else comes from its base."""

    _module_cls = ToyModule
    _training_plan_cls = SharedTrainingPlan

    def __init__(self, adata=None, n_latent=3, registry=None):
        super().__init__(adata, registry)
        self._remember_registration()
        sizes = {name: max(self.summary_stats.get(name, 1), 1) for name in ("n_batch", "n_labels")}
        self.module = self._module_cls(self.summary_stats.n_vars, n_latent=n_latent, **sizes)
        self._model_summary_string = "Toy"
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(cls, adata, *, layer=None, labels_key=None, batch_key=None, **kwargs):
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(adata, layer=layer, labels_key=labels_key, batch_key=batch_key)
        register(cls, adata, field_list, setup_method_args, **kwargs)

    def train(self, max_epochs=30, **kwargs):
        self._train(max_epochs=max_epochs, train_size=1.0, plan_kwargs={"lr": 1e-2}, **kwargs)


def test_a_model(adata, tmp_path):
    """A folder of three short parts gives latents, generation by type and batch, decoding, and a saved model."""
    Toy.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    model = Toy(adata)
    with pytest.raises(RuntimeError, match="This Toy is not trained yet"):
        model.generate(5)
    model.train(**QUIET)
    assert model.get_latent_representation().shape == (adata.n_obs, 3)
    types = adata.obs["cell_type"].cat.categories
    cells = model.generate(labels={types[0]: 30, types[1]: 20}, transform_batch=adata.obs["batch"].iloc[0], seed=0)
    assert cells.obs["cell_type"].value_counts().loc[types[:2]].tolist() == [30, 20]
    assert set(cells.obs["batch"]) == {adata.obs["batch"].iloc[0]}
    assert cells.uns["scmimic"]["model"] == "Toy"
    model.save(tmp_path / "toy")
    again = Toy.load(tmp_path / "toy")
    same = again.generate(labels={types[0]: 30, types[1]: 20}, transform_batch=adata.obs["batch"].iloc[0], seed=0)
    assert (same.X != cells.X).nnz == 0
    assert model.decode(cells.obsm["X_toy"], seed=0).shape == cells.shape
    assert model.get_normalized_expression().shape == adata.shape


def test_a_metric(monkeypatch, tmp_path):
    """Its function, and its entry in tl/evaluation/_measures.py."""

    def shift(real, synthetic):
        return float(np.abs(real.mean(axis=0) - synthetic.mean(axis=0)).mean())

    def of_pair(pair, options):
        return Outcome({"toy_shift": Value(shift(pair.real.pcs, pair.synthetic.pcs))})

    metric = Metric("toy_shift", "Toy: shift of the means", 0.0, "lower", "How far the means are apart.")
    monkeypatch.setitem(MEASURES, "of_pair", Measure(of_pair, (metric,), group="distribution", source="A toy"))

    adata = sm.datasets.synthetic_counts(n_obs=450, n_vars=25, seed=1)
    train, test = adata[:250].copy(), adata[250:].copy()
    counts = test.obs["cell_type"].value_counts()
    synthetic = sm.baselines.Multinomial(train, labels_key="cell_type").fit().generate(labels=counts, seed=0)
    settings = {"labels_key": "cell_type", "train": train, "n_trees": 4, "n_comps": 5, "n_jobs": 1}
    evaluation = sm.evaluate(test, synthetic, metrics=["toy_shift"], **settings)
    rows = evaluation.table[evaluation.table["metric"] == "toy_shift"].set_index("label")
    assert set(rows.index) == {"overall", *test.obs["cell_type"].unique()}
    assert np.isfinite(rows.loc["overall", ["value", "replicate", "trivial_value"]].astype(float)).all()
    assert evaluation.verdict.headline
    assert "toy_shift" in set(sm.tl.evaluate(test, synthetic, max_cells=60, **settings)["metric"])
    page = evaluation.to_html(tmp_path / "page.html", basis=None).read_text(encoding="utf-8")
    assert "Toy: shift of the means" in page
    assert "How far the means are apart." in page
    scored = evaluation.table.assign(score=0.5)
    labels = [text.get_text() for text in sm.pl.report(scored, show=False).get_yticklabels()]
    assert "Toy: shift of the means" in labels


class Wider(Settings, total=False):
    """The settings, and one more."""

    doubt: Annotated[float, Setting(0.25, PROBABILITY, "How much to doubt.")]


def test_a_setting():
    """Its field: signature, docstring, checks and recorded parameters follow."""

    @takes(Wider)
    def tool(adata: int, synthetic: int, *, key_added: str = "x", **settings: Any) -> None:
        """Do something.

        Parameters
        ----------
        adata
            Cells.
        synthetic
            More.
        **settings
            Of the evaluation,
            in two lines.
        key_added
            Key.
        """

    parameters = inspect.signature(tool).parameters
    assert list(parameters) == ["adata", "synthetic", *described(Settings), "doubt", "key_added"]
    assert parameters["doubt"].default == 0.25
    assert parameters["doubt"].annotation == "float"
    assert parameters["doubt"].kind is inspect.Parameter.KEYWORD_ONLY
    documented = numpydoc.docscrape.FunctionDoc(tool)["Parameters"]
    assert [entry.name for entry in documented] == list(parameters)
    assert documented[-2].desc == ["How much to doubt."]
    settings = complete({"doubt": 0.5}, Wider)
    assert recorded(settings, Wider)["doubt"] == 0.5
    with pytest.raises(ValueError, match="`doubt` must be"):
        complete({"doubt": 2}, Wider)
    with pytest.raises(TypeError, match=r"does not take `doubts`: is `doubt` meant\?"):
        complete({"doubts": 0.5}, Wider)
