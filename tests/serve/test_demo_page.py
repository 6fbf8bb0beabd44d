"""`coldstart demo --serve`: what comes after the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from coldstart_udfs.errors import ColdStartError
from recommender.cli.demo import serve_page

pytestmark = pytest.mark.service


def test_a_shop_is_served_until_ctrl_c(served_shop: Path) -> None:
    code = "import sys; from pathlib import Path; from rich.console import Console\n"
    code += "from recommender.cli.demo import serve_page; serve_page(Console(width=200), Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(served_shop)], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        told = ""
        while "Open http" not in told:
            line = demo.stdout.readline()
            assert line, told
            told += line
        address = told.partition("Open ")[2].split()[0]
        assert httpx.get(address).status_code == 200
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_a_service_that_cannot_start_is_an_error_with_what_its_log_says(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ColdStartError, match=r"the service ended; .*feature_repo"):
        serve_page(Console(), tmp_path)
