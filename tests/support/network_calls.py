"""Which ports a command calls, in a network of its own where every address is this machine's.

`python -m tests.support.network_calls COMMAND …` listens on the ports of name servers and web servers, runs the
command, and prints the ports that were called, one for each call.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.commands import ROOT
from tests.support.services import program

_NAMES, _WEB = 53, (80, 443)


def ports_called(*command: str, cwd: Path) -> list[int]:
    """The ports that a command calls; the command must succeed."""
    alone = f"{program('ip', 'iproute2')} link set lo up && ip route add local 0.0.0.0/0 dev lo && exec \"$@\""
    result = subprocess.run(
        [
            program("unshare", "util-linux"), "-rn", "sh", "-c", alone, "sh",
            sys.executable, "-m", "tests.support.network_calls", *command,
        ],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        | {"PYTHONPATH": str(ROOT), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return [int(port) for port in result.stdout.split()]


def _count(kind: socket.SocketKind, port: int, called: list[int]) -> None:
    """Note each call, in a thread of its own."""
    listening = socket.socket(socket.AF_INET, kind)
    listening.bind(("0.0.0.0", port))
    if kind is socket.SOCK_STREAM:
        listening.listen()

    def go() -> None:
        while True:
            if kind is socket.SOCK_STREAM:
                listening.accept()[0].close()
            else:
                listening.recvfrom(4096)
            called.append(port)

    threading.Thread(target=go, daemon=True).start()


if __name__ == "__main__":
    ports: list[int] = []
    _count(socket.SOCK_DGRAM, _NAMES, ports)
    for number in (_NAMES, *_WEB):
        _count(socket.SOCK_STREAM, number, ports)
    subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
    print(*ports)
