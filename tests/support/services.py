"""The service and the programs around it, as processes that a test starts and stops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import wait_for


def program(name: str, package: str) -> str:
    """The path of a program that a Debian package brings; without it a test fails in CI, and elsewhere is skipped."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found:
        return found
    missing = f"{name} is missing; install it with: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def until(right: Callable[[], Any], seconds: float = 60) -> Any:
    """What a call gives as soon as it is true; an AssertionError after so many seconds, waits and calls aside."""
    for _ in range(int(seconds / 0.1)):
        if found := right():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {right}")


@contextmanager
def running(command: list[str], log: Path, port: int, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on a port; what it prints is in a file."""
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=cwd) as server:
        try:
            wait_for(port, server)
            yield server
        finally:
            server.terminate()


@contextmanager
def serving(shop: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`coldstart serve` in the folder of a shop, ready; its log is in serve-PORT.log."""
    coldstart = str(Path(sys.executable).with_name("coldstart"))
    command = [coldstart, "serve", "--port", str(port), *options]
    with running(command, shop / f"serve-{port}.log", port, shop) as server:
        until(lambda: is_ready(port), 180)
        yield server


def is_ready(port: int) -> bool:
    """Whether a service answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False
