"""How far is each test of what a training has learned from its bound? Other seeds and threads stand for other machines.

    python benchmarks/learning_margins.py --out margins
    python benchmarks/learning_margins.py --out margins --only test_spread   # these tests once more
    python benchmarks/learning_margins.py --out margins --page               # docs/benchmarks/learning_margins.md

The quantities and their bounds stand in the tests alone, which hand both to the fixture `learned` (tests/learning.py).
Every seed and number of threads has a process, and its rows a file in `--out`; a run goes on where it was stopped. With
a further number of threads, the first seed tells which tests it makes a difference to; only those are run with the
other seeds. A last run, in which optimisers do nothing, tells what the quantities are without learning.

A margin is the distance of the worst run from the bound, in standard deviations over all runs. It is a failure if it is
below 3, or if a test holds without learning.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _common import environment, put_table, show

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "learning_margins.md"
LEAST = 3.0
OFF = "off.jsonl"

Row = dict[str, Any]
Key = tuple[str, str]


def run(out: Path, name: str, tests: Collection[str], only: str | None, threads: int, **variables: str) -> None:
    """Run tests in a process of their own; their rows replace those in the file."""
    record = (out / f"{name}.partial").resolve()
    record.write_text("")
    settings = {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    settings |= {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT / "src"), "SCMIMIC_LEARNED": str(record)}
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--show-capture=no", "-W", "ignore"]
    options += [] if only is None else ["-k", only]
    command = [sys.executable, "-m", "pytest", *options, *(sorted(tests) or ["tests"])]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings | variables, capture_output=True, text=True)
    if done.returncode < 0:
        raise SystemExit(f"{name}: the run was killed.")
    rows = read(record)
    again = {row["test"] for row in rows}
    kept = [row for row in read(out / name) if row["test"] not in again]
    (out / name).write_text("".join(json.dumps(row) + "\n" for row in kept + rows), encoding="utf-8")
    record.unlink()
    print(f"{name}: {len(rows)} quantities of {len(again)} tests", flush=True)
    # 5: `only` leaves none. Without learning a test may well fail before its quantities
    if done.returncode not in (0, 5) and "SCMIMIC_NO_LEARNING" not in variables:
        print(done.stdout[-5000:], done.stderr[-1000:])
        raise SystemExit(f"{name}: a test fails besides what is measured.")


def read(path: Path) -> list[Row]:
    """Rows of a file, none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def values(path: Path) -> dict[str, list[float]]:
    """What each test found, in its order."""
    found: dict[str, list[float]] = {}
    for row in read(path):
        found.setdefault(row["test"], []).append(row["value"])
    return found


def measure(out: Path, seeds: int, threads: list[int], only: str | None, jobs: int) -> None:
    """Run what is missing, or the tests of `only` in any case."""
    out.mkdir(parents=True, exist_ok=True)

    def run_seeds(number: int, chosen: Iterable[int], tests: Collection[str] = ()) -> None:
        names = {seed: f"seed{seed}_threads{number}.jsonl" for seed in chosen}
        missing = [seed for seed, name in names.items() if only is not None or not (out / name).exists()]
        with ThreadPoolExecutor(jobs) as pool:
            for done in [
                pool.submit(run, out, names[seed], tests, only, number, SCMIMIC_TRAINING_SEED=str(seed))
                for seed in missing
            ]:
                done.result()

    run_seeds(threads[0], range(seeds))
    for number in threads[1:]:
        run_seeds(number, [0])
        one, other = (values(out / f"seed0_threads{n}.jsonl") for n in (threads[0], number))
        if tests := {test for test in other if other[test] != one.get(test)}:
            run_seeds(number, range(1, seeds), tests)
    if only is not None or not (out / OFF).exists():
        run(out, OFF, (), only, threads[0], SCMIMIC_NO_LEARNING="1")


def summarise(out: Path) -> list[Row]:
    """One row per quantity."""
    runs: dict[Key, list[Row]] = {}
    for path in sorted(out.glob("seed*.jsonl")):
        for row in read(path):
            runs.setdefault((row["test"], row["quantity"]), []).append(row)
    off = {(row["test"], row["quantity"]): row["value"] for row in read(out / OFF)}
    table = []
    for (test, quantity), rows in runs.items():
        low, high, without = rows[-1]["above"], rows[-1]["below"], rows[-1]["off"]
        found = np.array([row["value"] for row in rows])
        distance = np.minimum(found - low, high - found)
        spread = found.std(ddof=1)
        without = off.get((test, quantity), math.nan) if without is None else without
        table.append(
            {
                "test": test,
                "quantity": quantity,
                "bound": bound(low, high),
                "runs": len(found),
                "mean": found.mean(),
                "sd": spread,
                "worst": found[distance.argmin()],
                "margin": math.inf if spread == 0 and distance.min() > 0 else distance.min() / max(spread, 1e-12),
                "off": without,
                "fails": not low < without < high,
            }
        )
    return table


def bound(low: float, high: float) -> str:
    """What a quantity must be."""
    if math.isinf(low):
        return f"< {high:.3g}"
    return f"> {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"


COLUMNS = ["test", "quantity", "bound", "runs", "mean", "sd", "worst", "margin in sd", "without learning"]


def cells(table: Iterable[Row]) -> list[list[Any]]:
    """The table of the page."""
    rows = []
    for row in table:
        test = row["test"].removeprefix("tests/").replace(".py::test_", ": ").replace("_", " ")
        margin = "never moves" if math.isinf(row["margin"]) else float(row["margin"])
        off = "error" if math.isnan(row["off"]) else float(row["off"])
        numbers = [float(row[key]) for key in ("mean", "sd", "worst")]
        without = [off, "fails"] if row["fails"] else off
        rows.append([test, row["quantity"], row["bound"], row["runs"], *numbers, margin, without])
    return rows


def problems(table: list[Row]) -> list[str]:
    """Margins that are too small, and tests that hold without learning."""
    found = [f"{r['test']}, {r['quantity']}: {r['margin']:.1f} sd" for r in table if r["margin"] < LEAST]
    failing = {row["test"] for row in table if row["fails"]}
    return found + [f"{test}: holds without learning" for test in {r["test"]: 0 for r in table} if test not in failing]


TEXT = """# Learning margins

A test that asserts what a training has learned must hold on every machine, and processors differ in their rounding as
much as seeds do on one. This is how far each such test is from its bound, over {seeds} seeds of the training with
{threads} thread{plural}; `runs` says how many there were of a test, since one that a second thread leaves exactly as it
is was run with one. The margin is the distance of the worst run from the bound, in standard deviations over all runs;
the benchmark fails below 3. The last column is the quantity where optimisers do nothing, or, for a ratio or a
difference of two trainings, its value without the mechanism; "fails" says that the bound excludes it. Every test has a
quantity that fails so; the others guard another side.

```bash
python benchmarks/learning_margins.py --seeds {seeds} --threads {arguments} --out margins --page
```

{quantities} quantities of {tests} tests; the smallest margin is {least:.1f}. {versions}.

```{{results}} margins
```

The numbers of this page are in [`results/learning_margins.json`](results/learning_margins.json).
"""


def page(table: list[Row], seeds: int, threads: list[int]) -> str:
    """The page of the documentation."""
    return TEXT.format(
        seeds=seeds,
        threads=" and ".join(map(str, threads)),
        plural="" if threads == [1] else "s",
        arguments=" ".join(map(str, threads)),
        quantities=len(table),
        tests=len({row["test"] for row in table}),
        least=min(row["margin"] for row in table),
        versions=", ".join(f"{name} {number}" for name, number in environment().items()),
    )


def main() -> None:
    """Measure, print the table, and fail where a margin is too small."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows of each run")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", help="part of the names of the tests to run once more")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--page", action="store_true", help="write the page of the documentation")
    args = parser.parse_args()
    measure(args.out, args.seeds, args.threads, args.only, args.jobs)
    table = summarise(args.out)
    show(table, ["test", "quantity", "bound", "runs", "mean", "sd", "worst", "margin", "off", "fails"], "Margins")
    if args.page:
        put_table("learning_margins", "margins", COLUMNS, cells(table))
        PAGE.write_text(page(table, args.seeds, args.threads), encoding="utf-8")
    if found := problems(table):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
