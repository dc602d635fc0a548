"""The notebooks run from the first cell to the last, in their order, in one folder."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
ORDER = ("training", "evaluation", "visualisation")


@pytest.mark.filterwarnings("ignore")
def test_notebooks_run_in_order(tmp_path: Path) -> None:
    """All cells run; the study they make has a page."""
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(ORDER)
    for name in ORDER:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
    page = (tmp_path / "notebook-study" / "report.html").read_text(encoding="utf-8")
    assert "fpn" in page and "pspnet" in page
