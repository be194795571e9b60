"""How real synthetic cells are: computed once, an object with the table, the verdict, the picture and the page."""

from scmimic.tl.evaluation._result import Evaluation
from scmimic.tl.evaluation._run import evaluate

__all__ = ["Evaluation", "evaluate"]
