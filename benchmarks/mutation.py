"""Do the tests fail when the code is wrong? Faults drawn at random, one at a time, against the tests that run the line.

    python benchmarks/mutation.py --out mutation
    python benchmarks/mutation.py --out mutation --survivors   # once more, with the sources and tests as they are
    python benchmarks/mutation.py --out mutation --page        # docs/benchmarks/mutation.md

A run goes on where it was stopped. Our own and not `mutmut` or `cosmic-ray`: they start a process per fault, and a
process needs eight seconds for its imports here. One parent imports everything but scmimic and forks a child per fault,
which loads the one changed module from memory; files stay as they are. `mutation/map.json` holds which test runs which
line (recorded once, `--record` does it anew): a child runs those of the fault's own part (`TESTS`), the fastest first,
until one fails. A fault that makes them last longer than the limit counts as killed; one that no test runs survives.
Faults that change nothing that can be seen stand in `mutation_equivalent.json`, each with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
sys.path.insert(0, str(SRC))
for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported; threads do not survive a fork
os.environ["MPLBACKEND"] = "Agg"

import coverage  # noqa: E402
import pytest  # noqa: E402
from _mutants import Mutant, draw, mutants, mutate  # noqa: E402

PARTS = [
    "metrics/*.py",
    "_arrays.py",
    "model/generation/_sampler.py",
    "model/generation/calibration/*.py",
    *(
        f"model/base/_{name}.py"
        for name in ("vae_module", "losses", "negative_binomial", "count_draws", "plan", "runner")
    ),
    *(
        f"model/{folder}/_{name}.py"
        for folder in ("activa", "actinn", "beta_tcvae", "gan")
        for name in ("module", "plan")
    ),
    *(f"model/activa/_{name}.py" for name in ("gradients", "softadapt")),
    *(f"model/gan/_{name}.py" for name in ("critic_gradients", "prediction")),
    "model/beta_tcvae/_total_correlation.py",
]
NETWORKS = ["tests/nn", "tests/model", "src/scmimic/model"]
METRICS = ["tests/metrics", "tests/test_arrays.py", "src/scmimic/metrics"]
TESTS = {"model": NETWORKS, "metrics": METRICS, "_arrays.py": METRICS}
# these start processes of their own, in which the recorder sees nothing
SPAWNING = "tests/model/base/test_ddp.py"
SPAWNED = {"model/base/_plan.py"}
OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "--no-header", "--tb=line"]
EQUIVALENT = Path(__file__).with_name("mutation_equivalent.json")
PAGE = ROOT / "docs" / "benchmarks" / "mutation.md"


class Recorder:
    """Which test runs which line. What a shared fixture runs counts for every test that uses the fixture."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=None, source=[str(SRC / "scmimic")], config_file=False)
        self.uses: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()
        self.context = ""

    def _switch(self, context: str) -> str:
        before, self.context = self.context, context
        self.coverage.switch_context(context)
        return before

    @staticmethod
    def _fixture(definition: Any) -> str:
        return f"fixture {definition.baseid} {definition.argname}"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = self._switch(item.nodeid)
        found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        self.uses[item.nodeid] = [self._fixture(d) for group in found.values() for d in group if d.scope != "function"]
        result = yield
        self._switch(before)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        name = self._fixture(fixturedef)
        before, start = self._switch(name), time.perf_counter()
        try:
            return (yield)
        finally:
            self._switch(before)
            self.seconds[name] += time.perf_counter() - start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.seconds[report.nodeid] = report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def record(self, paths: list[str]) -> dict[str, Any]:
        self.coverage.start()
        pytest.main([*(option for option in OPTIONS if option != "-x"), *paths], plugins=[self])
        self.coverage.stop()
        users = defaultdict(list)
        for test, fixtures in self.uses.items():
            for fixture in fixtures:
                users[fixture].append(test)
        lines: dict[str, dict[str, list[str]]] = {}
        data = self.coverage.get_data()
        for path in data.measured_files():
            found = lines[str(Path(path).relative_to(SRC / "scmimic"))] = {}
            for line, contexts in data.contexts_by_lineno(path).items():
                tests = {test for context in contexts for test in users.get(context, [context])}
                found[str(line)] = sorted(test for test in tests if test not in self.failed)
        tests = sorted(set(self.uses) - self.failed)
        cost = {test: self.seconds[test] + sum(self.seconds[f] for f in self.uses[test]) for test in tests}
        return {"lines": lines, "cost": cost, "seconds": {test: self.seconds[test] for test in tests}}


class Choice:
    """Keeps the chosen tests, file by file, the cheap ones first, and says which one failed."""

    def __init__(self, cost: dict[str, float]):
        self.cost, self.failed, self.run = cost, "", 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.cost]
        files = defaultdict(list)
        for item in chosen:
            files[item.nodeid.split("::")[0]].append(item)
        price = {name: sum(self.cost[i.nodeid] for i in group) / len(group) for name, group in files.items()}
        items[:] = [
            item
            for name in sorted(files, key=price.get)
            for item in sorted(files[name], key=lambda item: self.cost[item.nodeid])
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.run += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"import of {report.nodeid}"


class Fault:
    """Gives one module from memory."""

    def __init__(self, file: str, code: CodeType):
        self.path = SRC / "scmimic" / file
        self.module = ".".join(self.path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        self.code = code

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.module:
            return None
        loader = SourceFileLoader(name, str(self.path))
        loader.get_code = lambda name: self.code
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


# what a process started by a test does, so that it has the fault too
SITE = """
import sys
sys.path.insert(0, {benchmarks!r})
from pathlib import Path
from _mutants import Mutant, mutate
import mutation
mutant = Mutant(**{mutant!r})
path = mutation.SRC / "scmimic" / mutant.file
sys.meta_path.insert(0, mutation.Fault(mutant.file, mutate(path.read_text(), mutant, str(path))[0]))
"""


def chosen_tests(file: str, lines: range | None, seen: dict[str, Any], budget: float) -> dict[str, float]:
    """Cost of the tests that run these lines, of the fault's own part, no more than `budget` seconds of them."""
    parts = tuple(f"{part}/" for part in TESTS[file.split("/")[0]])
    covered = seen["lines"].get(file, {})
    here = set(covered) if lines is None else {str(line) for line in lines} & set(covered)
    if lines is not None and here and not any(test in seen["cost"] for line in here for test in covered[line]):
        here = set(covered)
    tests = {test for line in here for test in covered[line] if test.startswith(parts) and test in seen["cost"]}
    if file in SPAWNED:
        tests |= {test for test in seen["cost"] if test.startswith(SPAWNING)}
    chosen: dict[str, float] = {}
    for test in sorted(tests, key=lambda test: (seen["cost"][test], test)):
        budget -= seen["seconds"][test]
        if budget < 0 and chosen:
            break
        chosen[test] = seen["cost"][test]
    return chosen


def run_child(mutant: Mutant | None, code: CodeType | None, tests: dict[str, float], limit: int, write: int) -> None:
    """In the child: load the fault, run the tests, say what happened."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # in seconds of the processor: a busy machine kills no fault
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30, 24 * 2**30))
    sink = os.open(os.devnull, os.O_RDWR)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    choice = Choice(tests)
    with tempfile.TemporaryDirectory() as folder:
        if mutant is not None:
            sys.meta_path.insert(0, Fault(mutant.file, code))
            Path(folder, "sitecustomize.py").write_text(
                SITE.format(benchmarks=str(Path(__file__).parent), mutant=asdict(mutant))
            )
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{SRC}"
        try:
            status = int(pytest.main([*OPTIONS, *sorted({test.split("::")[0] for test in tests})], plugins=[choice]))
        except BaseException as error:  # noqa: BLE001 a fault may raise anything, SystemExit as well
            status, choice.failed = 2, choice.failed or repr(error)[:200]
    os.write(write, json.dumps({"status": status, "test": choice.failed, "run": choice.run}).encode())


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def judge(mutant: Mutant | None, code: CodeType | None, tests: dict[str, float], limit: float) -> dict[str, Any]:
    """Fork, wait, and kill what does not end."""
    if not tests:
        return {"outcome": "survived", "test": "", "run": 0, "seconds": 0.0}
    start, before = time.perf_counter(), _child_seconds()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run_child(mutant, code, tests, int(limit), write)
        finally:
            os._exit(0)
    os.close(write)
    ended = False
    try:
        while not ended and time.perf_counter() - start < 20 * limit:
            ended = os.waitpid(child, os.WNOHANG)[0] == child
            time.sleep(0.02)
    finally:
        # also the processes that a test started, and the child itself where this run is stopped
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read() if ended else b""
    result = (
        json.loads(told) if told else {"status": -1, "test": "the time limit" if not ended else "a crash", "run": 0}
    )
    if result["status"] == 5:
        raise SystemExit(f"none of the tests is there: record them anew ({sorted(tests)[:3]})")
    return {
        "outcome": "survived" if result["status"] == 0 else "killed",
        "test": result["test"],
        "run": result["run"],
        "seconds": round(_child_seconds() - before, 2),
    }


def sources() -> dict[str, str]:
    paths = sorted(path for part in PARTS for path in (SRC / "scmimic").glob(part) if path.name != "__init__.py")
    return {str(path.relative_to(SRC / "scmimic")): path.read_text(encoding="utf-8") for path in paths}


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_equivalent() -> dict[tuple[Any, ...], str]:
    """Why a fault changes nothing that is promised."""
    rows = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {Mutant(**row["mutant"]).name: row["reason"] for row in rows}


def record(out: Path) -> None:
    """Record in a child, so that the parent never imports scmimic."""
    paths = sorted({part for group in TESTS.values() for part in group if (ROOT / part).exists()})
    child = os.fork()
    if child == 0:
        try:
            seen = Recorder().record(paths)
            (out / "map.json").write_text(json.dumps(seen))
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def preload() -> None:
    """Everything that scmimic imports, but not scmimic."""
    import anndata  # noqa: F401
    import lightning  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import mudata  # noqa: F401
    import ot  # noqa: F401
    import rich  # noqa: F401
    import scanpy  # noqa: F401
    import scipy.stats  # noqa: F401
    import scvi  # noqa: F401
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.feature_selection
    import sklearn.linear_model  # noqa: F401
    import torch
    import umap  # noqa: F401

    torch.set_num_threads(1)
    assert "scmimic" not in sys.modules


def run(args: argparse.Namespace) -> None:
    out, texts = Path(args.out), sources()
    rows_file = out / "mutants.jsonl"
    os.chdir(ROOT)
    preload()
    if args.record or not (out / "map.json").exists():
        record(out)
    seen = json.loads((out / "map.json").read_text())
    drawn_file = out / "drawn.json"
    if not drawn_file.exists():
        drawn = draw({file: mutants(text, file) for file, text in texts.items()}, args.n, args.seed)
        drawn_file.write_text(json.dumps([asdict(mutant) for mutant in drawn], indent=1))
    drawn = [Mutant(**row) for row in json.loads(drawn_file.read_text())]
    last = {Mutant(**row["mutant"]).name: row["outcome"] for row in read_rows(rows_file)}
    equivalent = read_equivalent()
    for number, mutant in enumerate(drawn):
        before = last.get(mutant.name)
        if before is not None and (before == "killed" or not args.survivors or mutant.name in equivalent):
            continue
        if args.only and args.only not in mutant.file:
            continue
        found = mutate(texts[mutant.file], mutant, str(SRC / "scmimic" / mutant.file)) if mutant.file in texts else None
        if found is None:
            result = {"outcome": "gone", "test": "", "run": 0, "seconds": 0.0}
        else:
            code, lines = found
            tests = chosen_tests(mutant.file, lines, seen, args.budget)
            result = judge(mutant, code, tests, 60 + 3 * sum(seen["seconds"][test] for test in tests))
        with rows_file.open("a") as file:
            file.write(json.dumps({"mutant": asdict(mutant), **result}) + "\n")
        print(number, mutant.file, mutant.line, mutant.kind, result, flush=True)


def check(args: argparse.Namespace) -> None:
    """Without a fault every test passes, otherwise nothing is known about the faults."""
    os.chdir(ROOT)
    preload()
    seen = json.loads((Path(args.out) / "map.json").read_text())
    print(judge(None, None, seen["cost"], 3600))


def _code(text: str) -> str:
    """Python of one line for a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return f"`{text if len(text) < 90 else text[:87] + '...'}`"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]
    return [*lines, ""]


def page(args: argparse.Namespace) -> None:
    """The table per file, what was judged equivalent and why, what survived."""
    from _common import environment, put_table

    out = Path(args.out)
    drawn = [Mutant(**row) for row in json.loads((out / "drawn.json").read_text())]
    first: dict[tuple[Any, ...], str] = {}
    last: dict[tuple[Any, ...], str] = {}
    times: Counter[tuple[Any, ...]] = Counter()
    for row in read_rows(out / "mutants.jsonl"):
        name = Mutant(**row["mutant"]).name
        first.setdefault(name, row["outcome"])
        times[name] += 1
        last[name] = row["outcome"]
    reasons = read_equivalent()
    files: dict[str, Counter[str]] = defaultdict(Counter)
    waiting: list[Mutant] = []
    for mutant in drawn:
        ran = last.get(mutant.name, "not run")
        outcome = "equivalent" if ran == "survived" and mutant.name in reasons else ran
        if outcome == "survived" and times[mutant.name] == 1:
            waiting.append(mutant)
        files[mutant.file].update([outcome, "drawn"])
        files[mutant.file]["at first"] += first.get(mutant.name) == "survived"
        files[mutant.file]["at once"] += first.get(mutant.name) == "killed"
    total = sum(files.values(), Counter())
    columns = ["drawn", "at first", "killed", "survived", "equivalent", *(c for c in ("gone", "not run") if total[c])]
    titles = {"at first": "survived the first run"}
    shown = [*sorted(files.items()), ("**all**", total)]
    judged = total["killed"] + total["survived"]
    points = sum(len(mutants(text, file)) for file, text in sources().items())
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    lines = [
        "# Mutation",
        "",
        "Do the tests fail when the code is wrong? Small faults were put into the sources, one at a time: another",
        "comparison, sign, operator, constant, axis or function, a condition that always or never holds, swapped",
        "arguments, a keyword, slice, call or statement left out. Each fault ran against the tests of its part that",
        "execute its line, with a time limit.",
        "",
        "```bash",
        f"python benchmarks/mutation.py --out mutation --n {args.n} --seed {args.seed}",
        "python benchmarks/mutation.py --out mutation --survivors --record",
        "python benchmarks/mutation.py --out mutation --page",
        "```",
        "",
        f"{len(drawn)} faults were drawn with seed {args.seed} from the {points:,} possible ones, in every file in",
        f"proportion to its number; {len(last)} of them ran. Of the {judged} that are not equivalent,",
        f"**{total['killed']} die ({total['killed'] / max(judged, 1):.0%})**. Before the survivors got their tests",
        f"{total['at once']} did ({total['at once'] / max(judged, 1):.0%}).",
        "",
        "A fault that no test executes survives; one that makes the tests last longer than the limit is killed. To",
        "save time, the first run took the cheaper tests of each fault, and of most metrics the test file of the same",
        "name; the second took the test files of the same name alone. With all tests more can die, and none fewer.",
        '"Gone" is a fault whose place in the code no longer existed in the second run.',
        f"Versions: {versions}.",
        "",
        "```{results} files",
        "```",
        "",
        "The numbers are in [`results/mutation.json`](results/mutation.json).",
        "",
        "## Survivors",
        "",
        *(
            [f"{len(waiting)} of these have not run again since tests were written for them; they count as survivors."]
            if waiting
            else ["No test sees these."]
        ),
        "",
        *_table(
            ["function", "code", "fault"],
            [
                [f"`{m.file}` {m.function}", _code(m.original), _code(m.mutated)]
                for m in sorted(drawn, key=lambda m: (m.file, m.line))
                if last.get(m.name) == "survived" and m.name not in reasons
            ],
        ),
        "## Equivalent",
        "",
        "No test should see these: nothing that is promised changes.",
        "",
        *_table(
            ["function", "code", "fault", "why"],
            [
                [f"`{m.file}` {m.function}", _code(m.original), _code(m.mutated), reasons[m.name]]
                for m in sorted(drawn, key=lambda m: (m.file, m.line))
                if last.get(m.name) == "survived" and m.name in reasons
            ],
        ),
    ]
    rows = [[name if name.startswith("*") else f"`{name}`", *(n[c] for c in columns)] for name, n in shown]
    put_table("mutation", "files", ["file", *(titles.get(c, c) for c in columns)], rows)
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"{PAGE}: {dict(total)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="mutation", help="folder of the results")
    parser.add_argument("--n", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="seconds of tests per fault, the cheap first"
    )
    parser.add_argument("--record", action="store_true", help="record anew which test runs which line")
    parser.add_argument("--survivors", action="store_true", help="run those that survived once more")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--check", action="store_true", help="run all tests without a fault")
    parser.add_argument("--page", action="store_true", help="write the page of the documentation")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Path(args.out).mkdir(parents=True, exist_ok=True)
    (page if args.page else check if args.check else run)(args)


if __name__ == "__main__":
    main()
