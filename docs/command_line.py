"""The reference in the page of the command line, as the commands themselves have it.

``python docs/command_line.py`` writes it anew.
"""

import inspect
import re
from pathlib import Path

from typer.main import get_command

from scmimic._cli import app

PAGE = Path(__file__).with_name("user_guide") / "command_line.md"
START = "## Reference\n"


def reference() -> str:
    """All commands with their arguments and options, as Markdown."""
    program = get_command(app)
    lines = [START, *_table(program), ""]
    for name, command in program.commands.items():
        arguments = [_name(one) for one in command.params if one.param_type_name == "argument"]
        text = _marked(inspect.cleandoc(command.help))
        lines += [f"### `scmimic {' '.join([name, *arguments])} [OPTIONS]`", "", text, "", *_table(command), ""]
    return "\n".join(lines)


def _table(command) -> list[str]:
    rows = []
    for one in command.params:
        default = one.default() if callable(one.default) else one.default
        if default is True:
            default = one.opts[0]
        is_said = default is not None and default is not False and not one.required
        rows.append(f"| {_name(one, '`')} | {_marked(one.help)} | {f'`{default}`' if is_said else ''} |")
    return ["| | | default |", "|---|---|---|", *rows]


def _marked(text: str) -> str:
    """Options as code: elsewhere two hyphens become a dash."""
    return re.sub(r"(?<![\w`-])--\w[\w-]*", r"`\g<0>`", text)


def _name(one, quote: str = "") -> str:
    if one.param_type_name == "argument":
        return f"{quote}{one.name.upper()}{quote}"
    names = [*one.opts, *one.secondary_opts]
    return ", ".join(f"{quote}{name}{quote}" for name in names)


if __name__ == "__main__":
    written, _, _ = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(written + reference(), encoding="utf-8")
