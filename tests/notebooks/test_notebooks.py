"""Each notebook from top to bottom, as a reader would run it; its own assertions judge the numbers, and these what is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
# For a cell; a machine that does other things takes many times as long as one that does not.
CELL_S = 900


def test_all_are_there() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_stream.ipynb", "02_train.ipynb", "03_both.ipynb", "04_cluster.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_story(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # They are kept without outputs, and end with what must hold.
    assert not any(cell.outputs or cell.execution_count for cell in code), "commit notebooks without their outputs"
    assert "smack.dev()" in code[0].source or "smack.dev(" in code[0].source
    assert "assert " in code[-1].source
    client = NotebookClient(notebook, timeout=CELL_S, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    shown: list[Any] = [output for cell in code for output in cell.outputs]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "image/png" in kinds, f"no chart in {path.name}"
    tables = [output["data"]["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("<table>" in table and re.search(r"<p>.*rows?", table) for table in tables), f"no table in {path.name}"
    assert not any("<script" in table for table in tables)
    said = "".join(output.get("text", "") for output in shown if output.output_type == "stream")
    assert "Traceback" not in said and "Warning" not in said, said
