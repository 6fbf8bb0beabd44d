from __future__ import annotations

import html
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.commands import ROOT, must, run

pytestmark = pytest.mark.service


@pytest.fixture(scope="module", autouse=True)
def encoder_is_built() -> None:
    """The first use on a machine says on stderr that it builds onnx-int8; the examples are read after that."""
    must("python", "-c", "from coldstart_udfs import Encoder; Encoder().encode(['built'])", cwd=ROOT)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The marimo notebook, where marimo may leave files beside it and knows no user's settings."""
    if find_spec("marimo") is None:
        pytest.skip("marimo is in the extra [notebook]")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "online_retail").symlink_to(ROOT / "examples" / "online_retail")
    return Path(shutil.copy(ROOT / "examples" / "marimo_shop.py", tmp_path))


def test_the_marimo_notebook_is_a_script_that_prints_what_it_found(notebook: Path) -> None:
    done = run("python", notebook, cwd=notebook.parent)
    assert (done.returncode, done.stderr) == (0, "")
    search, said = done.stdout.strip().split("\n\n")
    assert "GARDENERS KNEELING PAD CUP OF TEA" in search.splitlines()[1]
    assert len(re.findall(r"a newcomer +.*CAKE", said)) == 3
    assert re.search(r"customer 17630 +.*CAKE", said)


def test_the_marimo_notebook_shows_a_table_under_each_query(notebook: Path) -> None:
    exported = notebook.with_suffix(".ipynb")
    done = run("marimo", "export", "ipynb", "--include-outputs", notebook, "-o", exported, cwd=notebook.parent)
    assert (done.returncode, done.stderr) == (0, "")
    outputs = [output for cell in json.loads(exported.read_text())["cells"] for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} == {"display_data"}, "neither an error nor print()"
    shown = ["".join(output["data"]["text/html"]) for output in outputs if "text/html" in output["data"]]
    # DuckDB 2 says of a CREATE TABLE how many rows it has.
    queried = [table for table in shown if "<th>Count</th>" not in table]
    tables = [[html.unescape(text) for text in re.findall("<td>(.*?)</td>", table)] for table in queried]
    encoder, searched, answers, bought, alike, enriched, tagged, materials, redacted = tables
    assert encoder[2:] == ["400", "384"]
    assert searched[0] == "GARDENERS KNEELING PAD CUP OF TEA"
    assert answers[answers.index("something to play with") + 1] == "TRADITIONAL PICK UP STICKS GAME"
    assert len(bought) == 8
    assert "WHITE WOOD GARDEN PLANT LADDER" in bought
    assert not set(bought) & set(alike)
    assert enriched[0] == "a newcomer"
    assert "CAKE" in enriched[1]
    assert tagged == ["SET OF 6 VINTAGE CHRISTMAS TINS & LID!", "[metal, vintage, christmas]"]
    assert {"metal", "paper", "wood"} <= set(materials)
    assert redacted == ["I bake cakes, write to <EMAIL> or ring <PHONE>"]


def test_the_ibis_script_prints_what_it_found_and_nothing_on_stderr() -> None:
    done = run("python", "examples/ibis_shop.py", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    search, person, lights = done.stdout.strip().split("\n\n")
    assert "GARDENERS KNEELING PAD CUP OF TEA" in search.splitlines()[2]
    assert "CAKE" in person
    assert "LIGHT" in lights
    assert "GARDENERS KNEELING PAD" not in person, "bought already"
