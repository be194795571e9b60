"""What a table of :func:`scmimic.tl.evaluate` says in plain words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from scmimic._keys import OVERALL
from scmimic.tl.evaluation._diagnostics import AGREEMENT, CERTAIN_COPIES, MIN_CERTAIN_AGREEMENT, REPEATS, UNSEEN
from scmimic.tl.evaluation._measures import beyond_chance, metrics_by_name

Tone = Literal["good", "fair", "bad", "unknown"]

# Of the calibrated score of the strictest test.
_VERY_CLOSE, _CLOSE, _BETTER = 0.9, 0.5, 0.1
KEY_METRICS = ("rf_auc_genes", "rf_auc_pcs", "rf_error", "split_auc")
"""The strictest tests: a cell is as real as its most telling side."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    question: str
    answer: str
    tone: Tone
    detail: str


@dataclass(frozen=True)
class Score:
    """The calibrated score that decides, and its ends with other cells; NaN where there is none."""

    metric: str
    """Name of the strictest test; `"median"` of all scores where no forest was asked, `""` without a score."""
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """The head of the report."""

    headline: str
    tone: Tone
    summary: str
    answers: tuple[Answer, ...]
    is_meaningful: bool
    """Whether the numbers say how real the cells are: not of cells that cannot be compared, or that are copies."""
    score: Score

    def __repr__(self) -> str:
        return "\n".join([self.headline, *(f"  {one.question} {one.answer}. {one.detail}" for one in self.answers)])


def judge(table: pd.DataFrame) -> Verdict:
    """Say whether the numbers are valid, how close the cells are, and whether they are copies.

    Parameters
    ----------
    table
        Result of :func:`scmimic.tl.evaluate`.
    """
    overall = table[table["label"] == OVERALL].set_index("metric")
    score = _deciding(overall)
    valid, close, private = _valid(overall), _close(overall, score), _private(overall)
    if not _are_comparable(overall):
        close, private = (
            replace(one, answer="not known", tone="unknown", detail=_OTHER_SPACE) for one in (close, private)
        )
    if private.tone == "bad":
        headline = _COPIES if private.answer == "no" else _BEYOND_CHANCE
        tone: Tone = "bad"
    elif valid.tone == "bad":
        headline, tone = "Something is wrong with the comparison or the cells: see the diagnostic first.", "bad"
    else:
        headline, tone = _HEADLINES[close.answer], close.tone
    is_meaningful = "bad" not in (valid.tone, private.tone)
    return Verdict(headline, tone, _summary(overall), (valid, close, private), is_meaningful, score)


_OTHER_SPACE = "Cells in different units cannot be compared."
_COPIES = "These cells are copies, at least in part: their realism means nothing."
_BEYOND_CHANCE = "Closer to the real cells than a second sample of them could be: copies, or an unfair comparison."
_HEADLINES = {
    "very close": "Very close: hardly to be told from a second sample of real cells.",
    "close": "Close: nearer to real cells than to the best trivial generator.",
    "partly": "Partly real: better than the best trivial generator, but nearer to it than to real cells.",
    "partly, or close": "Partly real, or close: beyond the best trivial generator; more cells would tell how far.",
    "no, or partly": "Not real yet, or partly: not told from the best trivial generator; more cells would tell.",
    "too few cells to say": "Too few cells to say: from no better than a trivial generator to close to real cells.",
    "no": "Not real yet: no better than a generator that draws each gene on its own.",
    "not on this scale": "Predicted cells, and a scale that is not theirs: see the diagnostic first.",
    "not known": "Measured, but without a scale: no metric has a calibrated score.",
}


def _are_comparable(overall: pd.DataFrame) -> bool:
    return overall.loc["same_space", "value"] != 0


def _valid(overall: pd.DataFrame) -> Answer:
    if not _are_comparable(overall):
        # all else follows from it
        return Answer("Valid?", "no", "bad", overall.loc["same_space", "warning"])
    # copies are no fault of the comparison, and have a question of their own
    rows = overall[(overall["group"] == "diagnostic") & (overall.index != "real_copies")]
    # what could not be measured says nothing
    labels = overall.loc[overall["value"].notna(), "warning"].get(AGREEMENT, "")
    problems = [text for text in [*rows["warning"], labels] if text]
    if not problems:
        return Answer("Valid?", "yes", "good", "Same space, as many zeros and as much variation as real cells.")
    is_bad = bool(rows.loc["same_space", "warning"])
    if labels:
        row = overall.loc[AGREEMENT]
        is_bad = is_bad or row["value"] < MIN_CERTAIN_AGREEMENT * row["replicate"]
    tone: Tone = "bad" if is_bad else "fair"
    return Answer("Valid?", "no" if tone == "bad" else "with care", tone, " ".join(problems))


def _deciding(overall: pd.DataFrame) -> Score:
    """The score of the strictest test, or the median of what there is."""
    scores = overall["score"].astype(float).dropna()
    if scores.empty:
        return Score("", np.nan, np.nan, np.nan)
    keys = [name for name in KEY_METRICS if name in scores]
    if not keys:
        return Score("median", float(scores.median()), np.nan, np.nan)
    name = min(keys, key=lambda k: scores[k])
    return Score(name, float(scores[name]), *_score_interval(overall.loc[name]))


def _close(overall: pd.DataFrame, score: Score) -> Answer:
    scores = overall["score"].astype(float).dropna()
    repeats = [text for text in [overall["warning"].get(REPEATS, "")] if text]
    if scores.empty:
        has_ends = overall["trivial_value"].notna().any()
        why = (
            "The best trivial generator does as well as real cells in all that was measured: take more cells, trees or "
            "metrics."
            if has_ends
            else "There are no trivial generators or no replicate to compare with."
        )
        return Answer("Close?", "not known", "unknown", " ".join([why, *repeats]))
    median = float(scores.median())
    if score.metric == "median":
        detail = f"Median of the calibrated scores {median:.2f}"
    else:
        interval = f" ({score.low:.2f} to {score.high:.2f} with other cells)" if np.isfinite(score.high) else ""
        detail = f"Calibrated score {score.value:.2f}{interval} in the strictest test; median {median:.2f}"
    answer, tone = _word(score)
    if overall["warning"].get(UNSEEN, ""):
        answer, tone = "not on this scale", "unknown"
    return Answer("Close?", answer, tone, " ".join([f"{detail} of {len(scores)} metrics.", *repeats]))


def _word(score: Score) -> tuple[str, Tone]:
    """The answer that a score gives; where other cells might give another one, no surer than they allow."""
    if score.low < _BETTER and score.high >= _CLOSE:
        return "too few cells to say", "unknown"
    if score.low < _BETTER <= score.high:
        return "no, or partly", "fair"
    if score.low < _CLOSE <= score.high:
        return "partly, or close", "fair"
    _, answer, tone = next(of_score for of_score in _ANSWERS if score.value >= of_score[0])
    return answer, tone


_ANSWERS: tuple[tuple[float, str, Tone], ...] = (
    (_VERY_CLOSE, "very close", "good"),
    (_CLOSE, "close", "good"),
    (_BETTER, "partly", "fair"),
    (-np.inf, "no", "bad"),
)


def _score_interval(row: pd.Series) -> tuple[float, float]:
    """The scores at both ends of the interval of a value."""
    metric = metrics_by_name()[row.name]
    columns = ("trivial_value", "replicate", "low", "high")
    best, real, *ends = (metric.loss(row[column], metric.ideal, row["n_real"]) for column in columns)
    if not best > real:
        return np.nan, np.nan
    first, second = ((best - end) / (best - real) for end in ends)
    return min(first, second), max(first, second)


def _private(overall: pd.DataFrame) -> Answer:
    copied = overall["warning"].get("real_copies", "")
    if copied:
        return Answer("New?", "no", "bad", copied)
    beyond = [text for text in map(beyond_chance, overall.reset_index().itertuples()) if text]
    if beyond:
        return Answer("New?", "not certain", "bad", beyond[0])
    # a measure that could not be taken says nothing
    rows = overall[(overall["group"] == "privacy") & overall["value"].notna()]
    if rows.empty:
        return Answer(
            "New?",
            "not checked",
            "unknown",
            "Copies are looked for with the training cells (`train`), by the metrics dcr_ratio and duplicates.",
        )
    problems = [text for text in rows["warning"] if text]
    if problems:
        # smooth cells lie close to everything; copies are also recognised, or much closer still
        others = [name for name in rows.index if name != "dcr_ratio" and rows.loc[name, "warning"]]
        copied = others or rows.loc["dcr_ratio", "value"] < CERTAIN_COPIES
        return Answer("New?", "no" if copied else "not certain", "bad" if copied else "fair", " ".join(problems))
    parts = []
    if "dcr_ratio" in rows.index:
        parts.append(
            f"as far from the training cells as unseen real cells (ratio {rows.loc['dcr_ratio', 'value']:.2f})"
        )
    if "duplicates" in rows.index:
        parts.append(f"{100 * rows.loc['duplicates', 'value']:.1f} % exact copies")
    text = ", ".join(parts) or "no sign of copies"
    return Answer("New?", "yes", "good", text[0].upper() + text[1:] + ".")


def _summary(overall: pd.DataFrame) -> str:
    if "rf_auc_genes" not in overall.index:
        return ""
    row = overall.loc["rf_auc_genes"]
    text = (
        f"Of a real and a synthetic cell, a random forest picks out the synthetic one in {_percent(row['value'])} "
        "of the cases (guessing: 50\u00a0%"
    )
    if np.isfinite(row["replicate"]):
        text += f"; with other real cells in their place: {_percent(row['replicate'])}"
    if np.isfinite(row["trivial_value"]):
        text += f"; with the best trivial generator: {_percent(row['trivial_value'])}"
    return text + ")."


def _percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"
