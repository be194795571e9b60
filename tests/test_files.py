import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from scmimic import _files
from scmimic._files import CELL_ENDINGS, OutputExistsError, check_output, recover, replacing


def test_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["page.html"]


def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_folder_replaces_folder_but_no_file_does(tmp_path):
    path = tmp_path / "cells.zarr"
    path.mkdir()
    (path / "old").write_text("")
    with replacing(path) as partial:
        partial.mkdir()
        (partial / "new").write_text("")
    assert os.listdir(path) == ["new"]

    def write_file():
        with replacing(path) as partial:
            partial.write_text("")

    with pytest.raises(OSError):
        write_file()
    assert os.listdir(path) == ["new"]


def test_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / "page.html"
    link.symlink_to(tmp_path / "far" / "page.html")
    with replacing(link) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "far" / "page.html").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_is_no_file_is_written_to_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with replacing(pipe) as partial:
        assert partial == pipe
    assert pipe.is_fifo()


def write_folder(path, text, **kwargs):
    with replacing(path, **kwargs) as partial:
        partial.mkdir()
        for name in ("a", "b"):
            (partial / name).write_text(text)


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_there_stays_without_overwrite(tmp_path, folder):
    path = tmp_path / "out"

    def write(text):
        if folder:
            return write_folder(path, text, overwrite=False)
        with replacing(path, overwrite=False) as partial:
            partial.write_text(text)

    write("old")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write("new")
    assert ((path / "a") if folder else path).read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_is_kept_of_a_folder_is_in_the_new_one(tmp_path):
    path = tmp_path / "m"
    write_folder(path, "old")
    (path / "notes").mkdir()
    (path / "notes" / "n.txt").write_text("mine")
    (path / "link").symlink_to("notes")
    path.chmod(0o750)
    with replacing(path, keep=lambda name: name != "b") as partial:
        partial.mkdir()
        (partial / "a").write_text("new")
    assert sorted(os.listdir(path)) == ["a", "link", "notes"]
    assert (path / "a").read_text() == "new"
    assert (path / "link" / "n.txt").read_text() == "mine"
    assert (path / "link").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == ["m"]


def test_a_disk_without_second_names_gets_copies(tmp_path, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    write_folder(tmp_path / "m", "old")
    with replacing(tmp_path / "m", keep=lambda name: True) as partial:
        partial.mkdir()
    assert (tmp_path / "m" / "b").read_text() == "old"


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_between_the_moves_brings_the_old_folder_back(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "m"
    write_folder(path, "old")
    rename, calls = os.rename, []

    def broken(*args):
        calls.append(args)
        if len(calls) == failing:
            raise error
        return rename(*args)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(type(error)):
        write_folder(path, "new")
    assert len(calls) >= failing
    assert [(path / name).read_text() for name in ("a", "b")] == ["old", "old"]
    assert os.listdir(tmp_path) == ["m"]


def test_an_old_folder_that_cannot_be_moved_back_is_kept(tmp_path, monkeypatch, caplog):
    path = tmp_path / "m"
    write_folder(path, "old")
    rename, calls = os.rename, []

    def broken(*args):
        calls.append(args)
        if len(calls) > 1:
            raise OSError("read-only file system")
        return rename(*args)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="read-only"):
        write_folder(path, "new")
    (left,) = tmp_path.iterdir()
    assert (left / "a").read_text() == "old"
    assert str(left) in caplog.text


KILLED = """
import os, runpy, signal, sys
path, moment, module = sys.argv[1:]
replacing = runpy.run_path(module)["replacing"]
if moment == "moving":
    rename, calls = os.rename, []
    def kill(*args):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*args)
    os.rename = kill
with replacing(path) as partial:
    partial.mkdir()
    (partial / "a").write_text("killed")
    if moment == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while(path, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment, _files.__file__], check=False)
    assert done.returncode == -signal.SIGKILL


posix = pytest.mark.skipif(os.name != "posix", reason="whether a process lives is asked on POSIX alone")


@posix
@pytest.mark.parametrize("moment", ["writing", "moving"])
def test_what_a_killed_process_left_is_cleared_away(tmp_path, moment):
    path = tmp_path / "m"
    write_folder(path, "old")
    kill_while(path, moment)
    assert path.exists() == (moment == "writing")
    assert len(list(tmp_path.iterdir())) == 2
    recover(path)
    assert (path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["m"]


@posix
def test_what_others_write_is_left_alone(tmp_path):
    path = tmp_path / "m"
    write_folder(path, "old")
    with replacing(path) as first:
        first.mkdir()
        write_folder(path, "second")
        assert first.is_dir()
        (first / "a").write_text("first")
    assert os.listdir(path) == ["a"]
    # another host, another name, a process that lives, and what only looks like it
    stays = [
        f".partial-00000000-{2**22 + 1}-00000000-0-{_files._tail(path)}",
        f".partial-{_files._host()}-{2**22 + 1}-00000000-0-{_files._tail(tmp_path / 'n')}",
        f".partial-{_files._host()}-{os.getppid()}-00000000-0-{_files._tail(path)}",
        ".partial-m",
    ]
    goes = [
        f".partial-{_files._host()}-{os.getpid()}-00000000-0-{_files._tail(path)}",
        f".partial-{_files._host()}-{2**22 + 1}-00000000-0-{_files._tail(path)}",
    ]
    for name in stays + goes:
        (tmp_path / name).write_text("")
    write_folder(path, "third")
    assert sorted(os.listdir(tmp_path)) == sorted([*stays, "m"])


def test_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    path, failed = tmp_path / "m", []

    def write(text):
        try:
            for _ in range(20):
                write_folder(path, text)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (path / "a").read_text() == (path / "b").read_text()
    assert os.listdir(tmp_path) == ["m"]


def test_an_old_folder_comes_back_past_another_writer(tmp_path, monkeypatch):
    """Its name is taken when it is moved back, and free again when one looks."""
    path, rename, calls = tmp_path / "m", os.rename, []
    write_folder(path, "first")

    def taken(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "the new folder cannot be moved")
        if len(calls) == 3:
            raise OSError(errno.ENOTEMPTY, "another writer's folder is there")
        rename(source, target)

    monkeypatch.setattr(_files.os, "rename", taken)
    with pytest.raises(OSError, match="cannot be moved"):
        write_folder(path, "second")
    assert (path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["m"]


def test_what_is_gone_by_the_second_look_is_no_special_file(tmp_path, monkeypatch):
    path, stat, looks = tmp_path / "m", os.stat, []
    write_folder(path, "first")

    def seen(place, *args, **kwargs):
        if str(place) == str(path):
            looks.append(place)
            if len(looks) > 1:
                raise FileNotFoundError(place)
        return stat(place, *args, **kwargs)

    monkeypatch.setattr(os, "stat", seen)
    found = _files._is_special(path)
    monkeypatch.undo()
    assert not found


def test_a_long_name_leaves_room(tmp_path):
    path = tmp_path / ("x" * 250 + ".txt")
    with replacing(path) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cells.h5ad", "page.html", "file"):
        (tmp_path / name).write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pt").write_text("")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "link.h5ad").symlink_to("cells.h5ad")
    (tmp_path / "hard.h5ad").hardlink_to("cells.h5ad")
    (tmp_path / "dangling.h5ad").symlink_to("nowhere.h5ad")


FILES, FOLDER, READ = {"endings": CELL_ENDINGS}, {"folder": True}, {"others": {"FILE": "cells.h5ad"}}


@pytest.mark.parametrize(
    ("path", "kwargs", "error", "message"),
    [
        ("cells.h5ad", FILES, OutputExistsError, "exists already"),
        ("link.h5ad", FILES, OutputExistsError, "exists already"),
        ("x.zarr", FILES, OutputExistsError, "exists already"),
        ("model", FOLDER, OutputExistsError, "exists already"),
        ("new.csv", FILES, ValueError, "must end in .h5ad or .zarr"),
        ("new", FILES, ValueError, "must end in"),
        ("page.html", FILES | {"overwrite": True}, ValueError, "must end in"),
        ("no/new.h5ad", FILES, FileNotFoundError, "no folder no"),
        ("file/new.h5ad", FILES, NotADirectoryError, "file is a file"),
        ("file/a/model", FOLDER, NotADirectoryError, "file is a file"),
        ("file", FOLDER | {"overwrite": True}, NotADirectoryError, "is a file"),
        ("model", FILES | {"overwrite": True}, IsADirectoryError, "is a folder"),
        (".", FOLDER | {"overwrite": True}, ValueError, "folder that you work in"),
        ("..", FOLDER | {"overwrite": True}, ValueError, "or around it"),
        ("cells.h5ad", FILES | READ | {"overwrite": True}, ValueError, "would overwrite FILE cells.h5ad"),
        ("link.h5ad", FILES | READ | {"overwrite": True}, ValueError, "would overwrite FILE"),
        ("hard.h5ad", FILES | READ | {"overwrite": True}, ValueError, "would overwrite FILE"),
        ("model/../cells.h5ad", FILES | READ | {"overwrite": True}, ValueError, "would overwrite FILE"),
        ("model", FOLDER | {"overwrite": True, "others": {"FILE": "model/model.pt"}}, ValueError, "would overwrite"),
        ("model/new.h5ad", FILES | {"others": {"MODEL_DIR": "model"}}, ValueError, "would overwrite MODEL_DIR"),
        ("same.h5ad", FILES | {"others": {"--table": "./same.h5ad"}}, ValueError, "would overwrite --table"),
    ],
)
def test_places_that_are_refused(places, path, kwargs, error, message):
    before = sorted(os.listdir())
    with pytest.raises(error, match=message):
        check_output(path, **{"overwrite": False, **kwargs})
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("path", "kwargs"),
    [
        ("new.h5ad", FILES | READ),
        ("dangling.h5ad", FILES),
        ("cells.h5ad", FILES | {"overwrite": True}),
        ("x.zarr", FILES | READ | {"overwrite": True}),
        ("model", FOLDER | READ | {"overwrite": True}),
        ("a/b/model", FOLDER),
        ("new.h5ad", FILES | {"others": {"--train": None}}),
        (os.devnull, FILES),
    ],
)
def test_places_that_are_taken(places, path, kwargs):
    assert str(check_output(path, **{"overwrite": False, **kwargs})) == path


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_output(tmp_path / "new.h5ad", overwrite=False, endings=CELL_ENDINGS)
    tmp_path.chmod(0o700)
