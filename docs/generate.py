"""Write the pages in docs/reference from the code: `make docs`."""

from __future__ import annotations

from pathlib import Path

from generator import PAGES

FOLDER = Path(__file__).parent / "reference"

for name, make in PAGES.items():
    (FOLDER / name).write_text(make(), encoding="utf-8")
