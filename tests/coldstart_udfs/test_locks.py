"""Locks between processes, with real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import InUseError, writing

HOLDER = """
import sys
from pathlib import Path
from coldstart_udfs.locks import writing
with writing(Path(sys.argv[1]), command="coldstart embed"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes there until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("")


def test_a_second_writer_is_told_who_writes_and_the_first_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    here = partial(writing, command="coldstart embed")
    with another_process(out) as process:
        who = rf"`coldstart embed` \(process {process.pid} on [^ ]+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
        with pytest.raises(InUseError, match=re.escape(str(out)) + " is being written by " + who), here(out):
            raise AssertionError("two at once")
        assert not list(tmp_path.glob("*.parquet"))
    with here(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with another_process(out) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with writing(out, command="coldstart embed"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_goes_on_when_the_other_has_ended(tmp_path: Path) -> None:
    out, order = tmp_path / "out", []

    def second() -> None:
        with writing(out, command="second", wait=60):
            order.append("second")

    with writing(out, command="first"):
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_folder_and_a_link_to_it_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with (
        writing(tmp_path / "real" / "out", command="first"),
        pytest.raises(InUseError, match="`first`"),
        writing(tmp_path / "link" / "out", command="second"),
    ):
        pass


def test_of_several_places_none_stays_held_if_one_is_in_use(tmp_path: Path) -> None:
    with writing(tmp_path / "b", command="first"):
        with pytest.raises(InUseError), writing(tmp_path / "a", tmp_path / "b", command="second"):
            pass
        with writing(tmp_path / "a", command="third"):
            pass


def test_a_folder_made_for_the_lock_goes_unless_something_was_written(tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="of the block"), writing(tmp_path / "new" / "er" / "out", command="first"):
        raise ColdStartError("an error of the block")
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "new" / "out", command="first"):
        (tmp_path / "new" / "out").write_text("written")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_where_no_lock_can_be_made_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    ran = []
    with writing(tmp_path / "file" / "out", command="first"):
        ran.append(True)
    assert ran


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that takes no files, even from root")
def test_a_folder_that_takes_no_files_is_not_waited_for() -> None:
    with writing(Path("/proc/out.parquet"), command="coldstart embed"):
        pass
