"""A normal session prints what is ours; whatever else others say comes through."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from scmimic._noise import without_noise


def test_a_normal_session_prints_nothing(tmp_path):
    command = [sys.executable, Path(__file__).with_name("session.py"), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.stderr, done.stdout) == ("", "whole\n")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightning.pytorch.utilities.rank_zero", "GPU available: False, used: False"),
        ("lightning.pytorch.utilities.rank_zero", "`Trainer.fit` stopped: `max_epochs=2` reached."),
        ("lightning.fabric.utilities.seed", "Seed set to 0"),
        ("scvi.data._download", "File model.pt already downloaded"),
    ],
)
def test_known_records_are_left_out_within(caplog, name, message):
    logger = logging.getLogger(name)
    # scvi-tools' own logger hands nothing on
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger=name)
    try:
        with without_noise(), without_noise():
            logger.info(message)
            logger.info("GPU available: True (cuda), used: True")
            logger.warning(message)
        logger.info("%s", message)
    finally:
        logger.removeHandler(caplog.handler)
    said = list(dict.fromkeys((record.levelname, record.getMessage()) for record in caplog.records))
    assert said == [("INFO", "GPU available: True (cuda), used: True"), ("WARNING", message), ("INFO", message)]


def test_other_warnings_come_through():
    with pytest.warns(UserWarning) as told, without_noise():
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", UserWarning, stacklevel=1)
        warnings.warn("a loss is not finite", UserWarning, stacklevel=1)
    assert [str(one.message) for one in told] == ["a loss is not finite"]
    with pytest.warns(UserWarning, match="LeafSpec"):
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", UserWarning, stacklevel=1)
