"""docs/upstream/: each script prints what its page says; a script that does not shows that Feast has fixed the bug."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "upstream"
PAGES = sorted(FOLDER.glob("[0-9][0-9]-*.md"))
PAGE = re.compile(
    r"^# (?P<number>\d+)\. (?P<title>[^\n]+)\n"
    r".*?^```python\n(?P<script>.*?)^```\n\nOutput:\n\n```text\n(?P<output>.*?)^```\n",
    re.DOTALL | re.MULTILINE,
)
BUGS = [(page, PAGE.match(page.read_text(encoding="utf-8"))) for page in PAGES]


def test_every_page_has_a_script_and_its_output() -> None:
    assert [page.name for page, bug in BUGS if bug is None] == []


def test_pages_are_numbered_without_a_gap() -> None:
    assert len(PAGES) >= 21
    assert [int(page.name[:2]) for page in PAGES] == list(range(1, len(PAGES) + 1))
    assert [int(bug["number"]) for _, bug in BUGS if bug] == list(range(1, len(PAGES) + 1))


def test_the_index_lists_every_page_under_its_title() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[([^\]]+)\]\(([^)]+)\) \|", index, re.MULTILINE)
    assert rows == [(bug["number"], bug["title"], page.name) for page, bug in BUGS if bug]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "output"), [pytest.param(bug["script"], bug["output"], id=page.stem) for page, bug in BUGS if bug]
)
def test_the_bug_is_still_in_feast(script: str, output: str, tmp_path: Path) -> None:
    # The scripts use an unmodified Feast and nothing of this project, so that they can be sent to Feast.
    assert "coldstart" not in script
    file = tmp_path / "reproduction.py"
    file.write_text(script, encoding="utf-8")
    here = str(tmp_path)
    # Ray's sockets need a short path.
    environment = {"PATH": str(Path(sys.executable).parent), "TMPDIR": here, "HOME": here, "RAY_TMPDIR": "/tmp"}
    ran = subprocess.run(
        [sys.executable, file], cwd=here, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines() == output.splitlines(), "fixed in Feast? Then say so on the page in docs/upstream/"
