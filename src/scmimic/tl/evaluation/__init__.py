"""How real synthetic cells are: computed once, an object with the table, the verdict, the picture and the page."""

from scmimic.tl.evaluation._cells import Cells
from scmimic.tl.evaluation._measures import MEASURES, Options, Pair, closest_record, forest_genes, metrics_by_name
from scmimic.tl.evaluation._result import Evaluation
from scmimic.tl.evaluation._run import evaluate, run
from scmimic.tl.evaluation._settings import Settings, takes

__all__ = [
    "MEASURES",
    "Cells",
    "Evaluation",
    "Options",
    "Pair",
    "Settings",
    "closest_record",
    "evaluate",
    "forest_genes",
    "metrics_by_name",
    "run",
    "takes",
]
