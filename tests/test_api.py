"""The Python API: the public names, and commands as functions that take the names of the flags."""

import ast
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import levelground as lg
from levelground import api
from levelground.arguments import COMMANDS
from levelground.commands.compare import CompareConfig
from levelground.commands.study import StudyConfig
from levelground.commands.train import TrainConfig
from levelground.config import Budget, DeviceOptions, Recipe, RunOptions, StudyOptions
from levelground.errors import ConfigError
from levelground.recipe_files import load_recipe
from levelground.runs import Run

ROOT = Path(__file__).parent.parent


def options_given(monkeypatch: pytest.MonkeyPatch, command: str, *args: Any, **kwargs: Any) -> Any:
    """Call a command's function and return the options that the command gets, in place of running it."""
    monkeypatch.setattr(importlib.import_module(f"levelground.commands.{command}"), command, lambda options: options)
    return getattr(lg, command)(*args, **kwargs)


def test_importing_loads_nothing() -> None:
    """Neither torch nor numpy; the names are loaded one by one."""
    code = (
        "import sys, levelground; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'tyro', 'scipy') if m in sys.modules]); "
        "levelground.study, levelground.Recipe; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False"]


def test_the_public_names_are_the_namespace() -> None:
    """``dir`` gives ``__all__``, every name of it is there, and other public names are modules of the package."""
    assert dir(lg) == sorted(lg.__all__)
    assert len(set(lg.__all__)) == len(lg.__all__)
    for name in lg.__all__:
        assert getattr(lg, name) is not None
    others = {name for name in vars(lg) if not name.startswith("_")} - set(lg.__all__)
    assert {name for name in others if not inspect.ismodule(getattr(lg, name))} == set()
    assert set(COMMANDS) <= set(lg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module, with its name."""
    with pytest.raises(AttributeError, match=r"^module 'levelground' has no attribute 'studdy'$"):
        lg.studdy  # type: ignore[attr-defined]  # noqa: B018


def test_no_module_shadows_a_public_name() -> None:
    """No module at the top has the name of a function or type; importing a command's module changes nothing."""
    tops = {module.name for module in pkgutil.iter_modules(lg.__path__)}
    assert tops & set(lg.__all__) == set(lg._MODULES)
    for name in COMMANDS:
        importlib.import_module(f"levelground.commands.{name}")
        assert inspect.isfunction(getattr(lg, name))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_function_has_the_names_of_the_flags(command: str) -> None:
    """Its parameters are the command's options, each with its text in the docstring, and with the flag's default."""
    function = getattr(lg, command)
    parameters = inspect.signature(function).parameters
    arguments = {argument.name: argument for argument in api.command_arguments(command)}
    assert set(parameters) == set(arguments)
    for name, argument in arguments.items():
        assert argument.text, name
        assert f"\n    {name} (" in function.__doc__
        if argument.default is MISSING:
            assert parameters[name].default is inspect.Parameter.empty
        else:
            default = argument.default
            assert parameters[name].default == (str(default) if isinstance(default, Path) else default)
    assert (function.__name__, function.__module__) == (command, "levelground")
    assert "\nReturns:\n" in function.__doc__
    assert "--" not in function.__doc__.partition("Returns:")[0]  # arguments are called by their names, not as flags


def test_a_long_signature_is_printed_in_lines() -> None:
    """Help shows one argument a line, those that need no name first."""
    text = str(inspect.signature(lg.study))
    assert text.startswith("(\n    data=None,\n    *,\n    out='study',\n")
    assert "    seeds=(0,),\n" in text
    assert str(inspect.signature(lg.report)) == "(study, *, out=None, figures=('png',))"


def test_options_are_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat arguments reach the nested groups; lists, text and single values are as good as tuples and paths."""
    found = options_given(
        monkeypatch, "study", "scenes", out="study", archs=["unet", "fpn"], seeds=range(2), steps=20, tile=256,
        device="cpu", save_every=5,
    )  # fmt: skip
    expected = StudyConfig(
        scenes=api.options_class("prepare")(data=Path("scenes"), out=Path("study")),
        study=StudyOptions(
            archs=("unet", "fpn"),
            seeds=(0, 1),
            recipe=Recipe(tile=256),
            budget=Budget(steps=20),
            run_options=RunOptions(save_every=5.0),
        ),
        device_options=DeviceOptions(device="cpu"),
    )
    assert found == expected
    assert options_given(monkeypatch, "study", out="s", archs="unet", seeds=3).study.archs == ("unet",)
    assert options_given(monkeypatch, "study", out="s", seeds=np.arange(2)).study.seeds == (0, 1)


def test_what_needs_no_flag_needs_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Positional arguments of the command line come first; one path is a list of one; a run stands for its folder."""
    assert options_given(monkeypatch, "compare", "study") == CompareConfig(runs=(Path("study"),))
    run = Run(tmp_path, {"name": "a"})  # type: ignore[arg-type]  # a card that nobody reads
    assert options_given(monkeypatch, "compare", [run, "b"]).runs == (tmp_path, Path("b"))
    predict = options_given(monkeypatch, "predict", run, tmp_path / "a.tif", out=tmp_path)
    assert (predict.model, predict.inputs) == (tmp_path, (str(tmp_path / "a.tif"),))
    assert options_given(monkeypatch, "prepare", "scenes", out="study").data == Path("scenes")
    assert options_given(monkeypatch, "train", study="s", arch="fpn").study == Path("s")


def test_a_recipe_is_the_start_that_other_arguments_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By name, by path or as an object; a command's own default where none is given."""
    origin = options_given(monkeypatch, "train", "study", arch="unet", recipe="origin", lr=0.001)
    assert origin.recipe == Recipe(**{**vars_of(load_recipe("origin")), "lr": 0.001})
    (tmp_path / "mine.toml").write_text("tile = 64\nhalo = 8\n", encoding="utf-8")
    mine = options_given(monkeypatch, "train", "study", arch="unet", recipe=tmp_path / "mine.toml", halo=16)
    assert (mine.recipe.tile, mine.recipe.halo, mine.recipe.name) == (64, 16, str(tmp_path / "mine.toml"))
    given = options_given(monkeypatch, "train", "study", arch="unet", recipe=Recipe(lr=0.01), batch=2)
    assert (given.recipe.lr, given.recipe.batch) == (0.01, 2)
    assert options_given(monkeypatch, "demo", steps=3).recipe == Recipe(tile=256, halo=32, validations=3)
    assert options_given(monkeypatch, "train", "study", arch="unet") == TrainConfig(Path("study"), "unet")


def vars_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe's fields."""
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


@pytest.mark.parametrize(
    ("command", "args", "kwargs", "message"),
    [
        ("compare", ("s",), {"delta": 2}, r"delta 2: should be less than 1\. See help\(levelground\.compare\)\."),
        ("compare", ("s",), {"split": "train"}, r"split train: should be 'val' or 'test'\. See help"),
        ("compare", ("s",), {"metrics": "x"}, r"metrics: compare has no such argument\. Did you mean metric\?"),
        ("report", ("s",), {"zoom": 3}, r"zoom: report has no such argument\. Known: study, out, figures\."),
        (
            "compare",
            ("s", "t"),
            {},
            r"compare: 2 arguments without a name, expected at most 1 \(runs\)\.",
        ),
        ("compare", ("s",), {"runs": "t"}, r"runs: given twice\. See help\(levelground\.compare\)\."),
        ("compare", (), {}, r"runs: not given\. See help\(levelground\.compare\)\."),
        ("study", (), {"out": "s", "seeds": [0, -1]}, r"seeds -1: should be greater than or equal to 0\. See help"),
        (
            "study",
            (),
            {"out": "s", "steps": 1, "minutes": 1},
            r"study: give one of --steps, --epochs and",
        ),
        ("study", (), {"out": "s", "lr": 50}, r"lr 50: should be less than or equal to 10\. See help"),
        ("study", (), {"out": "s", "tile": {"a": 1}}, r"tile: should be a valid integer\. See help"),
        ("study", (), {"out": "s", "recipe": "nosuch"}, r"--recipe nosuch: no such recipe\. Give default, origin or"),
        (
            "train",
            (),
            {"resume": "r", "recipe": "origin"},
            r"--recipe origin: --resume goes on with",
        ),
        (
            "train",
            (),
            {"resume": "r", "recipe": Recipe()},
            r"--recipe default: --resume goes on with",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(
    command: str, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """In the words of the command line, before anything is done."""
    with pytest.raises(ConfigError, match=f"^{message}"):
        getattr(lg, command)(*args, **kwargs)


def test_the_words_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The same value, the same sentence, but for flag and argument."""
    from levelground.cli import main

    assert main(["demo", "--seeds", "0", "-1"]) == 2
    line = capsys.readouterr().err
    with pytest.raises(ConfigError) as caught:
        lg.demo(seeds=[0, -1])
    spoken = (
        str(caught.value)
        .replace("seeds", "--seeds", 1)
        .replace("help(levelground.demo)", "levelground demo --help-all")
    )
    assert line == f"ConfigError: {spoken}\n"


def test_a_notebook_starts_no_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would run the program from its start, which a notebook or console does not have."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(
        ConfigError, match=r"^processes 2: a notebook or console has no program .* Use a script or the "
    ):
        lg.train("study", arch="unet", processes=2)
    assert options_given(monkeypatch, "train", "study", arch="unet", processes=1).run_options.processes == 1


def test_a_full_disk_is_ours_in_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever library meets it."""

    def fill(_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("levelground.commands.report"), "report", fill)
    with pytest.raises(lg.errors.DiskError, match="Free space"):
        lg.report("study")


def test_the_stub_is_fresh() -> None:
    """Type checkers and editors see the options as they are."""
    spec = importlib.util.spec_from_file_location("docs_stub", ROOT / "docs" / "stub.py")
    assert spec is not None and spec.loader is not None
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    assert stub.STUB.read_text(encoding="utf-8") == stub.stub_text()


def test_a_type_checker_sees_the_functions(tmp_path: Path) -> None:
    """It takes what is right and refuses a wrong name, a wrong value and a missing argument."""
    (tmp_path / "levelground").mkdir()  # the stub alone: what it imports is not looked into, which would take a minute
    shutil.copy(ROOT / "src" / "levelground" / "__init__.pyi", tmp_path / "levelground")
    (tmp_path / "use.py").write_text(
        "import levelground as lg\n"
        'run: lg.Run = lg.train("study", arch="fpn", steps=20, recipe=lg.Recipe(tile=64))\n'
        'lg.study("scenes", out="study", archs=["unet", "fpn"], seeds=[0, 1])\n'
        'lg.predict("run", ["a.tif"], out="maps", tta="d4")\n'
        'lg.compare("study", metrics="official.miou")\n'
        'lg.predict("run", ["a.tif"], out="maps", tta="d8")\n'
        'lg.predict("run")\n',
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--no-site-packages",
            "--ignore-missing-imports",
            "--config-file=",
            "--cache-dir=cache",
            "use.py",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path), "PYTHONPATH": ""},
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith("use.py:") and ": error:" in line]
    kinds = [(int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]")) for line in errors]
    assert kinds == [(5, "call-arg"), (6, "arg-type"), (7, "call-arg")], done.stdout


@pytest.mark.parametrize("page", ["__init__.py", "api.py"])
def test_calls_in_docstrings_are_right(page: str) -> None:
    """Every name after ``lg.`` is public, and every argument of a command is one."""
    text = (ROOT / "src" / "levelground" / page).read_text(encoding="utf-8")
    for name in re.findall(r"\blg\.(\w+)", text):
        assert name in lg.__all__, name
    for call in re.findall(r"(?<=\blg\.)\w+\([^()]*\)", text):
        tree = ast.parse(call, mode="eval").body
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)
        if tree.func.id in COMMANDS:
            inspect.signature(getattr(lg, tree.func.id)).bind(
                *tree.args, **{str(k.arg): k.value for k in tree.keywords}
            )
