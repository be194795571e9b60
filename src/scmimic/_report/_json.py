"""What a program reads of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scmimic._arguments import FLAG, PATH
from scmimic._files import JSON_ENDINGS, check_output, replacing
from scmimic._keys import OVERALL
from scmimic.tl.evaluation import Evaluation


def write_json(evaluation: Evaluation, path: str | Path, *, overwrite: bool) -> Path:
    """Do the work of :meth:`scmimic.Evaluation.to_json`."""
    PATH.check(path=path)
    FLAG.check(overwrite=overwrite)
    files = {f"the file of `{name}`": file for name, file in evaluation.files.items()}
    path = check_output(path, overwrite=overwrite, endings=JSON_ENDINGS, others=files)
    content = {
        "verdict": asdict(evaluation.verdict),
        "alarms": evaluation.alarms,
        "faults": evaluation.faults,
        "table": evaluation.table[evaluation.table["label"] == OVERALL].to_dict("records"),
        "params": evaluation.params,
    }
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path, overwrite=overwrite) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """The value as JSON has it, which knows no missing number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
