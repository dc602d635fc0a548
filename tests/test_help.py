"""Each command's help: light, with an example that works, the flags needed most, and every flag on demand."""

import re
import shlex
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path
from typing import get_origin

import pytest

from levelground.arguments import COMMANDS, bare_type, command_arguments, options_class
from levelground.cli import main

HEAVY = ("torch", "matplotlib", "rasterio", "cv2", "segmentation_models_pytorch", "timm", "lightning_fabric")


def test_help_loads_nothing_heavy() -> None:
    """Both helps of all commands end well; none imports torch, drawing or raster libraries."""
    code = (
        "import sys\n"
        "from levelground.cli import main\n"
        "for command in sys.argv[1:]:\n"
        "    for flag in ('--help', '--help-all'):\n"
        "        status = main([command, flag])\n"
        f"        assert status == 0 and not set({HEAVY}) & set(sys.modules), (command, flag, status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """It fits a screen: usage with names, an example, what must be given, at most five flags beside it."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    command, arguments = COMMANDS[name], command_arguments(name)
    assert f"Example: levelground {command.example}\n" in shown
    required = {one.flag for one in arguments if one.default is MISSING}
    flags = set(re.findall(r"^  (\S+)", shown, re.MULTILINE))
    assert flags >= required
    assert len({flag for flag in flags - required if flag.startswith("--")}) <= 5
    assert len(shown.splitlines()) <= 40
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_needed_first_are_flags(name: str) -> None:
    """The table of commands names no flag that the command does not have."""
    flags = {one.flag for one in command_arguments(name)}
    assert {f"--{flag}" for flag in COMMANDS[name].often.split()} - flags == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_accepted(name: str) -> None:
    """The parser takes each example as it is written."""
    import tyro

    program, *words = shlex.split(COMMANDS[name].example)
    assert program == name
    assert tyro.cli(options_class(name), args=words) is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_without_a_flag_have_names(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The whole help says RUN and INPUTS, not PATH and STR; so does the short one."""
    given = [one for one in command_arguments(name) if not one.flag.startswith("--")]
    for flag in ("--help", "--help-all"):
        assert main([name, flag]) == 0
        usage = capsys.readouterr().out.splitlines()[0]
        for one in given:
            several = get_origin(bare_type(one.hint)) is tuple
            assert one.flag + " ..." * several in usage
        assert not re.search(r"(?<!--)\b(PATH|STR)\b", re.sub(r"--\S+ \S+", "", usage))


def test_help_all_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that the short help leaves out."""
    assert main(["train", "--help-all"]) == 0
    shown = capsys.readouterr().out
    assert [one.flag for one in command_arguments("train") if one.flag not in shown] == []


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, with an example that has it."""
    assert main(["report"]) == 2
    assert "STUDY: must be given. Example: levelground report study." in capsys.readouterr().err


def test_the_demos_help_names_its_own_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """The help and the page of the demo say the number that the command takes."""
    from levelground.commands.demo import STEPS

    assert main(["demo", "--help"]) == 0
    text = f"Optimiser steps of each run; {STEPS} unless"
    assert text in " ".join(capsys.readouterr().out.split())
    assert text in Path("docs/demo.md").read_text(encoding="utf-8")
