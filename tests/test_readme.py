"""The READMEs: every command in them runs or is accepted, in order, and their figures are those of the experiments."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tyro
from builders.prediction import draw_pixels, write_pixels

from levelground.arguments import COMMANDS, command_arguments, options_class
from levelground.cli import main
from levelground.models.spec import library_archs
from levelground.runs import run_name
from levelground.synthetic.scenes import write_scenes

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("README.md", "README.ru.md")


def blocks(page: str, kind: str = "") -> list[str]:
    """The fenced blocks of a page, commands or those of a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The commands of a page's fenced blocks, word by word, without comments."""
    lines = [line for block in blocks(page) for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def write_data(folder: Path, *, n: int, size: int) -> None:
    """Write what the READMEs take for granted: scenes of DeepGlobe's layout, and a raster."""
    write_scenes(folder / "DeepGlobe", n=n, size=size, seed=1)
    write_pixels(folder / "ortho.tif", draw_pixels(70, 90))


def made(folder: Path) -> set[str]:
    """What the commands after the set-up leave behind, of all that they must."""
    wanted = ["study/report.html", "study/runs/unet-tf_efficientnet_lite0-s0/export/*.onnx", "maps/ortho.tif"]
    return {name for name in [*wanted, "maps/*.gpkg"] if list(folder.glob(name))}


def test_both_readmes_have_the_same_commands() -> None:
    """And the same lines of Python: what is run of one holds for the other."""
    english, russian = PAGES
    assert commands(english) == commands(russian)
    assert blocks(english, "python") == blocks(russian, "python")


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


SMALL = {"steps": 1, "tile": 64, "halo": 8, "batch": 2, "threads": 1}
"""What is added to the training of the READMEs so that it takes seconds; the rest runs word by word."""


def test_commands_and_python_of_the_readmes_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On six small generated scenes, with one step a run; those that set an environment up are not run here."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path, n=6, size=96)
    small = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    for words in commands(PAGES[0]):
        if words[0].endswith("bin/levelground"):
            assert main([*words[1:], *(small if words[1] == "study" else [])]) == 0, words
    assert len(made(tmp_path)) == 4
    (code,) = blocks(PAGES[0], "python")
    arguments = ", ".join(f"{name}={value}" for name, value in SMALL.items())
    exec(code.replace("seeds=[0, 1])", f"seeds=[0, 1], {arguments})"), {})
    assert (tmp_path / "maps-from-python" / "ortho.tif").exists()


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("LEVELGROUND_WALK"), reason="LEVELGROUND_WALK is not set; it takes 15 minutes")
def test_a_reader_can_run_every_command(tmp_path: Path) -> None:
    """As they stand, in order, in the environment that `make demo` builds in a copy of the project.

    `make test`, which would run this very suite, is left out unless LEVELGROUND_WALK is ``all``. Where torch's own
    index is out of reach, what names it is run without it, and said.
    """
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    write_data(tmp_path, n=12, size=256)
    own = {"PATH": f"{tmp_path}/.venv/bin{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": f"{tmp_path}/.venv"}
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LEVELGROUND_WALK")}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        env = kept | own | {"PYTHON": sys.executable}
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, check=False
        )

    for line in (line for block in blocks(PAGES[0]) for line in block.splitlines()):
        if line.startswith("make test") and os.environ["LEVELGROUND_WALK"] != "all":
            continue
        done = run(line)
        if "--torch-backend" in line and "Failed to fetch" in done.stderr:
            sys.stdout.write(f"torch's index is out of reach: {line}\n")
            done = run(line.replace("--torch-backend cpu ", ""))
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "demo" / "report.html").exists() and len(made(tmp_path)) == 4
    for code in blocks(PAGES[0], "python"):
        done = run(f".venv/bin/python -c {shlex.quote(code)}")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_names_and_numbers_in_the_text_are_those_of_the_project(page: str) -> None:
    """Extras, flags, the licence, the lowest Python; how many runs its study makes, of how many epochs."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"`\[(\w+)\]`", text)) == {*PROJECT["optional-dependencies"]} - {"dev", "docs"}
    known = {one.flag for name in COMMANDS for one in command_arguments(name)} | {"--lang"}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= known
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')}" in text and PROJECT["license"] in text
    study = next(words for words in commands(page) if "study" in words)
    given = tyro.cli(options_class("study"), args=study[2:]).study
    assert (len(given.archs) * len(given.seeds), given.recipe.default_epochs) == (9, 5)
    assert re.search("nine runs of five epochs each|девять обучений по пять эпох", text)
    assert len(library_archs()) == 12 and re.search("SMP's twelve|двенадцать из SMP", text)


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


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("LEVELGROUND_LOWEST"), reason="LEVELGROUND_LOWEST is not set; it installs 5 GB")
def test_the_lowest_versions_work() -> None:
    """`make lowest`: a demo of two steps and an export, with the oldest versions that the project allows."""
    done = subprocess.run(["make", "lowest", f"PYTHON={sys.executable}"], cwd=ROOT, check=False)
    assert done.returncode == 0
