"""``levelground.statistics`` and ``levelground.metrics`` as people with counts of their own use them."""

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import levelground.metrics
import levelground.statistics


@pytest.mark.parametrize("package", [levelground.statistics, levelground.metrics], ids=lambda module: module.__name__)
def test_every_name_is_there_and_says_what_it_is(package: ModuleType) -> None:
    """No name is listed in vain or twice; functions and classes carry a docstring, and no name is a module's."""
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        found = getattr(package, name)
        assert not inspect.ismodule(found), name
        if inspect.isfunction(found) or inspect.isclass(found):
            assert inspect.getdoc(found), name


@pytest.mark.parametrize(
    "name", ["compare_pairs", "compare_architectures", "run_intervals", "architecture_scores", "power"]
)
def test_the_main_functions_have_an_example(name: str) -> None:
    """The doctests run it."""
    assert ">>> " in (inspect.getdoc(getattr(levelground.statistics, name)) or "")


def test_statistics_need_no_torch() -> None:
    """Counts are all that is read: neither torch nor an image library is loaded."""
    code = (
        "import sys, levelground.statistics; "
        "print([name for name in ('torch', 'cv2', 'rasterio', 'matplotlib', 'PIL') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
