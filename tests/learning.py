"""What trainings have learned: asserted by the tests, measured by `benchmarks/learning_margins.py`.

A test asks for the fixture `learned` and calls it with a quantity and its bound. The benchmark runs these tests again
with other seeds and threads, and once with optimisers that do nothing, and reads the quantities from a file. So every
training that such a test looks at starts from `SEED`.
"""

import json
import math
import os
from pathlib import Path

import torch

# Seed of the trainings. 0 in the tests.
SEED = int(os.environ.get("SCMIMIC_TRAINING_SEED", "0"))
# File that takes the quantities, one JSON object a line. With it nothing is asserted, and all other tests are left out.
RECORD = os.environ.get("SCMIMIC_LEARNED")
# Whether optimisers do nothing.
OFF = "SCMIMIC_NO_LEARNING" in os.environ


def stop_optimisers():
    """Let every training end with the weights that it began with."""

    def step(self, closure=None):
        return None if closure is None else closure()

    for optimiser in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        optimiser.step = step


class Learned:
    """Assert or record the quantities of one test."""

    def __init__(self, test):
        self.test, self.names = test, set()

    def __call__(self, name, value, *, above=-math.inf, below=math.inf, off=None):
        """Check that a quantity is between two bounds.

        Parameters
        ----------
        name
            What it is, in words; once per test.
        value
            What was found.
        above, below
            The bounds.
        off
            Value of the quantity where what the test is about is switched off, if that is known without a training:
            1 for the ratio of a quantity with and without it. The bounds must exclude it.
        """
        value, off = float(value), None if off is None else float(off)
        assert name not in self.names, f"{name!r} is recorded twice"
        self.names.add(name)
        assert off is None or not above < off < below, f"{name!r} would also hold without learning"
        if RECORD is None:
            assert above < value < below, f"{name}: {value:.4g} is not between {above} and {below}"
            return
        row = {"test": self.test, "quantity": name, "value": value, "above": above, "below": below, "off": off}
        with Path(RECORD).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
