"""Results that show themselves in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

# Of a list or a dict the values, of more their number.
_MOST = 5
_LONGEST = 60


def short_repr(cls: Class) -> Class:
    """Have a dataclass shown in one line: numbers by four digits, arrays and tables by their shape."""

    def show(self: Any) -> str:
        shown = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self) if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    cls.__repr__ = show  # type: ignore[assignment]
    return cls


def _short(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        return repr(float(f"{value:.4g}"))
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    shape = getattr(value, "shape", ())
    if shape:
        return f"<{' x '.join(map(str, shape))} {type(value).__name__}>"
    if isinstance(value, Mapping):
        if len(value) > _MOST:
            return f"<{len(value)} entries>"
        return "{" + ", ".join(f"{key!r}: {_short(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        if len(value) > _MOST or value and any(hasattr(one, "__dataclass_fields__") for one in value):
            return f"<{len(value)} x {type(value[0]).__name__}>"
        return f"({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"<{type(value).__name__}>"
