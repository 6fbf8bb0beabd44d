"""The commands of `coldstart`, commands of this environment in processes of their own, and servers that tests start."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from recommender.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT / "examples" / "online_retail"

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of this environment, in a process of its own, as a user runs it."""
    program = Path(sys.executable).with_name(str(command[0]))
    return subprocess.run(
        [str(program), *map(str, command[1:])], cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )


def must(*command: str | Path, cwd: Path) -> str:
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def every_command(group: Any = None, path: tuple[str, ...] = ("coldstart",)) -> Iterator[tuple[str, Any]]:
    """Every command of `coldstart` with its whole name, as "coldstart cache stats"; groups too, before theirs."""
    group = group or get_command(app)
    yield " ".join(path), group
    for name, command in getattr(group, "commands", {}).items():
        yield from every_command(command, (*path, name))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[Any], seconds: float = 180) -> None:
    """Until a server of ours answers on its port."""
    until = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"no answer on port {port} after {seconds:.0f} s; exit status {server.poll()}")
