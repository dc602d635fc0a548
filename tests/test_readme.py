"""The READMEs: every command in them runs or is accepted, in order, and their figures are those of the experiments."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tyro
from builders.prediction import draw_pixels, write_pixels
from builders.study import add_run, build_study

from levelground.arguments import COMMANDS, options_class
from levelground.cli import main
from levelground.runs import run_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("README.md", "README.ru.md")


def commands(page: str) -> list[list[str]]:
    """The commands of a page's fenced blocks, word by word, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_readme_are_accepted(page: str) -> None:
    """Targets are the Makefile's, flags the command's, extras the project's, runs those of the study before."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made: set[str] = set()
    for words in commands(page):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
            continue
        if words[0] in ("uv", "uvx"):
            wanted = re.search(r"\[(\w+)\]", " ".join(words))
            assert wanted and wanted[1] in PROJECT["optional-dependencies"], words
            if "levelground" not in words:
                continue
            words = words[words.index("levelground") :]
        assert Path(words[0]).name == "levelground" and words[1] in COMMANDS, words
        options = tyro.cli(options_class(words[1]), args=words[2:])
        if words[1] == "study":
            study = options.study
            encoder = study.recipe.encoder
            made |= {
                str(options.scenes.out / "runs" / run_name(arch, encoder, seed))
                for arch in study.archs
                for seed in study.seeds
            }
        runs = [word for word in words[2:] if "/runs/" in word]
        assert set(runs) <= made, words


def test_the_demos_environment_has_what_the_readmes_use() -> None:
    """`make demo` installs the extra that their `export` needs."""
    ready = (ROOT / "Makefile").read_text(encoding="utf-8").split(".venv/ready:")[1].split("\n\n")[0]
    assert "[export]" in ready
    used = {words[1] for page in PAGES for words in commands(page) if words[0].endswith("bin/levelground")}
    assert used == {"study", "predict", "export"}


def test_maps_of_the_readmes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their `predict`, word by word but for the run's name, on an untrained network and a small raster."""
    run = add_run(build_study(tmp_path / "study"), dtype="uint8", gsd_m=None, tile=64, halo=8)
    monkeypatch.chdir(tmp_path)
    write_pixels(tmp_path / "ortho.tif", draw_pixels(70, 90))
    lines = {tuple(words[1:]) for page in PAGES for words in commands(page) if words[1:2] == ["predict"]}
    for words in lines:
        given = [str(run.folder) if "/runs/" in word else word for word in words]
        assert main([*given, "--device", "cpu", "--threads", "1"]) == 0
    assert (tmp_path / "maps" / "ortho.tif").exists()
    assert list((tmp_path / "maps").glob("*.gpkg"))


def test_figures_of_the_readme_are_those_of_the_experiments() -> None:
    """Every figure in its table stands on the page of experiments, in the same digits."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Figures")[1].split("## Licence")[0]
    experiments = " ".join((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").split())
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert len(rows) >= 6
    for what, figure in rows:
        assert [part for part in figure.split(", ") if part not in experiments] == [], what
    russian = (ROOT / "README.ru.md").read_text(encoding="utf-8").split("## Числа")[1].split("\n## ")[0]
    theirs = re.findall(r"^\| (.+?) \| (.+?) \|$", russian, re.MULTILINE)
    numbers = [[re.sub(r"^\.", "0.", part) for part in re.findall(r"[\d.]*\d", figure)] for _, figure in rows]
    assert [re.findall(r"[\d.]*\d", figure.replace(",", ".")) for _, figure in theirs] == numbers


@pytest.mark.skipif(not os.environ.get("LEVELGROUND_LOWEST"), reason="LEVELGROUND_LOWEST is not set; it installs 5 GB")
def test_the_lowest_versions_work() -> None:
    """`make lowest`: a demo of two steps and an export, with the oldest versions that the project allows."""
    done = subprocess.run(["make", "lowest", f"PYTHON={sys.executable}"], cwd=ROOT, check=False)
    assert done.returncode == 0
