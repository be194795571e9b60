"""Signals as exceptions, held back, and what they have ended."""

import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from scmimic._interrupts import (
    Terminated,
    held_signals,
    interrupted_part,
    plain_interrupts,
    stop_if_interrupted,
    terminable,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def usual_handlers():
    """Those of a new process, and at the end what was there before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    after = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == [signal.default_int_handler, signal.SIG_DFL]


def test_sigterm_is_an_exit_with_its_status():
    with pytest.raises(SystemExit) as ended, terminable():
        send()
    assert ended.value.code == 128 + 15


def test_ctrl_c_is_one_too_where_asked_for():
    with pytest.raises(KeyboardInterrupt), terminable():
        send(signal.SIGINT)
    with pytest.raises(Terminated, match="130"), terminable(by_ctrl_c=True):
        send(signal.SIGINT)


def test_the_inner_block_decides_whether_the_signal_is_taken():
    reached = False
    with pytest.raises(Terminated), terminable():
        with terminable(taken=lambda: True):
            send()
            reached = True
        send()
    assert reached


def test_handlers_of_the_user_stay():
    came = []
    signal.signal(signal.SIGTERM, lambda *args: came.append(args))
    with terminable(), plain_interrupts():
        send()
    assert len(came) == 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with terminable():
        send()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_signals_are_held_until_the_end(number, error):
    done = []
    with pytest.raises(error), terminable(), held_signals():
        send(number)
        send(number)
        done.append("rest of the block")
    assert done


def test_held_signals_come_through_where_released():
    done = []
    with terminable(), held_signals() as released:
        with pytest.raises(KeyboardInterrupt), released():
            send(signal.SIGINT)
        done.append("rest of the block")
    assert done


def test_an_error_in_the_block_is_worth_more_than_a_held_signal():
    with pytest.raises(ZeroDivisionError), held_signals():
        send(signal.SIGINT)
        raise ZeroDivisionError


def ending_of_lightning():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(1)


def test_ctrl_c_leaves_lightning_as_itself():
    with pytest.raises(KeyboardInterrupt), plain_interrupts():
        ending_of_lightning()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("error", [SystemExit(1), SystemExit(3), ValueError("no")])
def test_other_exits_and_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as raised, plain_interrupts():
        raise error
    assert raised.value is error


def test_in_a_thread_nothing_is_touched():
    handlers = [signal.getsignal(number) for number in SIGNALS]
    found = []

    def run():
        try:
            with terminable(by_ctrl_c=True), held_signals() as released, released(), plain_interrupts():
                found.append([signal.getsignal(number) for number in SIGNALS] == handlers)
                # which Lightning then tries to ignore, and may not
                try:
                    raise KeyboardInterrupt
                except KeyboardInterrupt:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            found.append("KeyboardInterrupt")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True, "KeyboardInterrupt"]


class Model(SimpleNamespace):
    pass


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({}, None),
        ({"was_interrupted_": False, "interrupted_source_": None}, None),
        ({"was_interrupted_": True}, "Model"),
        ({"was_interrupted_": False, "interrupted_source_": "ACTINN"}, "ACTINN"),
        ({"was_interrupted_": True, "interrupted_source_": "ACTINN"}, "Model"),
    ],
)
def test_what_was_interrupted(attributes, part):
    model = Model(**attributes)
    assert interrupted_part(model) == part
    if part is None:
        stop_if_interrupted(model)
    else:
        with pytest.raises(KeyboardInterrupt, match=f"The training of {part} was interrupted"):
            stop_if_interrupted(model)
