"""A normal session prints what is ours; whatever else others say comes through."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from scmimic._noise import without_noise, without_warnings


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


def test_warnings_are_left_out_whatever_happens_to_filters():
    """As forests of scikit-learn do in other threads: the list of filters is emptied."""
    delayed = "`sklearn.utils.parallel.delayed` should be used with `sklearn.utils.parallel.Parallel`"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with without_warnings(RuntimeWarning):
            for empty in (False, True):
                if empty:
                    warnings.resetwarnings()
                warnings.warn("ours", RuntimeWarning, stacklevel=1)
                warnings.warn(delayed, UserWarning, stacklevel=1)
                warnings.warn(f"other {empty}", UserWarning, stacklevel=1)
        assert warnings.filters == filters
        warnings.warn("ours", RuntimeWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["other False", "other True", "ours"]
