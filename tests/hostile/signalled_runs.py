"""Runs that get a signal from outside, each in a process of its own; their endings as JSON on the last line.

The processes are forks of this one, so that the imports are paid for once. Each prints READY where the signal is to
come, and ends as the interpreter ends it.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from lightning.pytorch.callbacks import Callback

import scmimic as sm
import scmimic.cells
from scmimic._cli import app
from scmimic.model.generation._sampler import CellSampler
from scmimic.model.generation.calibration import _calibration
from scmimic.train import KeepFiniteWeights

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
LONG = {"max_epochs": 100_000, "batch_size": 100, **QUIET}
CTRL_C, SIGTERM = signal.SIGINT, signal.SIGTERM


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ready(*args):
    say("READY")


def wait(*args, **kwargs):
    ready()
    while True:
        time.sleep(0.01)


class Ready(Callback):
    """Tell after a few steps."""

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == 2:
            ready()


class WaitInTheFirstStep(Callback):
    def on_train_batch_start(self, *args):
        heard = signal.getsignal(signal.SIGTERM)
        came = []

        def hear(*args):
            came.append(args)
            heard(*args)

        signal.signal(signal.SIGTERM, hear)
        ready()
        # Ctrl-C ends it; SIGTERM lets the step end
        while not came:
            time.sleep(0.01)


class WaitInSetup(Callback):
    def setup(self, *args, **kwargs):
        wait()


def cells(seed=0):
    return sm.datasets.synthetic_counts(n_obs=200, n_vars=20, n_labels=2, seed=seed)


def activa():
    adata = cells()
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    return sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))


def train(model, **kwargs):
    """What a careful script does."""
    try:
        model.train(**kwargs)
        say(f"went on, interrupted={model.was_interrupted_}")
    finally:
        made = model.generate(5, seed=0) if model.is_trained else None
        margins = getattr(model, "margins_", None) is not None
        say(f"finally, trained={model.is_trained}, interrupted={model.was_interrupted_}, margins={margins}")
        if made is not None:
            say(f"made {made.n_obs}, {bool(made.uns['scmimic']['interrupted'])}")


def train_activa(callback, **kwargs):
    train(activa(), **LONG | kwargs, callbacks=[callback])


def train_own_handler():
    """A script that has a handler of its own."""
    signal.signal(signal.SIGTERM, lambda *args: say("own handler"))
    try:
        train_activa(Ready())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def train_own_exit():
    """A script whose own handler exits."""

    def leave(*args):
        sys.exit(7)

    signal.signal(signal.SIGTERM, leave)
    train_activa(Ready())


def calibrate():
    _calibration.match = wait
    train_activa(Callback(), max_epochs=1)


def twice_trained_then_stopped_in_setup():
    model = activa()
    model.train(max_epochs=2, **QUIET)
    before = model.generate(50, seed=1).X
    try:
        model.train(**LONG, callbacks=[WaitInSetup()])
    finally:
        same = (before != model.generate(50, seed=1).X).nnz == 0
        say(f"finally, same={same}, interrupted={model.was_interrupted_}, margins={model.margins_ is not None}")


def scvi_reference():
    sm.baselines.SCVIReference(
        cells(), labels_key="cell_type", max_epochs=100_000, train_kwargs={"callbacks": [Ready()], "accelerator": "cpu"}
    ).fit(0)
    say("went on")


def experiment():
    adata = cells()
    try:
        sm.tl.rare_augmentation(
            adata,
            labels_key="cell_type",
            label="type_1",
            fractions=[0.5],
            seeds=[0],
            methods=["ACTIVA"],
            n_synthetic=10,
            n_trees=2,
            model_kwargs={"n_latent": 2, "n_hidden": (8,)},
            train_kwargs=LONG | {"calibrate_margins": False, "callbacks": [Ready()]},
        )
        say("went on")
    finally:
        say(f"finally, scored={'rare_augmentation' in adata.uns}")


def ready_in_training():
    """Trainings of the command line take no callbacks from here."""
    before = KeepFiniteWeights.on_train_epoch_end

    def after(self, trainer, plan):
        before(self, trainer, plan)
        if trainer.current_epoch == 2:
            ready()

    KeepFiniteWeights.on_train_epoch_end = after


def command(*args):
    app([str(arg) for arg in args])


def command_train(*args):
    ready_in_training()
    out = Path("model")
    if "--overwrite" in args:
        out.mkdir()
        (out / "model.pt").write_text("an older model")
    cells().write_h5ad("cells.h5ad")
    command("train", "cells.h5ad", "--labels", "cell_type", "--out", out, "--max-epochs", 5000, *args)


def command_generate():
    model = activa()
    model.train(max_epochs=1, calibrate_margins=False, **QUIET)
    model.save("model", save_anndata=True)
    blocks = CellSampler.make

    def slow(self, *args):
        yield from blocks(self, *args)
        say(f"{len(os.listdir('out'))} partial file")
        wait()

    CellSampler.make = slow
    Path("out").mkdir()
    command("generate", "model", "--n", 10, "--out", "out/new.h5ad")


def command_evaluate():
    for name in ("real.h5ad", "other.h5ad"):
        Path(name).touch()
    scmimic.cells.read_cells = wait
    command("evaluate", "real.h5ad", "other.h5ad", "--report", "report.html")


def command_demo():
    ready_in_training()
    command("demo", "--out", "demo", "--epochs", 5000)


RUNS = {
    "train, SIGTERM": (SIGTERM, train_activa, Ready()),
    "train, Ctrl-C": (CTRL_C, train_activa, Ready()),
    "before the first step, Ctrl-C": (CTRL_C, train_activa, WaitInSetup()),
    "in the first step, SIGTERM": (SIGTERM, train_activa, WaitInTheFirstStep()),
    "in the first step, Ctrl-C": (CTRL_C, train_activa, WaitInTheFirstStep()),
    "calibration, SIGTERM": (SIGTERM, calibrate),
    "calibration, Ctrl-C": (CTRL_C, calibrate),
    "second training, SIGTERM": (SIGTERM, twice_trained_then_stopped_in_setup),
    "own handler, SIGTERM": (SIGTERM, train_own_handler),
    "own exit, SIGTERM": (SIGTERM, train_own_exit),
    "scVI, SIGTERM": (SIGTERM, scvi_reference),
    "scVI, Ctrl-C": (CTRL_C, scvi_reference),
    "experiment, SIGTERM": (SIGTERM, experiment),
    "experiment, Ctrl-C": (CTRL_C, experiment),
    "command train, Ctrl-C": (CTRL_C, command_train, "--overwrite"),
    "command train --keep-partial, SIGTERM": (SIGTERM, command_train, "--overwrite", "--keep-partial"),
    "command generate, SIGTERM": (SIGTERM, command_generate),
    "command evaluate, Ctrl-C": (CTRL_C, command_evaluate),
    "command demo, SIGTERM": (SIGTERM, command_demo),
}


def start(name, folder):
    """Fork a run; its number, and what it says."""
    out, err = os.pipe(), os.pipe()
    number = os.fork()
    if number:
        os.close(out[1])
        os.close(err[1])
        return number, os.fdopen(out[0]), os.fdopen(err[0])
    for pipe, standard in ((out, 1), (err, 2)):
        os.dup2(pipe[1], standard)
    folder.mkdir()
    os.chdir(folder)
    # a run that hears of nothing ends by another signal
    signal.alarm(300)
    # shells let programs in the background ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return None


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def watch(name, number, out, err, folder):
    """Send the signal when it is time, and tell how the run ends."""
    lines = []
    for line in out:
        lines.append(line.strip())
        if lines[-1] == "READY":
            os.kill(number, RUNS[name][0])
    said = err.read()
    _, status = os.waitpid(number, 0)
    code = os.waitstatus_to_exitcode(status)
    # as shells say it
    status = code if code >= 0 else 128 - code
    return {"status": status, "out": lines, "err": said, "files": tree(folder)}


def main(folder):
    # the forks leave what they have inherited alone, at their end too
    gc.freeze()
    ends = {}
    for i, name in enumerate(RUNS):
        started = start(name, folder / str(i))
        if started is None:
            try:
                return RUNS[name][1](*RUNS[name][2:])
            except KeyboardInterrupt:
                # the interpreter's own status for it depends on what is imported
                traceback.print_exc()
                sys.exit(130)
        ends[name] = watch(name, *started, folder / str(i)) | {"folder": str(folder / str(i))}
    say(json.dumps(ends))
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
