import os

import pytest

from scmimic._files import replacing


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
