"""The error that a caller may expect of a metric on real data."""


class TooFewCellsError(ValueError):
    """A side, or a label of it, has fewer cells than the metric can be taken of.

    The one error that well-formed cells and settings give: whoever measures many groups of cells, as
    :func:`scmimic.tl.evaluate` does, may leave such a group out. Every other error of a metric is a fault of its
    arguments.

    Examples
    --------
    >>> import scmimic as sm
    >>> try:
    ...     sm.metrics.mmd([[0.0]], [[1.0], [2.0]])
    ... except sm.metrics.TooFewCellsError as error:
    ...     print(error)
    MMD needs at least two cells on each side, got 1 real and 2 synthetic.
    """
