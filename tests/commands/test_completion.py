"""levelground completion: shells complete commands, flags and the values of flags."""

import re
import shutil
import subprocess

import pytest

import levelground as lg
from levelground.arguments import COMMANDS, command_arguments


@pytest.fixture(scope="module")
def bash_script() -> str:
    """The script for bash."""
    return lg.completion("bash")


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in words)
    place = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}"
    code = f"{script}\n{place}; _levelground; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["levelground", "pre"], ["prepare", "predict"]),
        (["levelground", "train", "--enc"], ["--encoder", "--encoder-weights", "--encoder-lr-factor"]),
        (["levelground", "train", "--device", "c"], ["cuda", "cpu"]),
        (["levelground", "train", "study", "--help"], ["--help", "--help-all"]),
        (["levelground", "completion", ""], ["bash", "zsh", "fish"]),
        (["levelground", "report", "st"], []),
    ],
)
def test_bash_completes(bash_script: str, words: list[str], offered: list[str]) -> None:
    """Commands first, then flags, values where a flag has few, and files where it has none."""
    assert sorted(completed(bash_script, *words)) == sorted(offered)


def test_every_flag_is_completed(bash_script: str) -> None:
    """In bash, and by its long name in fish."""
    fish = lg.completion("fish")
    for name in COMMANDS:
        flags = [one.flag for one in command_arguments(name) if one.flag.startswith("--")]
        assert [flag for flag in flags if flag not in bash_script] == []
        lines = [line for line in fish.splitlines() if f"__fish_seen_subcommand_from {name}'" in line]
        assert [flag for flag in flags if not any(f" -l {flag[2:]} " in line for line in lines)] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_read_their_script(shell: str) -> None:
    """Where a shell is installed, it finds no fault in the syntax."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n"], input=lg.completion(shell), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str], bash_script: str) -> None:
    """On stdout and alone, so that a shell can source it."""
    from levelground.cli import main

    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == bash_script
    assert re.search(r"^complete .*-F _levelground levelground$", bash_script, re.MULTILINE)
