"""Tables of the benchmarks: a page shows one by ```` ```{results} NAME ````, its numbers are in `benchmarks/results/`.

The file of a page (`PAGE.json`) has its tables by name. A table has `columns` and `rows`, whose first cell is the row's
name. Cells are

- numbers; whole ones are shown as they are,
- lists: runs of the same measure, of which the mean is computed, or several measures,
- `{"mean": 0.61, "sd": 0.02}`, `{"value": 0.61, "low": 0.58, "high": 0.64}` where single runs are not known; with
  `"runs"` where the rounded runs that are known give another last digit,
- `{"bold": ...}` around any of these, text (Markdown) and null,
- `{"from": [PAGE, TABLE, ROW, COLUMN]}`: the number of another table's cell.

`format` says how numbers are written, `formats` the same of a column or row by name, a row's before a column's. It is a
format of Python (`".3f"`), or a template for lists: `"{mean:.3f} ± {sd:.3f}"` and `"{each:.3f}"` of runs,
`"{:.3f} / {:.1f}"` of measures. A number by itself takes the first field's format.

    python docs/results.py realism papalexi out/results.jsonl

puts what a benchmark has written into a table that says which `lines` are its rows: `{"names": {NAME: ROW}, "measures":
{COLUMN: KEY}}`, and `"by"`, where names have another key than `name`. The lines of several seeds become runs; rows that
were not run stay.
"""

import argparse
import json
import statistics
import sys
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from string import Formatter
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parent / "benchmarks" / "results"
DIGITS = 6
"""Significant digits of the numbers that a benchmark writes."""

Table = dict[str, Any]


def read(page: str) -> dict[str, Table]:
    """Read the tables of a page, by name."""
    return json.loads((FOLDER / f"{page}.json").read_text(encoding="utf-8"))


def write(page: str, tables: dict[str, Table]) -> None:
    """Write the tables of a page, a row a line."""
    tables = {name: table | {"rows": _plain(table["rows"])} for name, table in tables.items()}
    texts = []
    for name, table in tables.items():
        rows = ",\n".join(f"      {_json(row)}" for row in table["rows"])
        about = [f"    {_json(key)}: {_json(value)}" for key, value in table.items() if key != "rows"]
        texts.append(f"  {_json(name)}: {{\n" + ",\n".join([*about, f'    "rows": [\n{rows}\n    ]']) + "\n  }")
    (FOLDER / f"{page}.json").write_text("{\n" + ",\n".join(texts) + "\n}\n", encoding="utf-8")


def put(page: str, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Put rows into a table, whose formats stay."""
    tables = read(page)
    tables[name] = tables.get(name, {}) | {"columns": columns, "rows": rows}
    write(page, tables)


def _plain(value: Any) -> Any:
    """Round the numbers of cells to `DIGITS`."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def number(cell: Any) -> float:
    """Number of a cell: the mean, where there are runs."""
    if isinstance(cell, list):
        return float(_statistic("mean", cell))
    if isinstance(cell, dict):
        return number(_quoted(*cell["from"]) if "from" in cell else _first(cell))
    return cell


def _quoted(page: str, name: str, row: str, column: str) -> Any:
    table = read(page)[name]
    (cells,) = [cells for cells in table["rows"] if cells[0] == row]
    return cells[table["columns"].index(column)]


def _first(cell: dict[str, Any]) -> Any:
    return next((cell[key] for key in ("bold", "mean", "value") if key in cell), None)


def form(table: Table, row: list[Any], column: int) -> str:
    """Find the format of a cell."""
    formats = table.get("formats", {})
    name = row[0] if isinstance(row[0], str) else None
    return formats.get(name, formats.get(table["columns"][column], table.get("format", "")))


def shown(table: Table, row: list[Any], column: int) -> str:
    """Write a cell of a row."""
    return _text(row[column], form(table, row, column))


def _text(cell: Any, form: str) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, list):
        template = form if "{" in form else f"{{mean:{form}}}"
        return _Template().vformat(template, [_Part(part) for part in cell], _Statistics(cell))
    if isinstance(cell, dict):
        return _text_of_several(cell, form)
    fields = [spec for _, field, spec, _ in Formatter().parse(form) if field is not None]
    return f"{cell:,}" if isinstance(cell, int) else _rounded(cell, fields[0] if fields else form)


def _rounded(value: float | Decimal, form: str) -> str:
    # halves upwards, as one does by hand: 0.945 is no binary number
    with localcontext(rounding=ROUND_HALF_UP):
        return format(Decimal(str(value)) if form.endswith("f") else float(value), form)


def _text_of_several(cell: dict[str, Any], form: str) -> str:
    if "from" in cell:
        return _text(number(cell), form)
    text = _text(_first(cell), form)
    if "bold" in cell:
        return f"**{text}**"
    if "sd" in cell:
        text += f" ± {_text(cell['sd'], form)}"
    if "low" in cell:
        interval = f"{_text(cell['low'], form)} to {_text(cell['high'], form)}"
        text = f"{text} ({interval})" if text else interval
    if "of" in cell:
        text += f" ({cell['of']})"
    return f"{text}; s {cell['score']:.2f}" if "score" in cell else text


class _Template(Formatter):
    """A template that leaves no measure out."""

    def check_unused_args(self, used_args: Any, args: Any, kwargs: Any) -> None:
        """Compare the template's fields with the cell."""
        if 0 in used_args and len(args) > len(used_args):
            raise ValueError(f"a cell has {len(args)} numbers, its template {len(used_args)}")


class _Part:
    """A cell within a cell."""

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def __format__(self, form: str) -> str:
        return _text(self.cell, form)


class _Each(list[Any]):
    """All runs, beside each other."""

    def __format__(self, form: str) -> str:
        return ", ".join(_text(run, form) for run in self)


class _Statistics(dict[str, Any]):
    """What a template may ask of runs."""

    def __init__(self, runs: list[Any]) -> None:
        self.runs = runs

    def __missing__(self, name: str) -> Any:
        return _Each(self.runs) if name == "each" else _Part(_statistic(name, self.runs))


def _statistic(name: str, runs: list[Any]) -> Decimal:
    # in decimal arithmetic, so that the mean is that of the digits that are written
    values = [Decimal(str(number(run))) for run in runs]
    return {"mean": statistics.mean, "sd": statistics.stdev}[name](values)


def markdown(table: Table) -> list[str]:
    """Write a table as lines of Markdown, columns of numbers to the right."""
    rows = [[shown(table, row, column) for column in range(len(row))] for row in table["rows"]]
    plain = [all(cell is None or isinstance(cell, str) for cell in cells) for cells in zip(*table["rows"], strict=True)]
    marks = ["---" if words else "---:" for words in plain]
    lines = [f"| {' | '.join(cells)} |" for cells in (table["columns"], marks, *rows)]
    # a narrow column may break before the sign, not behind it
    return [line.replace(" ± ", " ±\N{NO-BREAK SPACE}") for line in lines]


def take_over(table: Table, lines: list[dict[str, Any]]) -> list[str]:
    """Put lines of a benchmark into the rows of a table; returns the names of the rows."""
    about = table["lines"]
    taken = []
    for name, row in about["names"].items():
        runs = [line for line in lines if line[about.get("by", "name")] == name]
        if not runs:
            continue
        cells = next(cells for cells in table["rows"] if cells[0] == row)
        for column, key in about["measures"].items():
            values = [run[key] for run in runs if run.get(key) is not None]
            if values:
                cells[table["columns"].index(column)] = values if len(values) > 1 else values[0]
        taken.append(row)
    return taken


class Results(SphinxDirective):
    """```` ```{results} NAME ````: a table of the page's file."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table as the Markdown that it would be."""
        page, name = self.env.docname.rpartition("/")[2], self.arguments[0]
        file = FOLDER / f"{page}.json"
        for one in FOLDER.glob("*.json"):  # tables may quote others
            self.env.note_dependency(str(one))
        tables = read(page) if file.exists() else {}
        if name not in tables:
            raise self.error(f"{file.name} has no table {name!r}, but {sorted(tables)}")
        holder = nodes.Element()
        self.state.nested_parse(StringList(markdown(tables[name]), str(file)), self.content_offset, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main() -> None:
    """Take over what a benchmark has written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", help="file in benchmarks/results, without .json")
    parser.add_argument("table")
    parser.add_argument("lines", type=Path, help="JSON lines of a benchmark")
    args = parser.parse_args()
    tables = read(args.page)
    if "lines" not in tables.get(args.table, {}):
        known = [name for name, table in tables.items() if "lines" in table]
        parser.error(f"{args.page} has no table {args.table!r} that says which lines are its rows, but {known}")
    lines = [json.loads(line) for line in args.lines.read_text(encoding="utf-8").splitlines()]
    taken = take_over(tables[args.table], lines)
    write(args.page, tables)
    sys.stdout.write(f"{args.page}, {args.table}: {', '.join(taken) or 'no row'}\n")


if __name__ == "__main__":
    main()
