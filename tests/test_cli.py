"""The command line: help without heavy imports, exit statuses, one line for each error."""

import ast
import errno
import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders.field_sets import write

import levelground
from levelground import __version__, cli, wording
from levelground.arguments import COMMANDS, command_arguments
from levelground.cli import _messages_of_others, main, named_limits
from levelground.errors import DiskError, SceneError

HEAVY = {"torch", "matplotlib", "rasterio", "segmentation_models_pytorch", "timm", "lightning_fabric"}


def imported_by(arguments: list[str]) -> tuple[str, set[str]]:
    """What a command prints, and the top-level packages that it imported."""
    code = (
        "import sys; from levelground.cli import main; main(sys.argv[1:]); "
        "print('MODULES', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("MODULES")
    return text, set(modules.split())


def test_help_names_every_command_and_imports_little() -> None:
    """The root help is a table of names; not even the flag parser is loaded for it."""
    text, modules = imported_by(["--help"])
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    assert not modules & (HEAVY | {"tyro", "pydantic", "numpy"})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_flag_of_a_command_is_explained(name: str) -> None:
    """A field without a text would be a flag without help."""
    assert [argument.flag for argument in command_arguments(name) if not argument.text] == []


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """On stdout, status 0."""
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"levelground {__version__}\n"


def test_full_collections_are_rare_while_a_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Young objects are looked at as often as ever; what called the command keeps its own setting."""
    before, seen = gc.get_threshold(), []
    monkeypatch.setattr(cli, "_main", lambda *_: seen.append(gc.get_threshold()) or 0)
    assert main([]) == 0
    assert seen == [(before[0], before[1], 100 * before[2])]
    assert gc.get_threshold() == before


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """And exits 2: nothing was done."""
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: levelground COMMAND")


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2."""
    assert main(["trian"]) == 2
    known = f"Commands: {', '.join(COMMANDS)}.\n"
    assert capsys.readouterr().err == f"ConfigError: trian: no such command. The nearest is train. {known}"
    assert main(["qzx"]) == 2
    assert capsys.readouterr().err == f"ConfigError: qzx: no such command. {known}"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--steps", "0"], "--steps 0: should be greater than or equal to 1."),
        (["--seed", "-1"], "--seed -1: should be greater than or equal to 0."),
        (["--lr", "50"], "--lr 50.0: should be less than or equal to 10."),
        (["--steps", "1", "--minutes", "1"], "train: give one of --steps, --epochs and --minutes, not --steps and"),
        (["--scale-min", "2"], "train: scale_min 2.0 exceeds scale_max 1.5; exchange the two."),
        (["--recipe", "nosuch"], "--recipe nosuch: no such recipe. Give default, origin or the path of a .toml."),
        (["--recipe=nosuch"], "--recipe nosuch: no such recipe."),
    ],
)
def test_a_value_out_of_range_is_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], line: str) -> None:
    """The flag, its value and what was expected; status 2."""
    assert main(["train", "nowhere", "--arch", "unet", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ConfigError: {line}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["1_0", " 5", "٣", "nan", "0x10", "5 ", "", "１"])
@pytest.mark.parametrize(
    "line",
    ["train s --arch unet --minutes", "train s --arch unet --steps", "compare s --delta", "predict m a.tif --tile",
     "predict m a.tif --mean 1", "study --data s --seeds 0", "serve s --port", "adopt w --study s --outputs"],
)  # fmt: skip
def test_only_what_is_plainly_a_number_is_read_as_one(capsys: pytest.CaptureFixture[str], line: str, text: str) -> None:
    """Python takes ``1_0`` for 10 and digits of any script; a user who gives them has made a mistake."""
    flag = [word for word in line.split() if word.startswith("--")][-1]
    assert main([*line.split(), text]) == 2
    assert re.fullmatch(
        rf"ConfigError: {flag} {re.escape(text)}: expected a (whole )?number\. See levelground \w+ --help-all\.\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    "line",
    ["train s --arch unet --minutes", "train s --arch unet --save-every", "serve s --max-upload-mb",
     "predict m a.tif --smallest-area", "predict m a.tif --mean 0 0", "prepare --data s --block-m"],
)  # fmt: skip
def test_numbers_that_are_too_large_for_any_are_refused(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Infinity is never meant."""
    flag = [word for word in line.split() if word.startswith("--")][-1]
    assert main([*line.split(), "1e400"]) == 2
    assert capsys.readouterr().err.startswith(f"ConfigError: {flag} inf: should be a finite number. See levelground ")


def test_a_wrong_value_among_several_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Not its place in the list."""
    assert main(["demo", "--seeds", "0", "-1"]) == 2
    assert capsys.readouterr().err.startswith("ConfigError: --seeds -1: should be greater than or equal to 0. See ")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("train s --arch unet --tile wide", "--tile wide: expected a whole number. See levelground train --help-all."),
        ("train s --arch unet --lr fast", "--lr fast: expected a number. See levelground train --help-all."),
        ("train s --arch unet --tile=wide", "--tile wide: expected a whole number. See levelground train --help-all."),
        ("train s --arch unet --save_every x", "--save-every x: expected a number. See levelground train --help-all."),
        ("prepare --data s --groups km:٣", "--groups km:٣: expected auto, pixels, folders, file, none or a distance"),
        ("study --data s --seeds 1 x 2", "--seeds x: expected a whole number. See levelground study --help-all."),
        (
            "train s --arch unet --loss l1",
            "--loss l1: expected one of ce, dice, focal, ce+dice, focal+dice, smp-dice. See levelground train",
        ),
        ("completion tcsh", "SHELL tcsh: expected one of bash, zsh, fish. See levelground completion --help-all."),
        (
            "train s --arch unet --step 3",
            "--step: no such flag. The nearest is --steps. See levelground train --help-all.",
        ),
        (
            "train s --archs=unet --step 3",
            "--archs: no such flag. The nearest is --arch. See levelground train --help-all.",
        ),
        ("train s --arch unet --qzx", "--qzx: no such flag. See levelground train --help-all."),
        ("train s --arch unet --steps 0", "--steps 0: should be greater than or equal to 1. See levelground train"),
        ("train s --arch unet --lr 50", "--lr 50.0: should be less than or equal to 10. See levelground train --help"),
        ("compare s --delta 1", "--delta 1.0: should be less than 1. See levelground compare --help-all."),
        (
            "train s --arch unet --encoder-lr-factor 0",
            "--encoder-lr-factor 0.0: should be greater than 0. See levelground",
        ),
        (
            "adopt w --study s --normalise half",
            "--normalise half: expected one of none, imagenet, data. See levelground",
        ),
        ("report s t", "t: is one value too many. See levelground report --help."),
        ("train s --arch", "--arch: its value is missing. See levelground train --help-all."),
        ("report", "STUDY: must be given. Example: levelground report study. See levelground report --help."),
        (
            "serve",
            "MODELS: must be given. Example: levelground serve study --rasters rasters. See levelground serve --help.",
        ),
        (
            "compare --metric kept.miou",
            "RUNS: must be given. Example: levelground compare study. See levelground compare",
        ),
        (
            "predict model",
            "INPUTS: must be given. Example: levelground predict study/runs/unet-tf_efficientnet_lite0-s0",
        ),
        ("benchmark --out b", "STUDIES: must be given. Example: levelground benchmark study-a study-b study-c --out"),
    ],
)
def test_a_wrong_flag_is_one_line(capsys: pytest.CaptureFixture[str], line: str, text: str) -> None:
    """With the nearest flag or what was expected, and where flags are explained; status 2, and likewise in Russian."""
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ConfigError: {text}") and error.count("\n") == 1
    assert main([*line.split(), "--lang", "ru"]) == 2
    error = capsys.readouterr().err
    assert re.search("[а-яё]{3}", error) and error.count("\n") == 1 and "See" not in error


def test_help_and_wrong_flags_say_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a command that runs looks whether others use the processor."""
    monkeypatch.setattr(cli, "wait_passively_if_shared", lambda: pytest.fail("was looked at"))
    assert main(["evaluate", "--help-all"]) == 0
    assert main(["evaluate", "nowhere", "--bogus"]) == 2


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "serve", "adopt"])
def test_the_whole_help_shows_no_empty_default(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Options that hold nothing by default say so in words; frames keep their width."""
    assert main([command, "--help-all"]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"\(default:[\s│|]*\)", shown)
    assert "(default: " in shown and len({len(one) for one in shown.splitlines() if one.startswith(("│", "|"))}) == 1


@pytest.fixture
def command_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let every command raise what is given."""

    def install(error: BaseException) -> None:
        def raise_it(_name: str, _arguments: list[str]) -> None:
            raise error

        monkeypatch.setattr(cli, "_run_command", raise_it)

    return install


def test_our_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], command_that: Callable[[BaseException], None]
) -> None:
    """Whatever stands in a file's name, the message stays on one line and keeps its Cyrillic."""
    command_that(SceneError("a\nb\x1b[31m Лес.jpg: truncated"))
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err == "SceneError: a\\nb\\x1b[31m Лес.jpg: truncated\n"


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], command_that: Callable[[BaseException], None]
) -> None:
    """With --debug the traceback comes first, wherever the flag stands."""
    command_that(SceneError("bad"))
    assert main(["prepare", "--debug"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):")
    assert error.endswith("SceneError: bad\n")


def test_a_fault_of_ours_says_so(
    capsys: pytest.CaptureFixture[str], command_that: Callable[[BaseException], None]
) -> None:
    """Status 1, one line, and what to do."""
    command_that(ZeroDivisionError("division by zero\nmore"))
    assert main(["prepare"]) == 1
    expected = "division by zero (a fault of levelground: run again with --debug and report what it prints)"
    assert capsys.readouterr().err == f"ZeroDivisionError: {expected}\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), 130), (SystemExit(0), 0), (SystemExit(2), 2), (SystemExit("text"), 2)],
)
def test_statuses(command_that: Callable[[BaseException], None], error: BaseException, status: int) -> None:
    """Ctrl-C is 130; the parser's own exits keep their status."""
    command_that(error)
    assert main(["prepare"]) == status


def test_a_reader_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, command_that: Callable[[BaseException], None]
) -> None:
    """``levelground … | head`` ends quietly."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    command_that(BrokenPipeError())
    assert main(["prepare"]) == 0


def test_python_m_levelground_is_the_command() -> None:
    """The module runs like the script."""
    done = subprocess.run(
        [sys.executable, "-m", "levelground", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"levelground {__version__}\n"


EARLY = [
    ("study --data nosuch", "SceneError: FOLDER/nosuch: is not a folder"),
    ("prepare --data nosuch", "SceneError: FOLDER/nosuch: is not a folder"),
    ("train nosuch --arch unet", "MissingRecordError: nosuch/dataset.json: no such record"),
    ("train --resume nosuch", "MissingRecordError: nosuch/run.json: no such record"),
    ("adopt w.pth --study nosuch", "MissingRecordError: nosuch/dataset.json: no such record"),
    ("evaluate nosuch", "MissingRecordError: nosuch/dataset.json: no such record"),
    ("compare nosuch", "RecordError: nosuch: no run.json"),
    ("report nosuch", "MissingRecordError: nosuch/comparison.json: no such record"),
    ("predict nosuch a.tif", "ModelError: nosuch: no such file or folder"),
    ("predict . nosuch.tif", "SceneError: nosuch.tif: no such file or folder"),
    ("export nosuch", "MissingRecordError: nosuch/run.json: no such record"),
    ("demo --archs unet unett", "ModelError: unett: no such architecture. Known: unet, unetplusplus, "),
    (
        "demo --encoder tu-resnet81",
        "ModelError: pspnet with encoder tu-resnet81: cannot be built (no such encoder). Near",
    ),
    ("demo --encoder-weights w.pth", "WeightsError: --encoder-weights w.pth: no such file"),
    ("study --data STUDY --archs unett", "ModelError: unett: no such architecture"),
    ("study --data STUDY --encoder resnet19", "ModelError: pspnet with encoder resnet19: cannot be built"),
    ("study --data STUDY --archs net.py:make", "ModelError: net.py:make: no file net.py"),
    ("study --data STUDY --init w.pth", "ConfigError: --init w.pth: no such file or folder"),
    ("train STUDY --arch unett", "ModelError: unett: no such architecture"),
    ("train STUDY --arch unet --encoder x", "ModelError: unet with encoder x: cannot be built (no such encoder)"),
    ("train STUDY --init w.pth", "ConfigError: --init w.pth: no such file or folder"),
    ("adopt w.pth --study STUDY", "WeightsError: w.pth: no such file or folder"),
    ("adopt STUDY/study.json --study STUDY --arch unett", "ModelError: unett: no such architecture"),
    ("adopt STUDY/study.json --study STUDY --encoder x", "ModelError: --encoder x: cannot be built (no such encoder)"),
    ("evaluate STUDY --code net.py:make", "ModelError: net.py:make: no file net.py"),
    ("evaluate STUDY --runs nosuch", "MissingRecordError: "),
    ("predict STUDY STUDY/image.tif --legend x.toml", "LegendError: x.toml: "),
    ("predict STUDY STUDY/image.tif --code net.py:make", "ModelError: net.py:make: no file net.py"),
    ("export RUN --code net.py:make", "ModelError: net.py:make: no file net.py"),
    ("serve nosuch", "ModelError: nosuch: no such file or folder"),
]

REFUSE = """
import pathlib, re, shlex, sys, time
from levelground.cli import _messages_of_others, main
for command in sys.argv[1:]:
    start = time.process_time()
    assert main(shlex.split(command)) == 2, command
    assert time.process_time() - start < 3, command  # twice what it takes, on a machine that others use
mib = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024
print(*sorted({"torch", "timm", "transformers"} & set(sys.modules)), mib)
"""


def test_a_wrong_name_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    """Torch takes seconds and half a gigabyte; a path, network or encoder that does not exist takes neither."""
    study = tmp_path / "study"
    shutil.copytree(Path(__file__).parent / "data" / "study-0.1.0", study)
    (study / "image.tif").write_bytes(b"II*\0")
    before = sorted(tmp_path.rglob("*"))
    run = next((study / "runs").iterdir())
    places = {"STUDY": str(study), "RUN": str(run)}
    commands = [re.sub("STUDY|RUN", lambda name: places[name[0]], command) for command, _ in EARLY]
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, *commands], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(EARLY), done.stderr
    for line, (command, text) in zip(lines, EARLY, strict=True):
        assert line.startswith(text.replace("FOLDER", str(tmp_path.resolve()))), command
    assert int(done.stdout) < 200, "torch or MiB"
    assert sorted(path for path in tmp_path.rglob("*") if path.name != ".lock") == before


EXTRAS = [
    ("study --data . --archs hf:x/y", "ModelError: hf:x/y: transformers is not installed. pip install 'levelground[tr"),
    ("study --data . --cluster ray", "ConfigError: --cluster ray: ray is not installed. Say pip install 'levelground["),
    ("export RUN", "ModelError: --to onnx: onnxscript is not installed. pip install 'levelground[export]'"),
    ("serve RUN", "ConfigError: serve: rio_tiler is not installed. Install what the server needs: pip install 'level"),
    ("study --download kaggle", "DataError: --download kaggle: kagglehub is not installed (pip install levelground["),
    ("study --data . --track tensorboard", "ConfigError: --track tensorboard: tensorboard is not installed. Say pip"),
]
HIDE = """
import importlib.util, sys
hidden = {"transformers", "ray", "onnxscript", "rio_tiler", "kagglehub", "tensorboard"}
seen = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in hidden else seen(name, *rest)
sys.modules.update(dict.fromkeys(hidden))
"""


def test_a_missing_extra_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    """With the line that installs it."""
    run = next((Path(__file__).parent / "data" / "study-0.1.0" / "runs").iterdir())
    commands = [command.replace("RUN", str(run)) for command, _ in EXTRAS]
    code = HIDE + REFUSE.replace(', "transformers"', "")
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    for line, (command, text) in zip(done.stderr.splitlines(), EXTRAS, strict=True):
        assert line.startswith(text), command
    assert int(done.stdout) < 200, "torch or MiB"


def test_the_language_is_that_of_the_flag_the_variable_or_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag wins over LEVELGROUND_LANG, that over the locale; a locale without messages gives English."""
    seen: list[str] = []
    monkeypatch.setattr(cli, "_run_command", lambda *_: seen.append(wording.current_language()) or 0)
    monkeypatch.setenv("LEVELGROUND_LANG", "ru")
    assert main(["legends"]) == main(["legends", "--lang", "en"]) == main(["legends", "--lang=en"]) == 0
    monkeypatch.delenv("LEVELGROUND_LANG")
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for value in ("ru_RU.UTF-8", "ru", "fi_FI.UTF-8", "C"):
        monkeypatch.setenv("LANG", value)
        main(["legends"])
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("LANG", "ru_RU.UTF-8")
    main(["legends"])
    assert seen == ["ru", "en", "en", "ru", "ru", "en", "en", "en"]
    assert "LEVELGROUND_LANG" not in os.environ


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--lang", "xx"], "ConfigError: language 'xx': there are no messages in it. Expected one of en, ru.\n"),
        (["--lang"], "ConfigError: --lang: expected a language. Give --lang en or --lang ru.\n"),
    ],
)
def test_an_unknown_language_is_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], line: str) -> None:
    """The known ones are named."""
    assert main(["legends", *flags]) == 2
    assert capsys.readouterr().err == line


_OTHERS = {"--bidx", "--like", "--dtype", "--nodata", "--resampling", "--src-nodata", "--dst-nodata", "--transform"}
_OTHERS |= {"--unset-nodata", "--head", "--address", "--num-cpus", "--force-reinstall", "--shm-size"}
"""Flags of rio, ray, pip and containers in remedies."""


def test_flags_that_messages_name_are_flags() -> None:
    """A remedy that names a flag which no command has cannot be followed."""
    known = {"--help", "--help-all", "--debug", "--version", "--lang", "--json-lines", "--flag", *_OTHERS}
    for name in COMMANDS:
        for one in command_arguments(name):
            known |= {one.flag, one.flag.replace("--", "--no-", 1)}
    unknown = set()
    for path in Path(levelground.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                found = re.findall(r"(?<![\w(-])--[a-z][a-z0-9-]*[a-z0-9](?![\w{:-])", node.value)
                unknown |= {f"{path.name}:{node.lineno} {flag}" for flag in found if flag not in known}
    assert sorted(unknown) == []


@pytest.mark.parametrize(("flag", "expected"), [("--zero-is-nodata", 12), ("--no-zero-is-nodata", 0), (None, 12)])
def test_switches_that_files_decide_are_switches(tmp_path: Path, flag: str | None, expected: int) -> None:
    """With --no- too; where neither is given, untagged zeros of rasters are no data."""
    for number in range(3):
        pixels = np.full((16, 16, 3), 90 + number, np.uint8)
        pixels[:2, :2] = 0
        write(tmp_path / f"data/images/{number}.tif", pixels, number)
        write(tmp_path / f"data/labels/{number}.tif", np.arange(256, dtype=np.uint8).reshape(16, 16) % 2, number)
    folders = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "study"), "--cache", str(tmp_path / "cache")]
    assert main(["prepare", *folders, *([flag] if flag else [])]) == 0
    record = json.loads((tmp_path / "study/dataset.json").read_text())
    assert sum(scene["ignored_pixels"] for scene in record["scenes"]) == expected


def test_json_lines_end_with_error_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    """The flag may stand anywhere; what failed and the exit status are objects, too; the line on stderr stays."""
    assert main(["--json-lines", "jobs", "nowhere"]) == main(["jobs", "nowhere", "--json-lines"]) == 2
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert [event["event"] for event in events] == ["error", "end"] * 2
    assert events[0]["type"] == "RecordError" and events[0]["text"].startswith("nowhere: ") and events[1]["status"] == 2
    assert captured.err.count("RecordError: nowhere: ") == 2


def test_messages_of_gdal_that_are_not_utf_8_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Rasterio writes a traceback for each; one of another library is still told."""
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\x80".decode()
    told = SimpleNamespace(
        exc_type=UnicodeDecodeError,
        exc_value=caught.value,
        exc_traceback=None,
        err_msg=None,
        object="rasterio._env.log",
    )
    former = sys.unraisablehook
    sys.unraisablehook = lambda found: sys.stderr.write(f"told of {found.object}")
    try:
        with _messages_of_others():
            sys.unraisablehook(told)
            assert capsys.readouterr().err == ""
            told.object = "another"
            sys.unraisablehook(told)
        assert capsys.readouterr().err == "told of another"
    finally:
        sys.unraisablehook = former


def test_a_thread_that_meets_a_full_disk_writes_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread says it in one line; another error of a thread is still told."""
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda found: told.append(str(found.exc_value)))

    def fail(error: Exception) -> None:
        raise error

    with _messages_of_others():
        for error in (OSError(errno.EFBIG, "File too large"), ValueError("a fault")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert told == ["a fault"]


def test_compiled_python_that_a_full_disk_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python renames it all the same; the remedy works."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "some_library.py").write_text("a = 1\n")
    importlib.import_module("some_library")
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    compiled.write_bytes(compiled.read_bytes()[:-9])
    del sys.modules["some_library"]
    with (
        pytest.raises(DiskError, match=r"some_library\.\S+\.pyc: is damaged, .+ Remove it\.$") as caught,
        named_limits(),
    ):
        importlib.import_module("some_library")
    Path(str(caught.value).partition(": ")[0]).unlink()
    importlib.import_module("some_library")
    del sys.modules["some_library"]
