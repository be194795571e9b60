"""What is asked of a model that generates cells, and what is said of the cells."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scmimic._arguments import (
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    ORDERED,
    PATH,
    PROBABILITY,
    SEED_OR_NONE,
    Choice,
    check_arguments,
    shown,
)
from scmimic._arrays import check_unmasked
from scmimic._interrupts import interrupted_part
from scmimic.cells import (
    LABEL,
    LARGEST_COUNT,
    OPEN,
    AttributeValues,
    Labels,
    Value,
    as_list,
    fingerprint,
    made_space,
    resolve_counts,
)
from scmimic.model.base._model import CellModel
from scmimic.model.generation._output import CellDescription
from scmimic.model.generation._unseen import GroupMeans
from scmimic.model.generation.codes._composition import Composition
from scmimic.model.generation.codes._posterior import AggregatedPosterior

CodeName = Literal["posterior", "mixture", "flow", "kernel", "prior"]
"""Where codes come from."""

# Arguments of what makes cells; a name means the same in each function that has it.
_REQUEST = {
    "n": COUNT_OR_NONE,
    "labels": ORDERED,
    **dict.fromkeys(("codes", "method"), Choice(get_args(CodeName), optional=True)),
    "min_confidence": PROBABILITY.or_none,
    "max_draws": COUNT_OR_NONE,
    "batch_size": COUNT,
    "seed": SEED_OR_NONE,
    "path": PATH.or_none,
    **dict.fromkeys(("match_margins", "as_counts"), FLAG.or_none),
    **dict.fromkeys(("share_noise", "silent", "overwrite", "resume"), FLAG),
}

# Numbers of each tensor that tell one network from another.
_SAMPLED = 64


class Requested(NamedTuple):
    """What is asked of each cell, the number of cells by type, and in all."""

    cells: AttributeValues
    labels: dict[str, int]
    total: int


class GenerativeModel(CellModel):
    """A model that generates cells from what it keeps of its training cells, ``posterior_``.

    It checks what :meth:`generate` and :meth:`decode` are asked for, and describes the cells.
    """

    posterior_: AggregatedPosterior | None = None
    """Codes, library sizes and groups of the training cells; None before training, and where none were saved."""
    composition_: Composition | None = None
    """Types and groups of the training cells, of a model that was saved without the cells."""
    means_: GroupMeans | None = None
    """Average codes of the groups, of a model that was told more than labels."""

    @property
    def _composition(self) -> Composition:
        """The groups of the training cells."""
        return self._trained_cells().composition if self.composition_ is None else self.composition_

    def _check_request(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments (the local variables of a function as it begins) that are no such thing."""
        check_arguments(arguments, _REQUEST)
        if arguments.get("library_size") is not None:
            _positive("library_size", arguments["library_size"])
        self._check_generates()

    @abstractmethod
    def generate(self, n: int | None = None, labels: Labels = None, *, seed: int | None = None) -> AnnData:
        """Generate cells."""

    @abstractmethod
    def _prepare_generation(self) -> None:
        """Take from the training cells what the present weights generate with; RuntimeError where they cannot."""

    def _trained_cells(self) -> AggregatedPosterior:
        """What is kept of the training cells."""
        self._check_generates()
        if self.posterior_ is None:
            raise ValueError(
                f"This {type(self).__name__} was saved with `shareable=True`, without its training cells, which this "
                "needs. It generates with codes='mixture' or 'prior', and decodes with `labels`."
            )
        return self.posterior_

    def _check_generates(self) -> None:
        """Refuse a model that is not trained."""
        self._check_trained(has_cells=self.posterior_ is not None or self.composition_ is not None)

    def _requested(
        self,
        n: int | None,
        labels: Labels,
        *,
        covariates: Mapping[str, Any] | None = None,
        like: Any = None,
        any_type: bool = False,
    ) -> Requested:
        """What is asked of each cell; with `any_type` the type may be any where none is asked for."""
        known, composition = self._attributes, self._composition
        if like is not None:
            rows = known.read(like)
        elif not covariates:
            rows = self._of_labels(n, labels, AttributeValues.open(1, known), any_type=any_type)
        else:
            combinations = known.asked(covariates)
            if labels is None:
                n = self._total(n)
                shares = [n // len(combinations) + (i < n % len(combinations)) for i in range(len(combinations))]
                parts = zip(shares, combinations, strict=True)
                rows = AttributeValues.stacked(
                    [self._of_labels(k, None, one, any_type=any_type) for k, one in parts if k]
                )
            else:
                rows = self._of_labels(n, labels, AttributeValues.open(1, known), any_type=any_type)
                turn = np.arange(rows.n) % len(combinations)
                rows = rows.filled(AttributeValues.stacked(combinations).take(turn))
        counts: dict[str, int] = {}
        if known.labels is not None and (rows.labels != OPEN).all():
            codes = pd.unique(rows.labels)
            counts = {known.labels.names[code]: int((rows.labels == code).sum()) for code in codes}
            have = set(composition.codes[:, LABEL].tolist())
            if empty := [known.labels.names[code] for code in codes if code not in have]:
                if left := [name for name in empty if name in (self.shared_ or {}).get("left_out", ())]:
                    raise ValueError(
                        f"This model was saved to be shared, without types of fewer than {self.shared_['min_cells']} "
                        f"training cells: it generates no cells of {left}."
                    )
                raise ValueError(f"The training data hold no cells of {empty}; there is nothing to generate them from.")
        return Requested(rows, counts, rows.n)

    @staticmethod
    def _total(n: int | None) -> int:
        return next(iter(resolve_counts(n, None, None, None).values()))

    def _of_labels(self, n: int | None, labels: Labels, one: AttributeValues, *, any_type: bool) -> AttributeValues:
        """Rows with the attributes of `one` and, where the model knows types, the types in their numbers."""
        known, proportions = self._labels, None
        if known is not None:
            proportions = self._composition.label_proportions(one.codes[0], len(known.names))
        counts = resolve_counts(n, labels, known, proportions)
        total = sum(counts.values())
        rows = one.take(np.zeros(total, dtype=np.int64))
        if known is not None and not any_type:
            codes = [known.names.index(name) for name in counts]
            rows.codes[:, LABEL] = np.repeat(codes, list(counts.values()))
        return rows

    def _check_codes(self, z: np.ndarray) -> np.ndarray:
        z = numbers("z", z).astype(np.float32)
        if z.ndim != 2 or z.shape[1] != self.module.n_latent or len(z) == 0:
            raise ValueError(f"`z` must have shape (n, {self.module.n_latent}) with n > 0, not {z.shape}.")
        if not np.isfinite(z).all():
            raise ValueError("`z` holds NaN or infinite values.")
        return z

    def _label_codes(self, labels, n: int) -> np.ndarray:
        if labels is None:
            return np.full(n, OPEN)
        column = self._labels
        if column is None:
            raise ValueError("`labels` was given, but the model was set up without `labels_key`.")
        asked = as_list(labels)
        if len(asked) not in (1, n):
            raise ValueError(f"`labels` must be one type or {n} of them, not {len(asked)}.")
        codes = np.array(column.find(asked, "labels"), dtype=np.int64)
        return codes.repeat(n) if len(codes) == 1 else codes

    def _batch_code(self, batch: Value | None) -> int | None:
        if batch is None:
            return None
        column = self._batches
        if column is None:
            raise ValueError("`transform_batch` was given, but the model was set up without `batch_key`.")
        return column.find([batch], "transform_batch", what="batches")[0]

    def _describe_cells(self, seed: int, parameters: dict, *asked: np.ndarray | None) -> CellDescription:
        """What is known of the cells before they are made; `asked` is what `parameters` leave out of the request."""
        space = getattr(self, "expression_space_", None)
        if space is not None:
            parameters = {**asdict(made_space(space, parameters.get("units", space.units))), **parameters}
        return CellDescription(
            var=self.var_,
            dtype=np.dtype(self.dtype_),
            model_name=type(self).__name__,
            parameters=parameters,
            seed=seed,
            attributes=self._attributes,
            composition=self._composition,
            means=self.means_,
            source=fingerprint(weights_sample(self.module), *asked),
            interrupted=interrupted_part(self) is not None,
        )


def check_like(like: Any, n: int | None, labels: Labels, covariates: Mapping[str, Any]) -> None:
    """Refuse what says twice which cells are made."""
    given = {"n": n is not None, "labels": labels is not None, "covariates": bool(covariates)}
    if like is not None and any(given.values()):
        name = next(name for name, is_given in given.items() if is_given)
        raise ValueError(f"`like` says what every cell is, and so does `{name}`: leave one of them out.")


def weights_sample(module: torch.nn.Module) -> np.ndarray:
    """Some numbers of every part of a network, by which it differs from others and from itself after more training."""
    parts = [tensor.detach().flatten()[:_SAMPLED].double().cpu() for tensor in module.state_dict().values()]
    return torch.cat(parts).numpy()


def recorded_library_size(library_size) -> np.ndarray | str:
    """Library sizes as the record of generated cells has them."""
    return "modelled" if library_size is None else np.asarray(library_size, dtype=float)


def library_sizes(library_size, n: int) -> np.ndarray:
    """Library sizes of ``n`` cells from one number or from ``n`` of them."""
    values = _positive("library_size", library_size)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != n):
        raise ValueError(f"`library_size` must be one number or {n} of them, not an array of {values.shape}.")
    if values.max() > LARGEST_COUNT:
        raise ValueError(
            f"`library_size` must be at most {LARGEST_COUNT:,}, the most counts of a cell that can be drawn, not "
            f"{values.max():.3g}."
        )
    # a copy: torch refuses arrays that cannot be written to
    return np.array(np.broadcast_to(values, (n,)))


def numbers(name: str, values: Any) -> np.ndarray:
    """An array of numbers in double precision from one, a list or an array of them."""
    check_unmasked(**{name: values})
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` must be a number or an array of numbers, not {shown(values)}.")
    return array.astype(float)


def _positive(name: str, values: Any) -> np.ndarray:
    array = numbers(name, values)
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"`{name}` must be positive and finite, not {shown(values)}.")
    return array
