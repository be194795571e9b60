"""How far does a reader travel? Files that a few calls pass through, in the order in which functions are first entered.

    python benchmarks/trips.py
    python benchmarks/trips.py --show generate     # with the functions, one line for each change of file

A trip is the list of the package's own functions that a call enters, each where it is entered first: what one who reads
along opens. A change is a step from one file to another, a return one to a file that was open before. Checks of
arguments are a line of their own: they are read by who wants to know what is refused, not what is done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import scvi

import scmimic as sm

PACKAGE = Path(sm.__file__).parent
QUIET = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "enable_checkpointing": False}


@contextmanager
def recorded() -> Iterator[list[CodeType]]:
    """Functions of the package in the order in which they are first entered."""
    seen: dict[CodeType, None] = {}

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        # comprehensions, lambdas and the bodies of modules are no functions to a reader
        if event == "call" and code not in seen and not code.co_name.startswith("<"):
            if code.co_filename.startswith(str(PACKAGE)):
                seen[code] = None

    functions: list[CodeType] = []
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield functions
    finally:
        sys.setprofile(before)
        functions += seen


def generate() -> list[CodeType]:
    """`generate` by label."""
    model = trained(warmup_epochs=1)
    with recorded() as functions:
        model.generate(labels={"type_0": 200}, seed=0)
    return functions


def game_step() -> list[CodeType]:
    """One step of ACTIVA's game."""
    from scmimic.train import IntrospectiveTrainingPlan as Plan

    step, found = Plan.training_step, []

    def watched(plan: Any, *args: Any) -> Any:
        if found or not plan.plays_game:
            return step(plan, *args)
        with recorded() as functions:
            output = step(plan, *args)
        found.extend(functions)
        return output

    Plan.training_step = watched
    try:
        trained(warmup_epochs=1, max_epochs=2)
    finally:
        Plan.training_step = step
    return found


def evaluate() -> list[CodeType]:
    """`tl.evaluate` of two metrics."""
    test, synthetic, settings = cells()
    with recorded() as functions:
        sm.tl.evaluate(test, synthetic, **settings)
    return functions


def page() -> list[CodeType]:
    """`tl.evaluate` of two metrics, and the page."""
    test, synthetic, settings = cells()
    with recorded() as functions, tempfile.TemporaryDirectory() as folder:
        sm.report(test, synthetic, Path(folder) / "report.html", **settings)
    return functions


TRIPS: dict[str, Callable[[], list[CodeType]]] = {
    "generate": generate,
    "game step": game_step,
    "evaluate": evaluate,
    "evaluate + page": page,
}


def trained(max_epochs: int = 2, **kwargs: Any) -> sm.ACTIVA:
    """A small ACTIVA."""
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=40, seed=0)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=max_epochs, **QUIET, **kwargs)
    return model


def cells() -> tuple[Any, Any, dict[str, Any]]:
    """Test cells, synthetic cells and settings of an evaluation."""
    adata = sm.datasets.synthetic_counts(n_obs=400, n_vars=40, seed=0)
    train, test = adata[:200].copy(), adata[200:].copy()
    generator = sm.baselines.Multinomial(train, labels_key="cell_type").fit()
    synthetic = generator.generate(labels=test.obs["cell_type"].value_counts(), seed=0)
    settings = {"labels_key": "cell_type", "train": train, "n_trees": 10, "n_comps": 5, "n_jobs": 1}
    return test, synthetic, settings | {"metrics": ["rf_auc_genes", "mmd"]}


def path_of(code: CodeType) -> str:
    """File of a function, below the package."""
    return str(Path(code.co_filename).relative_to(PACKAGE))


def main() -> None:
    """Print the table, and a trip where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", choices=TRIPS, action="append", default=[])
    args = parser.parse_args()
    scvi.settings.seed = 0
    warnings.simplefilter("ignore")
    print(f"{'trip':18s} files functions changes returns")
    for name, trip in TRIPS.items():
        functions = trip()
        files = [path_of(code) for code in functions]
        stops = [i for i, file in enumerate(files) if i == 0 or file != files[i - 1]]
        changes = len(stops) - 1
        returns = changes - (len(set(files)) - 1)
        print(f"{name:18s} {len(set(files)):5d} {len(files):9d} {changes:7d} {returns:7d}")
        if name in args.show:
            for start, stop in zip(stops, [*stops[1:], len(files)], strict=True):
                print(f"    {files[start]:36s} {', '.join(code.co_qualname for code in functions[start:stop])}")


if __name__ == "__main__":
    main()
