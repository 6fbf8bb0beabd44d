from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_quickstart_notebook_runs() -> None:
    """Also runs the demo where it has not been run: minutes."""
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert len(outputs) == 4
    assert "similarity" in outputs[0]["data"]["text/plain"]
    assert "bought_alike" in outputs[3]["data"]["text/plain"]
