from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.commands import ROOT


@pytest.mark.service
@pytest.mark.filterwarnings("default")
def test_the_quickstart_notebook_runs() -> None:
    """Also runs the demo where it has not been run: minutes."""
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(ROOT)}}).execute()
    # Results, not the progress bar that DuckDB shows where ipywidgets is installed and a query is slow.
    outputs = [
        output for cell in notebook.cells for output in cell.get("outputs", [])
        if output["output_type"] == "execute_result"
    ]  # fmt: skip
    assert len(outputs) == 5
    assert "similarity" in outputs[0]["data"]["text/plain"]
    assert "because" in outputs[2]["data"]["text/plain"]
    assert "bought_alike" in outputs[3]["data"]["text/plain"]
    assert "kind" in outputs[4]["data"]["text/plain"]
