"""Are synthetic cells of the type they were asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from scmimic._arrays import as_labels, as_matrix, check_comparable
from scmimic._reprs import short_repr


@short_repr
@dataclass(frozen=True)
class LabelAgreement:
    """Shares of synthetic cells that a classifier takes for the label asked for, each from 0 to 1.

    Result of :func:`~scmimic.metrics.label_agreement`.

    Attributes
    ----------
    overall
        Over all synthetic cells.
    per_label
        By the label asked for.
    """

    overall: float
    per_label: dict[str, float]


def label_agreement(
    train: Any, train_labels: Any, synthetic: Any, synthetic_labels: Any, *, classifier: Any = None
) -> LabelAgreement:
    """Share of synthetic cells that a classifier trained on real cells takes for the label asked for: 0 to 1.

    The classifier is a logistic regression on genes divided by their standard deviation, with a strong L2 penalty
    (C = 0.01). Ideal is what unseen real cells score: score held-out real cells as `synthetic` too. Far above it,
    the synthetic cells are too typical of their label; generators whose cells are means of a label score 1.

    Parameters
    ----------
    train
        Real cells x features that train the classifier, dense or sparse: log-normalised expression, such as counts
        scaled to 10,000 per cell and log1p'd.
    train_labels
        Label of each of them.
    synthetic
        Synthetic cells in the same space, with the same genes in the same order.
    synthetic_labels
        Label that was asked for, for each synthetic cell. One that `train` lacks is never met.
    classifier
        A fitted classifier with `predict`, as :func:`fit_label_classifier` gives it, in place of a new one: for several
        sets of synthetic cells.

    Returns
    -------
    :class:`LabelAgreement`.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features or from its labels in length, or if the training cells
        have a single label.

    See Also
    --------
    scmimic.metrics.fit_label_classifier : The classifier.
    scmimic.metrics.inception_score : Are types clear and all there?

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 50)
    >>> x = rng.normal(size=(100, 3)) + 6 * (labels == "T")[:, None]
    >>> sm.metrics.label_agreement(x, labels, x[:60], labels[:60]).per_label
    {'B': 1.0, 'T': 1.0}
    """
    train, synthetic = as_matrix(train, "train"), as_matrix(synthetic, "synthetic")
    check_comparable(train=train, synthetic=synthetic)
    train_labels = as_labels(train_labels, "train_labels", train.shape[0])
    asked = as_labels(synthetic_labels, "synthetic_labels", synthetic.shape[0])
    if classifier is None:
        classifier = fit_label_classifier(train, train_labels)
    right = classifier.predict(synthetic) == asked
    per_label = {str(label): float(right[asked == label].mean()) for label in np.unique(asked)}
    return LabelAgreement(float(right.mean()), per_label)


def fit_label_classifier(x: Any, labels: Any) -> Pipeline:
    """Fit the classifier of :func:`~scmimic.metrics.label_agreement`: logistic regression on scaled genes.

    Parameters
    ----------
    x
        Real cells x features, dense or sparse: log-normalised expression.
    labels
        One label for each cell.

    Returns
    -------
    The fitted pipeline.

    Raises
    ------
    ValueError
        If all cells have the same label, or the numbers of cells and labels differ.

    See Also
    --------
    scmimic.metrics.label_agreement : What it is for.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> x = np.array([[0.0, 5.0], [5.0, 0.0]] * 20)
    >>> sm.metrics.fit_label_classifier(x, ["B", "T"] * 20).predict([[1.0, 6.0]]).tolist()
    ['B']
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("The classifier needs at least two labels among the training cells.")
    return make_pipeline(StandardScaler(with_mean=False), LogisticRegression(C=0.01, max_iter=300)).fit(x, labels)
