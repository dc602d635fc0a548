"""The commands run where a system lacks what only Unix has."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders.scene_files import kaggle_pair

from levelground.datasets.dataset import read_dataset

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "tests/data/study-0.1.0"
MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
CALLS = (
    "posix_fallocate", "posix_fadvise", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity",
    "sched_setaffinity", "register_at_fork", "fchmod", "fchown", "statvfs", "getloadavg", "mkfifo", "nice", "fork",
)  # fmt: skip
LACKING = f"""
import os, sys
for name in {MODULES}:
    sys.modules[name] = None
for name in {CALLS}:
    delattr(os, name)
from levelground.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*flags: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python that lacks the modules and calls."""
    command = [sys.executable, "-W", "ignore", "-c", LACKING, *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_is_shown() -> None:
    """All commands are listed."""
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"prepare", "train", "compare", "predict"} <= set(re.findall(r"\w+", done.stdout))


def test_scenes_are_prepared(tmp_path: Path) -> None:
    """Decoded, split, written; another writer is still shut out."""
    for number in range(6):
        kaggle_pair(tmp_path / "data", str(number), seed=number)
    flags = "prepare", "--data", tmp_path / "data", "--out", tmp_path / "study", "--cache", tmp_path / "cache"
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(read_dataset(tmp_path / "study").scenes) == 6
    assert not list((tmp_path / "study").glob(".lock.*"))


def test_a_study_is_compared(tmp_path: Path) -> None:
    """Counts that 0.1.0 wrote give a comparison."""
    study = tmp_path / "study"
    shutil.copytree(STUDY, study)
    (study / "comparison.json").unlink()
    done = run("compare", study)
    assert done.returncode == 0, done.stderr
    assert (study / "comparison.json").exists()
    assert (study / "comparison.csv").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_what_only_unix_has_is_asked_for_before_it_is_used(path: Path) -> None:
    """No module imports such a module on its own import, and only two call such functions, behind a question.

    These are files.py, and the fork server that is started on Linux alone.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & set(MODULES)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & set(CALLS)
    allowed = {"files": {"posix_fallocate", "preadv", "pwrite", "register_at_fork"}, "worker": {"fork"}}
    assert used <= allowed.get(path.stem, set())
