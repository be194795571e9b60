"""How real are the cells? One model beside reference generators and a real replicate, on the same held-out cells.

    python benchmarks/realism.py --data pbmc3k.h5ad --labels cell_type --model activa --likelihood nb normal --out out
    python benchmarks/realism.py --split-dir out --labels cell_type --only activa_nb --name n16 \\
        --model-kwargs '{"n_latent": 16}'

Real cells are split by type: the generator sees train (60 %) alone, the PCA is fitted on reference (15 %), and the
synthetic cells, as many of each type as there are test cells, are told apart from test (25 %). Genes are chosen on
train. All cells are compared after scaling to 10,000 counts and log1p. --out gets train, reference and test, each
generator's cells as NAME_seedN.h5ad, and results.jsonl.

The score s is 0 for the best trivial generator (independent NB, copula, multinomial) and 1 for a real replicate, the
two halves of the test cells against each other. The memoriser is no trivial generator: it wins by copying.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _common import (
    add_source_arguments,
    append_json,
    auc_of_groups,
    environment,
    json_object,
    load_parts,
    log_normalise,
    show,
    write_split,
)
from sklearn.decomposition import PCA

import scmimic as sm

MAX_CELLS = 3000
TARGET_SUM = 20_000
TRIVIAL = ("independent_nb", "copula", "multinomial")
SCORED = {"rf_auc_genes": "rf_auc_genes", "rf_auc_pc50": "rf_auc_pcs", "rf_error_pct": "rf_error", "mmd2_pc50": "mmd"}
"""Columns with a calibrated score, and what `sm.tl.evaluate` calls them."""
COLUMNS = [
    *("name", "seed", "n", "rf_auc_genes", "rf_auc_pc50", "rf_error_pct", "mmd2_pc50", "dcr_ratio"),
    *("zero_fraction", "zero_fraction_real", "label_agreement", "label_agreement_real", "train_s", "generate_s"),
    *(f"s_{key}" for key in SCORED),
]

Generate = Callable[[int], ad.AnnData]


class Judge:
    """Everything that is fitted once: the PCA on reference, the label classifier and the agreement of test cells."""

    def __init__(self, parts: dict[str, ad.AnnData], labels_key: str, *, n_trees: int, n_jobs: int) -> None:
        self.n_trees, self.n_jobs, self.labels_key = n_trees, n_jobs, labels_key
        self.x = {name: log_normalise(part.X) for name, part in parts.items()}
        self.labels = {name: part.obs[labels_key].to_numpy().astype(str) for name, part in parts.items()}
        components = min(50, *self.x["reference"].shape)
        self.pca = PCA(components, random_state=0).fit(self.x["reference"].toarray())
        self.classifier = sm.metrics.fit_label_classifier(self.x["train"], self.labels["train"])
        values, counts = np.unique(self.labels["test"], return_counts=True)
        self.wanted = {str(value): int(count) for value, count in zip(values, counts, strict=True)}
        self.real_agreement = self._agreement(self.x["test"], self.labels["test"])

    def _agreement(self, x: sp.csr_matrix, labels: np.ndarray) -> dict[str, float]:
        right = self.classifier.predict(x) == labels
        return {"all": right.mean()} | {name: right[labels == name].mean() for name in np.unique(labels)}

    def measure(
        self, x: sp.csr_matrix, labels: np.ndarray, *, seed: int, test: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Compare counts `x` with the test cells, or with those rows `test` of them."""
        from scmimic import metrics

        rng = np.random.default_rng(seed)
        real = self.x["test"] if test is None else self.x["test"][test]
        fake = log_normalise(x)
        agreement = self._agreement(fake, labels)
        n = min(real.shape[0], fake.shape[0], MAX_CELLS)
        real, fake = real[rng.permutation(real.shape[0])[:n]], fake[rng.permutation(fake.shape[0])[:n]]
        real_pc, fake_pc = self.pca.transform(real.toarray()), self.pca.transform(fake.toarray())
        forest = {"n_trees": self.n_trees, "seed": seed, "n_jobs": self.n_jobs}
        train_pc = self.pca.transform(self.x["train"].toarray())
        return {
            "n": n,
            "rf_auc_genes": float(metrics.discriminator_auc(real, fake, **forest)),
            "rf_auc_pc50": float(metrics.discriminator_auc(real_pc, fake_pc, **forest)),
            "rf_error_pct": float(
                metrics.random_forest_error(
                    real, fake, reference=self.x["reference"], n_comps=self.pca.n_components_, n_cells=n, **forest
                )
            ),
            "mmd2_pc50": float(metrics.mmd(real_pc, fake_pc, seed=seed)),
            "dcr_ratio": float(metrics.distance_to_closest_record(train_pc, fake_pc, real_pc).ratio),
            "zero_fraction": 1 - fake.nnz / np.prod(fake.shape),
            "zero_fraction_real": 1 - real.nnz / np.prod(real.shape),
            "label_agreement": agreement.pop("all"),
            "label_agreement_real": self.real_agreement["all"],
            "label_agreement_per_type": agreement,
            "label_agreement_per_type_real": {k: v for k, v in self.real_agreement.items() if k in agreement},
        }

    def of_types(self, x: sp.csr_matrix, labels: np.ndarray, *, seed: int) -> dict[str, float]:
        """AUC on genes of a forest that sees one type alone, for each type with test cells enough."""
        forest = {"n_trees": self.n_trees, "seed": seed, "n_jobs": self.n_jobs}
        return auc_of_groups(self.x["test"], log_normalise(x), self.labels["test"], labels, **forest)


def fit_reference(
    name: str, train: ad.AnnData, want: dict[str, int], args: argparse.Namespace, seed: int, fitted: dict[Any, Any]
) -> tuple[Generate, float]:
    """Fit a reference generator; both modes of scVI share one fit. Returns also the seconds that the fit took."""
    from scmimic import baselines

    kinds = {
        "memoriser": baselines.Memoriser,
        "bootstrap": baselines.Bootstrap,
        "multinomial": baselines.Multinomial,
        "independent_nb": baselines.IndependentNB,
        "copula": baselines.GaussianCopula,
        "scdesigner": baselines.ScDesigner,
    }
    key = (name if name in kinds else "scvi", seed)
    if key not in fitted:
        start = time.perf_counter()
        if name in kinds:
            generator = kinds[name](train, labels_key=args.labels)
        else:
            generator = baselines.SCVIReference(train, labels_key=args.labels, max_epochs=args.scvi_epochs)
        fitted[key] = (generator.fit(seed=seed), time.perf_counter() - start)
    generator, seconds = fitted[key]

    def generate(draw_seed: int) -> ad.AnnData:
        if name not in kinds:
            generator.mode = "prior" if name == "scvi_prior" else "posterior_predictive"
        return generator.generate(labels=want, seed=draw_seed)

    return generate, seconds


def find_model(name: str) -> Any:
    known = {known.lower(): known for known in dir(sm) if isinstance(getattr(sm, known), type)}
    if name.lower() not in known:
        raise SystemExit(f"--model: unknown {name!r}. Known: {sorted(known)}")
    return getattr(sm, known[name.lower()])


def fit_model(
    likelihood: str, train: ad.AnnData, want: dict[str, int], args: argparse.Namespace, seed: int
) -> Generate:
    import scvi

    scvi.settings.seed = seed
    kind, layer = find_model(args.model), None
    train = train.copy()
    if likelihood == "normal":
        layer = "scaled"
        total = np.asarray(train.X.sum(axis=1)).ravel()
        train.layers[layer] = sp.csr_matrix(sp.diags(TARGET_SUM / total) @ train.X, dtype=np.float32)
    kind.setup_anndata(train, labels_key=args.labels, layer=layer)
    model = kind(train, gene_likelihood=likelihood, **args.model_kwargs)
    model.train(max_epochs=args.epochs, **args.train_kwargs)
    return lambda s: model.generate(labels=want, seed=s, **args.generate_kwargs)


REFERENCES = (
    *("memoriser", "bootstrap", "multinomial", "independent_nb"),
    *("copula", "scdesigner", "scvi_prior", "scvi_posterior"),
)


def calibrate(rows: list[dict[str, Any]]) -> None:
    """Add s = (m - best trivial) / (replicate - best trivial) to every row, where both ends were measured.

    As in `sm.tl.evaluate`, luck beyond the ideal counts as the ideal.
    """
    from scmimic.tl.evaluation._measures import metrics_by_name

    metrics = metrics_by_name()
    for seed in {row["seed"] for row in rows}:
        run = [row for row in rows if row["seed"] == seed]
        replicate = next((row for row in run if row["name"] == "real_replicate"), None)
        trivial = [row for row in run if row["name"] in TRIVIAL]
        if replicate is None or not trivial:
            continue
        for key, name in SCORED.items():
            loss = {id(row): metrics[name].loss(row[key], metrics[name].ideal, row["n"]) for row in run}
            best = min(loss[id(row)] for row in trivial)
            if loss[id(replicate)] < best:
                for row in run:
                    row[f"s_{key}"] = (best - loss[id(row)]) / (best - loss[id(replicate)])


def replicate(judge: Judge, parts: dict[str, ad.AnnData], seed: int) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(parts["test"].n_obs)
    half, other = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    return judge.measure(parts["test"].X[other], judge.labels["test"][other], seed=seed, test=half)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    parts = load_parts(args)
    out = Path(args.out) if args.out else None
    if out and (not args.split_dir or out.resolve() != Path(args.split_dir).resolve()):
        write_split(parts, out)
    judge = Judge(parts, args.labels, n_trees=args.trees, n_jobs=args.jobs)
    want = judge.wanted
    models = {f"{args.model}_{likelihood}": likelihood for likelihood in args.likelihood}
    names = args.only or ["real_replicate", *REFERENCES, *models]
    unknown = set(names) - {"real_replicate", *REFERENCES, *models}
    if unknown:
        raise SystemExit(f"--only: unknown {sorted(unknown)}. Known: real_replicate {' '.join([*REFERENCES, *models])}")
    rows: list[dict[str, Any]] = []
    fitted: dict[Any, Any] = {}
    for seed in args.seed:
        for name in names:
            row = {"name": name, "seed": seed}
            if name == "real_replicate":
                row |= replicate(judge, parts, seed)
            else:
                if name in models:
                    row["name"] = (args.name if len(models) == 1 else f"{args.name}_{name}") if args.name else name
                    start = time.perf_counter()
                    generate = fit_model(models[name], parts["train"], want, args, seed)
                    row["train_s"] = time.perf_counter() - start
                else:
                    generate, row["train_s"] = fit_reference(name, parts["train"], want, args, seed, fitted)
                start = time.perf_counter()
                synthetic = generate(seed)
                row["generate_s"] = time.perf_counter() - start
                if list(synthetic.var_names) != list(parts["test"].var_names):
                    raise SystemExit(
                        f"{row['name']}: the genes of the generated cells are not those of the training data."
                    )
                if out:
                    synthetic.write_h5ad(out / f"{row['name']}_seed{seed}.h5ad", compression="gzip")
                labels = synthetic.obs[args.labels].to_numpy().astype(str)
                row |= judge.measure(sp.csr_matrix(synthetic.X), labels, seed=seed)
            rows.append(row)
            if args.verbose:
                show([row], COLUMNS, row["name"])
    calibrate(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--model", default="activa", help="name of the model class, in small letters")
    parser.add_argument("--likelihood", nargs="+", default=["nb"], help="gene_likelihood of the model")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of training, generation and forests")
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="threads of the forests")
    parser.add_argument("--epochs", type=int, help="max_epochs of the model; default: its own")
    parser.add_argument("--scvi-epochs", type=int, help="max_epochs of scVI; default: its own")
    parser.add_argument("--out", help="folder for the split, the generated cells and results.jsonl")
    parser.add_argument("--only", nargs="+", help="measure these generators alone")
    parser.add_argument("--name", help="name of the model in tables and files, for ablations")
    parser.add_argument("--verbose", action="store_true", help="show each generator as soon as it is measured")
    for option in ("model", "train", "generate"):
        parser.add_argument(f"--{option}-kwargs", type=json_object, default={}, help="JSON object")
    args = parser.parse_args()
    rows = run(args)
    for row in rows:
        row["source"], row["labels"], row["trees"] = args.split_dir or args.data, args.labels, args.trees
    if args.out:
        append_json(Path(args.out) / "results.jsonl", [row | {"environment": environment()} for row in rows])
    show(rows, COLUMNS, f"{args.split_dir or args.data}, {args.labels}")
    types = rows[0]["label_agreement_per_type_real"]
    agreement = [{"name": row["name"], "seed": row["seed"]} | row["label_agreement_per_type"] for row in rows]
    show(
        [{"name": "test cells", "seed": None} | types, *agreement], ["name", "seed", *types], "label agreement per type"
    )


if __name__ == "__main__":
    main()
