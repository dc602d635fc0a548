"""The notebooks run from the first cell to the last, in their order, in one folder."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
ORDER = ("training", "evaluation", "visualisation")


@pytest.mark.filterwarnings("ignore")
def test_notebooks_run_in_order(tmp_path: Path) -> None:
    """All cells run, none with a name of another notebook; the study they make has a page.

    One kernel runs them all and forgets every name between two of them, so that torch is imported once.
    """
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(ORDER)
    whole = nbformat.read(NOTEBOOKS / f"{ORDER[0]}.ipynb", as_version=4)
    for name in ORDER[1:]:
        whole.cells += [new_code_cell("%reset -f"), *nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells]
    ids = [cell["id"] for cell in whole.cells]
    assert len(set(ids)) == len(ids)
    NotebookClient(whole, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell["execution_count"] for cell in whole.cells if cell["cell_type"] == "code")
    page = (tmp_path / "notebook-study" / "report.html").read_text(encoding="utf-8")
    assert "fpn" in page and "pspnet" in page
