import numpy as np
import pandas as pd
import pytest

from scmimic.tl.evaluation._verdict import judge


def table(*rows):
    columns = ["metric", "group", "label", "value", "low", "high", "replicate", "trivial_value", "score", "n_real"]
    columns.append("warning")
    defaults = {
        "label": "overall",
        "value": 0.6,
        "low": np.nan,
        "high": np.nan,
        "replicate": 0.5,
        "trivial_value": 0.9,
        "score": np.nan,
        "n_real": 210,
        "warning": "",
    }
    return pd.DataFrame([defaults | row for row in rows], columns=columns)


SPACE = {"metric": "same_space", "group": "diagnostic", "value": 1.0}


def forest(score, **kwargs):
    return {"metric": "rf_auc_genes", "group": "discriminator", "score": score} | kwargs


@pytest.mark.parametrize(
    ("score", "headline", "tone"),
    [
        (0.95, "Very close", "good"),
        (0.6, "Close", "good"),
        (0.3, "Partly real", "fair"),
        (-0.4, "Not real yet", "bad"),
        (np.nan, "without a scale", "unknown"),
    ],
)
def test_headline_follows_the_score(score, headline, tone):
    verdict = judge(table(SPACE, forest(score)))
    assert headline in verdict.headline
    assert verdict.tone == tone
    assert [answer.question for answer in verdict.answers] == ["Valid?", "Close?", "New?"]


def test_strictest_forest_decides():
    other = {"metric": "rf_auc_pcs", "group": "discriminator", "score": 0.99}
    easy = {"metric": "mmd", "group": "distribution", "score": -3.0}
    assert judge(table(SPACE, forest(0.3), other, easy)).headline.startswith("Partly")
    # without a forest, the median of what there is
    rows = [{"metric": name, "group": "genes", "score": s} for name, s in (("a", 0.2), ("b", 0.6), ("c", 0.7))]
    assert judge(table(SPACE, *rows)).headline.startswith("Close")


def test_few_cells_do_not_decide_between_partly_and_close():
    """(0.9 - 0.72) / (0.9 - 0.5) is 0.45; the ends of its interval are 0.7 and 0.2."""
    unsure = judge(table(SPACE, forest(0.45, value=0.72, low=0.62, high=0.82)))
    assert unsure.headline.startswith("Partly real, or close")
    assert (unsure.answers[1].answer, unsure.tone) == ("partly, or close", "fair")
    assert "0.45 (0.20 to 0.70 with other cells) in the strictest test" in unsure.answers[1].detail
    sure = judge(table(SPACE, forest(0.45, value=0.72, low=0.71, high=0.73)))
    assert sure.headline.startswith("Partly real: better")
    # a replicate that was lucky does not stretch the scale
    lucky = judge(table(SPACE, forest(0.45, value=0.72, low=0.62, high=0.82, replicate=0.41)))
    assert lucky.answers[1].detail == unsure.answers[1].detail


@pytest.mark.parametrize(
    ("low", "high", "answer", "tone"),
    [
        # a score of 0.1 is an AUC of 0.86 on this scale, one of 0.5 an AUC of 0.7
        (0.87, 0.92, "no", "bad"),
        (0.80, 0.95, "no, or partly", "fair"),
        (0.75, 0.85, "partly", "fair"),
        (0.65, 0.85, "partly, or close", "fair"),
        (0.65, 0.95, "too few cells to say", "unknown"),
        (0.55, 0.65, "close", "good"),
    ],
)
def test_headline_is_no_surer_than_the_interval(low, high, answer, tone):
    """Whatever the score is: the ends of its interval count."""
    for value in (low, (low + high) / 2, high):
        verdict = judge(table(SPACE, forest((0.9 - value) / 0.4, value=value, low=low, high=high)))
        assert (verdict.answers[1].answer, verdict.tone) == (answer, tone)
    score = (verdict.score.metric, verdict.score.value, verdict.score.low, verdict.score.high)
    assert score == pytest.approx(("rf_auc_genes", *((0.9 - end) / 0.4 for end in (high, high, low))))


def test_predicted_cells_are_not_put_on_a_scale_of_those_who_know_the_truth():
    unseen = {"metric": "unseen_combinations", "group": "diagnostic", "value": 1.0, "warning": "It was not seen."}
    verdict = judge(table(SPACE, forest(-2.59), unseen))
    assert verdict.headline.startswith("Predicted cells") and verdict.tone == "unknown" and verdict.is_meaningful
    assert verdict.answers[0].answer == "with care" and "It was not seen." in verdict.answers[0].detail
    # a few of them change nothing
    assert judge(table(SPACE, forest(0.6), unseen | {"value": 0.2, "warning": ""})).headline.startswith("Close")


def test_copies_come_before_realism():
    copy = {"metric": "dcr_ratio", "group": "privacy", "value": 0.0, "warning": "the generator copies"}
    verdict = judge(table(SPACE, forest(1.0), copy))
    assert "copies" in verdict.headline
    assert verdict.tone == "bad"
    assert verdict.answers[2].answer == "no"


def test_copies_of_the_real_cells_come_before_realism():
    copies = {"metric": "real_copies", "group": "diagnostic", "value": 0.3, "warning": "30 % are exact copies"}
    verdict = judge(table(SPACE, forest(1.0), copies))
    assert verdict.headline.startswith("These cells are copies")
    # the comparison itself is fine, and training cells are not needed to see it
    assert verdict.answers[0].answer == "yes"
    assert (verdict.answers[2].answer, verdict.answers[2].detail) == ("no", "30 % are exact copies")


def test_beyond_chance_comes_before_realism():
    verdict = judge(table(SPACE, forest(1.0, value=0.2)))
    assert verdict.headline.startswith("Closer to the real cells than a second sample")
    assert verdict.tone == "bad"
    assert "copy the real ones" in verdict.answers[2].detail
    # with few cells it is luck
    assert judge(table(SPACE, forest(1.0, value=0.4))).headline.startswith("Very close")


def test_what_was_not_measured_is_no_finding():
    rows = [{"metric": "dcr_ratio", "group": "privacy", "value": np.nan, "warning": "Not measured: it needs `train`."}]
    answer = judge(table(SPACE, forest(0.95), *rows)).answers[2]
    assert (answer.answer, answer.tone) == ("not checked", "unknown")


def test_short_distances_alone_are_not_certain():
    near = {"metric": "dcr_ratio", "group": "privacy", "value": 0.85, "warning": "closer than usual"}
    verdict = judge(table(SPACE, forest(0.7), near))
    assert verdict.answers[2].answer == "not certain"
    assert verdict.headline.startswith("Close")
    found = {"metric": "membership_auc", "group": "privacy", "value": 0.8, "warning": "told apart"}
    assert judge(table(SPACE, forest(0.7), near, found)).answers[2].tone == "bad"


def test_broken_comparison_comes_before_realism():
    verdict = judge(table(SPACE | {"warning": "counts against logarithms"}, forest(1.0)))
    assert verdict.tone == "bad"
    assert "diagnostic" in verdict.headline
    smooth = {"metric": "variance_ratio", "group": "diagnostic", "warning": "Smooth output"}
    verdict = judge(table(SPACE, smooth, forest(0.95)))
    assert verdict.answers[0].answer == "with care"
    assert verdict.headline.startswith("Very close")


def test_summary_names_the_numbers():
    text = judge(table(SPACE, forest(0.75, value=0.6))).summary
    assert "60\u00a0%" in text
    assert "real cells in their place: 50\u00a0%" in text
    assert "trivial generator: 90\u00a0%" in text
    assert judge(table(SPACE)).summary == ""


def test_privacy_unknown_without_training_cells():
    verdict = judge(table(SPACE, forest(0.95)))
    assert verdict.answers[2].answer == "not checked"
    rows = [
        {"metric": "dcr_ratio", "group": "privacy", "value": 1.01},
        {"metric": "duplicates", "group": "privacy", "value": 0.0},
    ]
    answer = judge(table(SPACE, forest(0.95), *rows)).answers[2]
    assert answer.tone == "good"
    assert "1.01" in answer.detail


@pytest.mark.parametrize(
    ("value", "warning", "answer", "tone"),
    [(0.3, "", "yes", "good"), (0.26, "Mixed up.", "with care", "fair"), (0.19, "Mixed up.", "no", "bad")],
)
def test_labels_that_cells_do_not_bear_out_are_no_small_matter(value, warning, answer, tone):
    row = {"metric": "label_agreement", "group": "types", "value": value, "replicate": 0.33, "warning": warning}
    verdict = judge(table(SPACE, forest(0.6), row))
    assert (verdict.answers[0].answer, verdict.answers[0].tone) == (answer, tone)
    assert warning in verdict.answers[0].detail
    assert verdict.headline.startswith("Something is wrong" if tone == "bad" else "Close")


def test_cells_in_two_spaces_are_neither_close_nor_new():
    space = SPACE | {"value": 0.0, "warning": "Two spaces."}
    noisy = {"metric": "variance_ratio", "group": "diagnostic", "value": 2.0, "warning": "Noisy."}
    new = {"metric": "dcr_ratio", "group": "privacy", "value": 1.01}
    verdict = judge(table(space, noisy, forest(0.95), new))
    assert [one.answer for one in verdict.answers] == ["no", "not known", "not known"]
    assert verdict.answers[0].detail == "Two spaces." and not verdict.is_meaningful
    assert judge(table(SPACE, forest(0.1), new)).is_meaningful


def test_agreement_that_was_not_measured_is_no_doubt():
    row = {"metric": "label_agreement", "group": "types", "value": np.nan, "warning": "Not measured."}
    assert judge(table(SPACE, forest(0.6), row)).answers[0].answer == "yes"


@pytest.mark.parametrize(("trivial", "text"), [(0.6, "does as well as real cells"), (np.nan, "no trivial generators")])
def test_why_there_is_no_scale(trivial, text):
    rows = (row | {"trivial_value": trivial} for row in (SPACE, forest(np.nan)))
    assert text in judge(table(*rows)).answers[1].detail
