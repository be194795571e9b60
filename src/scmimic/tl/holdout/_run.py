"""Fits, predictions and scores of a held-out comparison, row by row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arrays import Matrix
from scmimic._interrupts import stop_if_interrupted
from scmimic._random import seeded
from scmimic.model import BetaTCVAE
from scmimic.tl._combinations import Combinations, Shift, Target, entropies
from scmimic.tl._latent_arithmetic import latent_arithmetic
from scmimic.tl._latent_model import Code, encode, stream
from scmimic.tl.holdout._spaces import HoldoutSpaces
from scmimic.tl.holdout._trial import SCORES, SIMPLE_RIVALS, VAE, HoldoutScores, HoldoutTrial

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
    "seconds",
    "error",
]
MEAN_CODES = ", mean codes"
# what a fit on too few cells raises; mistakes in a program (TypeError, AttributeError) come through
_REFUSALS = (ValueError, RuntimeError, ArithmeticError, LookupError)


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
    n_cells: int
    n_top_genes: int
    n_trees: int
    decode_kwargs: Mapping[str, Any] | None

    def rows(self, targets: Sequence[Target], seeds: Sequence[int]) -> Iterator[Row]:
        """One row per seed, combination and method, as soon as it is known."""
        for seed in seeds:
            for target in targets:
                about = {"group": target[0], "condition": target[1], "seed": seed}
                yield from (about | row for row in self._of_target(target, seed))

    def _of_target(self, target: Target, seed: int) -> Iterator[Row]:
        spaces, expression = self.spaces, self.spaces.expression
        held = np.zeros(expression.shape[0], dtype=bool)
        held[self.combinations.rows[target]] = True
        train = spaces.bare(~held)
        seen = Combinations(train, self.combinations.group_key, self.combinations.condition_key)
        # no route leads over the cells held out
        routes = self.combinations.routes(target, self.control, self.reference_group, self.shift)
        real_rows = np.sort(stream(seed).permutation(np.flatnonzero(held))[: self.n_cells])
        trial = HoldoutTrial(expression[~held], seen, target, routes, expression[real_rows])
        score = HoldoutScores(
            trial, n_top_genes=self.n_top_genes, n_trees=self.n_trees, n_cells=self.n_cells, seed=seed
        )
        n = len(real_rows)
        for name, make in self.fits.items():
            yield from self._of_model(name, make, train, held, target, n, score, seed)
        if self.vae is not False:
            yield self._of_vae(expression[~held], train.obs, target, n, score, seed)
        for name in SIMPLE_RIVALS:
            yield _row(name, n, n, score(trial.rival(name, n, stream(seed, 1))))

    def _of_model(
        self,
        name: str,
        make: Fit,
        train: AnnData,
        held: np.ndarray,
        target: Target,
        n: int,
        score: HoldoutScores,
        seed: int,
    ) -> Iterator[Row]:
        start = time.perf_counter()
        try:
            # a copy, since a model may write to what it is given
            model = make(train.copy(), seed)
        except _REFUSALS as error:
            yield from (_failed(method_name(name, code), n, error) for code in self.codes)
            return
        stop_if_interrupted(model)
        seconds = time.perf_counter() - start
        # a mistake that the next combination would only repeat
        self.spaces.check(model, train)
        try:
            observed = encode(model, self.spaces.bare(held))
        except _REFUSALS as error:
            yield from (_failed(method_name(name, code), n, error) for code in self.codes)
            return
        for code in self.codes:
            method = method_name(name, code)
            try:
                new = latent_arithmetic(
                    train,
                    model,
                    target=target,
                    **self._moves(),
                    code=code,
                    n=n,
                    decode_kwargs=self.decode_kwargs,
                    seed=seed,
                )
                measured = score(self.spaces.compared(new, model, f"cells of {method}"))
            except _REFUSALS as error:
                yield _failed(method, n, error)
                continue
            z = new.obsm[_keys.latent(_keys.LATENT_ARITHMETIC)]
            of_observed, of_predicted = entropies(observed, z, code=code, rng=stream(seed, 0), max_cells=self.n_cells)
            logger.info("%s, seed %d, %s: RF error %.2f", target, seed, method, measured["rf_error"])
            yield _row(method, n, new.n_obs, measured, delta_entropy=of_predicted - of_observed, seconds=seconds)

    def _of_vae(
        self, expression: Matrix, obs: pd.DataFrame, target: Target, n: int, score: HoldoutScores, seed: int
    ) -> Row:
        """Arithmetic on the mean codes of a VAE of the values that are compared."""
        start = time.perf_counter()
        cells = AnnData(expression, obs=obs.copy())
        train_kwargs = self.vae if isinstance(self.vae, Mapping) else {}
        try:
            BetaTCVAE.setup_anndata(cells)
            with seeded(seed):
                model = BetaTCVAE(cells, beta=0.0)
                model.train(**{"enable_progress_bar": False, **train_kwargs})
            stop_if_interrupted(model)
            new = latent_arithmetic(cells, model, target=target, **self._moves(), code="mean", n=n, seed=seed)
            return _row(VAE, n, n, score(new.X), seconds=time.perf_counter() - start)
        except _REFUSALS as error:
            return _failed(VAE, n, error)

    def _moves(self) -> dict[str, Any]:
        return {
            "group_key": self.combinations.group_key,
            "condition_key": self.combinations.condition_key,
            "control": self.control,
            "reference_group": self.reference_group,
            "shift": self.shift,
        }


def method_name(name: str, code: Code) -> str:
    """What the rows of a model are called with a kind of code."""
    return name if code == "sample" else name + MEAN_CODES


def _row(
    method: str,
    n: int,
    n_predicted: int,
    measured: Mapping[str, float],
    *,
    delta_entropy: float = float("nan"),
    seconds: float = 0.0,
    error: str = "",
) -> Row:
    about = {"method": method, "n_real": n, "n_predicted": n_predicted, **measured}
    return about | {"delta_entropy": delta_entropy, "seconds": seconds, "error": error}


def _failed(method: str, n: int, error: Exception) -> Row:
    text = f"{type(error).__name__}: {error}"
    logger.warning("%s: %s", method, text)
    return _row(method, n, 0, dict.fromkeys(SCORES, np.nan), seconds=np.nan, error=text)
