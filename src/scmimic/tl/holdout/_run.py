"""Fits, predictions and scores of a held-out comparison, row by row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arrays import Matrix
from scmimic._interrupts import stop_if_interrupted
from scmimic._progress import progress
from scmimic._random import seeded
from scmimic.model import BetaTCVAE
from scmimic.tl._combinations import Combinations, Route, Shift, Target, entropies
from scmimic.tl._latent_arithmetic import latent_arithmetic
from scmimic.tl._latent_model import Code, Posterior, encode, stream
from scmimic.tl._similarity import ReferenceWeights
from scmimic.tl._workers import results
from scmimic.tl.holdout._spaces import HoldoutSpaces
from scmimic.tl.holdout._trial import SCORES, SIMPLE_RIVALS, VAE, HoldoutScores, HoldoutTrial, TrainingAxes

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

Fit = Callable[[AnnData, int], Any]
Row = dict[str, Any]
COLUMNS = [
    "group",
    "condition",
    "seed",
    "method",
    "n_real",
    "n_predicted",
    *SCORES,
    "delta_entropy",
    "trust",
    "seconds",
    "error",
]
MEAN_CODES = ", mean codes"
# what a fit on too few cells raises; mistakes in a program (TypeError, AttributeError) come through
_REFUSALS = (ValueError, RuntimeError, ArithmeticError, LookupError)


@dataclass(frozen=True)
class _Fitted:
    name: str
    model: Any
    train: AnnData
    seed: int
    seconds: float


@dataclass(frozen=True)
class HoldoutRun:
    """What :func:`~scmimic.tl.holdout_arithmetic` was asked for."""

    spaces: HoldoutSpaces
    combinations: Combinations
    fits: Mapping[str, Fit]
    vae: bool | Mapping[str, Any]
    codes: Sequence[Code]
    control: str | Sequence[str] | None
    reference_group: str | Sequence[str] | None
    shift: Shift
    reference_weights: ReferenceWeights
    n_cells: int
    n_top_genes: int
    n_trees: int
    decode_kwargs: Mapping[str, Any] | None

    def rows(self, sets: Sequence[Sequence[Target]], seeds: Sequence[int], client: Client | None) -> Iterator[Row]:
        """One row per seed, combination and method, as soon as it is known; each set is held out together."""
        parts = [(targets, seed) for seed in seeds for targets in sets]
        # here row by row, so that a mistake in a later fit loses none; workers give those of a set together
        work = HoldoutRun._of_set if client is None else HoldoutRun._all_of_set
        with progress(len(parts), "Held-out combinations") as advance:
            for rows in results(work, [(self, parts)], client):
                yield from rows
                advance(1)

    def _all_of_set(self, targets: Sequence[Target], seed: int) -> list[Row]:
        return list(self._of_set(targets, seed))

    def _of_set(self, targets: Sequence[Target], seed: int) -> Iterator[Row]:
        spaces, expression = self.spaces, self.spaces.expression
        held = np.zeros(expression.shape[0], dtype=bool)
        for target in targets:
            held[self.combinations.rows[target]] = True
        train = spaces.bare(~held)
        seen = Combinations(train, self.combinations.group_key, self.combinations.condition_key)
        axes = TrainingAxes(expression[~held], seed)
        trials = []
        for target in targets:
            rows = np.sort(stream(seed).permutation(self.combinations.rows[target])[: self.n_cells])
            trial = HoldoutTrial(
                expression[~held], seen, target, self.routes(target, targets), expression[rows], self.shift
            )
            sizes = {"n_top_genes": self.n_top_genes, "n_trees": self.n_trees, "n_cells": self.n_cells}
            trials.append((trial, HoldoutScores(trial, axes, **sizes, seed=seed)))
        for name, make in self.fits.items():
            yield from self._of_model(name, make, train, trials, seed)
        if self.vae is not False:
            yield from self._of_vae(expression[~held], train.obs, trials, seed)
        for name in SIMPLE_RIVALS:
            for trial, score in trials:
                n = trial.real.shape[0]
                yield _row(trial.target, seed, name, n, n, score(trial.rival(name, n, stream(seed, 1))))

    def routes(self, target: Target, held: Collection[Target]) -> list[Route]:
        """Ways to a combination that lead over none of those held out with it."""
        return self.combinations.without(held).routes(target, self.control, self.reference_group, self.shift)

    def _of_model(
        self, name: str, make: Fit, train: AnnData, trials: Sequence[tuple[HoldoutTrial, HoldoutScores]], seed: int
    ) -> Iterator[Row]:
        def refused(error: Exception, *some: HoldoutTrial) -> Iterator[Row]:
            for trial in some:
                for code in self.codes:
                    yield _failed(trial.target, seed, method_name(name, code), trial.real.shape[0], error)

        start = time.perf_counter()
        try:
            # a copy, since a model may write to what it is given
            model = make(train.copy(), seed)
        except _REFUSALS as error:
            yield from refused(error, *(trial for trial, _ in trials))
            return
        stop_if_interrupted(model)
        fitted = _Fitted(name, model, train, seed, time.perf_counter() - start)
        # a mistake that the next combination would only repeat
        self.spaces.check(model, train)
        for trial, score in trials:
            held = np.zeros(self.spaces.expression.shape[0], dtype=bool)
            held[self.combinations.rows[trial.target]] = True
            try:
                observed = encode(model, self.spaces.bare(held))
            except _REFUSALS as error:
                yield from refused(error, trial)
                continue
            for code in self.codes[:1] if self._is_told(model) else self.codes:
                yield self._prediction(fitted, trial, score, observed, code)

    def _is_told(self, model: Any) -> bool:
        """Whether the model makes cells of a group and a condition that it is asked for, in place of moving codes."""
        told, labels = getattr(model, "_attributes", None), getattr(model, "labels_key_", None)
        return (
            told is not None and labels == self.combinations.group_key and self.combinations.condition_key in told.keys
        )

    def _made(self, fitted: _Fitted, target: Target, n: int, code: Code) -> tuple[AnnData, np.ndarray, float]:
        """Predicted cells, their codes, and how far they can be trusted."""
        model = fitted.model
        if self._is_told(model):
            new = model.generate(
                n, target[0], covariates={self.combinations.condition_key: target[1]}, seed=fitted.seed
            )
            trust = new.uns[_keys.UNS].get(_keys.TRUST, {})
            return new, new.obsm[_keys.latent(type(model).__name__)], next(iter(trust.values()), np.nan)
        new = latent_arithmetic(
            fitted.train,
            model,
            target=target,
            **self._moves(),
            code=code,
            n=n,
            decode_kwargs=self.decode_kwargs,
            seed=fitted.seed,
        )
        return new, new.obsm[_keys.latent(_keys.LATENT_ARITHMETIC)], new.uns[_keys.LATENT_ARITHMETIC]["trust"]

    def _prediction(
        self, fitted: _Fitted, trial: HoldoutTrial, score: HoldoutScores, observed: Posterior, code: Code
    ) -> Row:
        target, n, seed = trial.target, trial.real.shape[0], fitted.seed
        method = fitted.name if self._is_told(fitted.model) else method_name(fitted.name, code)
        try:
            new, z, trust = self._made(fitted, target, n, code)
            measured = score(self.spaces.compared(new, fitted.model, f"cells of {method}"))
        except _REFUSALS as error:
            return _failed(target, seed, method, n, error)
        of_observed, of_predicted = entropies(observed, z, code=code, rng=stream(seed, 0), max_cells=self.n_cells)
        logger.info("%s, seed %d, %s: RF error %.2f", target, seed, method, measured["rf_error"])
        delta = of_predicted - of_observed
        return _row(
            target,
            seed,
            method,
            n,
            new.n_obs,
            measured,
            delta_entropy=delta,
            trust=trust,
            seconds=fitted.seconds,
        )

    def _of_vae(
        self,
        expression: Matrix,
        obs: pd.DataFrame,
        trials: Sequence[tuple[HoldoutTrial, HoldoutScores]],
        seed: int,
    ) -> Iterator[Row]:
        """Arithmetic on the mean codes of a VAE of the values that are compared."""
        start = time.perf_counter()
        cells = AnnData(expression, obs=obs.copy())
        train_kwargs = self.vae if isinstance(self.vae, Mapping) else {}
        try:
            BetaTCVAE.setup_anndata(cells)
            with seeded(seed):
                model = BetaTCVAE(cells, beta=0.0)
                model.train(**{"enable_progress_bar": False, **train_kwargs})
        except _REFUSALS as error:
            for trial, _ in trials:
                yield _failed(trial.target, seed, VAE, trial.real.shape[0], error)
            return
        stop_if_interrupted(model)
        seconds = time.perf_counter() - start
        for trial, score in trials:
            target, n = trial.target, trial.real.shape[0]
            try:
                new = latent_arithmetic(cells, model, target=target, **self._moves(), code="mean", n=n, seed=seed)
                trust = new.uns[_keys.LATENT_ARITHMETIC]["trust"]
                yield _row(target, seed, VAE, n, n, score(new.X), trust=trust, seconds=seconds)
            except _REFUSALS as error:
                yield _failed(target, seed, VAE, n, error)

    def _moves(self) -> dict[str, Any]:
        return {
            "group_key": self.combinations.group_key,
            "condition_key": self.combinations.condition_key,
            "control": self.control,
            "reference_group": self.reference_group,
            "shift": self.shift,
            "reference_weights": self.reference_weights,
        }


def method_name(name: str, code: Code) -> str:
    """What the rows of a model are called with a kind of code."""
    return name if code == "sample" else name + MEAN_CODES


def _row(
    target: Target,
    seed: int,
    method: str,
    n: int,
    n_predicted: int,
    measured: Mapping[str, float],
    *,
    delta_entropy: float = float("nan"),
    trust: float = float("nan"),
    seconds: float = 0.0,
    error: str = "",
) -> Row:
    about = {"group": target[0], "condition": target[1], "seed": seed, "method": method}
    about |= {"n_real": n, "n_predicted": n_predicted, **measured}
    return about | {"delta_entropy": delta_entropy, "trust": trust, "seconds": seconds, "error": error}


def _failed(target: Target, seed: int, method: str, n: int, error: Exception) -> Row:
    text = f"{type(error).__name__}: {error}"
    logger.warning("%s, %s: %s", target, method, text)
    return _row(target, seed, method, n, 0, dict.fromkeys(SCORES, np.nan), seconds=np.nan, error=text)
