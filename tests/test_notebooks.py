"""The notebooks: they run as they are, and what is committed of them is whole, small and of no machine."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
ELSEWHERE = re.compile(r"/(home|root|Users|work|tmp|usr|opt|var|private)/|[A-Z]:\\\\|site-packages|\.venv")


def test_there_are_five():
    assert [path.name[0] for path in NOTEBOOKS] == list("12345")


@names
@pytest.mark.slow
# The kernel is a process of its own; these are of the libraries that start and talk to it.
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_runs_unmodified(path, gl):
    """From its own folder, as Jupyter does; an error in a cell is raised here.

    Without OpenGL they run too, but warn that they do without.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in codes)
    shown = [output for cell in codes for output in cell.outputs]
    said = "".join(output["text"] for output in shown if output.get("name") == "stderr")
    assert all(line.startswith("unrender: compiling") for line in said.splitlines())  # a kernel's first use


@names
def test_is_committed_executed(path):
    """Every cell has run, in order, without errors and warnings, and shows figures."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


@names
def test_is_small_and_of_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 500_000
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    found = ELSEWHERE.search(json.dumps(notebook))
    assert found is None, f"names a machine's path: {found}"
