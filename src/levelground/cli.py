"""The command line: help, flags to options, exit statuses.

Only the module of the chosen command is imported, and for ``levelground --help`` none.
"""

import contextlib
import difflib
import gc
import io
import os
import re
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, get_origin

from levelground import __version__
from levelground.arguments import (
    COMMANDS,
    Argument,
    bare_type,
    command_arguments,
    command_module,
    plain_numbers,
    raise_fault,
    raise_missing,
    with_values,
)
from levelground.errors import (
    INTERRUPTED,
    OUR_FAULT,
    USER_FAULT,
    ConfigError,
    DataError,
    DiskError,
    LevelgroundError,
    OutOfMemoryError,
    damaged_bytecode,
    first_line,
    one_line,
)
from levelground.files import is_full, reason
from levelground.wording import decimal, process_language, translated

if TYPE_CHECKING:
    from pydantic import ValidationError

    from levelground.config import Recipe

_SHARED_LOAD = 0.4  # of the last minute, a core, from which on others are taken to use the machine

_HELP_WIDTH, _FLAG_WIDTH = 96, 16  # columns of a command's help, and of its flags


def help_text() -> str:
    """Return what ``levelground --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: levelground COMMAND [FLAGS]",
            "",
            "Compare land-cover segmentation models on level ground.",
            "",
            *lines,
            "",
            "levelground COMMAND --help shows an example and the flags needed most, --help-all every flag.",
            "--debug shows tracebacks, --version the version, --lang ru writes in Russian,",
            "--json-lines prints lines and progress as JSON objects on stdout, too, for machines.",
            "Start with: levelground demo --out demo",
        ]
    )


def short_help(name: str) -> str:
    """Return what ``levelground COMMAND --help`` prints: an example, what must be given, and a few flags.

    Args:
        name: The command.
    """
    command, arguments = COMMANDS[name], command_arguments(name)
    given = [one for one in arguments if not one.flag.startswith("--")]
    wanted = [one for one in arguments if one.flag.removeprefix("--") in command.often.split()]
    needed = [one for one in arguments if one.default is MISSING and one not in wanted and one not in given]
    flags = sorted(wanted, key=lambda one: command.often.split().index(one.flag.removeprefix("--")))
    summary = (command_module(name).__doc__ or "").strip()
    required = (f"{one.flag} ..." for one in arguments if one.default is MISSING and one not in given)
    usage = " ".join(["usage: levelground", name, *map(_placeholder, given), *required, "[FLAGS]"])
    lines = [usage, "", *textwrap.wrap(summary, _HELP_WIDTH), "", f"Example: levelground {command.example}", ""]
    for title, ones in (("What it takes:", given), ("Flags that most people need first:", [*needed, *flags])):
        if ones:
            lines += [title, *(line for one in ones for line in _explained(one)), ""]
    if len(arguments) > len(given) + len(needed) + len(flags):
        lines.append(f"levelground {name} --help-all explains every flag.")
    return "\n".join(lines).rstrip()


def _placeholder(argument: Argument) -> str:
    """Return how a usage line shows an argument that has no flag."""
    text = argument.flag + " ..." * (get_origin(bare_type(argument.hint)) is tuple)
    return text if argument.default is MISSING else f"[{text}]"


def _explained(argument: Argument) -> list[str]:
    """Return the lines of a help that explain an argument."""
    default = argument.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    plain = default in (MISSING, None, (), "") or isinstance(default, bool)
    text = argument.text if plain else f"{argument.text} [{shown}]"
    if default is MISSING and argument.flag.startswith("--"):
        text += " (required)"
    width = max(_FLAG_WIDTH, len(argument.flag) + 2)
    wrapped = textwrap.wrap(text, _HELP_WIDTH - _FLAG_WIDTH - 2)
    return [f"  {argument.flag:<{width}}{wrapped[0]}", *(" " * (_FLAG_WIDTH + 2) + line for line in wrapped[1:])]


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        argv: Arguments after the program's name; ``None`` takes the process's.
    Returns:
        The exit status: 0, 1 for our fault, 2 for the user's, 130 after Ctrl-C.
    """
    _open_streams()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is loaded: its advice is for programmers
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug, machine = "--debug" in arguments, "--json-lines" in arguments
    arguments = [argument for argument in arguments if argument not in ("--debug", "--json-lines")]
    try:
        lang, arguments = language_flag(arguments)
        with process_language(lang), _rare_full_collections():
            return _with_events(arguments, debug) if machine else _main(arguments, debug)
    except ConfigError as error:  # there are no messages in the language
        return _fail(error, error.exit_status, debug, str(error))


def language_flag(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--lang CODE``, which every command has, out of the arguments.

    Example:
        >>> language_flag(["report", "study", "--lang", "ru"]), language_flag(["report", "--lang=en", "study"])
        (('ru', ['report', 'study']), ('en', ['report', 'study']))

    Raises:
        ConfigError: No language follows the flag.
    """
    left, code = [], None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--lang" or argument.startswith("--lang="):
            code = argument.partition("=")[2] if "=" in argument else next(rest, "")
            if not code:
                raise ConfigError("--lang: expected a language. Give --lang en or --lang ru.")
        else:
            left.append(argument)
    return code, left


def _with_events(arguments: list[str], debug: bool) -> int:
    """Run a command that prints JSON objects on stdout, too; the last one has the exit status."""
    from levelground.console import json_lines, say_event

    with json_lines():
        status = _main(arguments, debug)
        say_event("end", status=status)
    return status


def _main(arguments: list[str], debug: bool) -> int:
    """Run a command in the language that is set, and return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "--help-all", "help"):
        sys.stdout.write(help_text() + "\n")
        return 0 if arguments else USER_FAULT
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"levelground {__version__}\n")
        return 0
    try:
        for argument in arguments:
            if any("\ud800" <= character <= "\udfff" for character in argument):
                raise ConfigError(f"{argument}: is not UTF-8, so no record can name it. Rename it.")
        with named_limits(), _messages_of_others():
            return _run_command(arguments[0], arguments[1:])
    except LevelgroundError as error:
        return _fail(error, error.exit_status, debug, str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # the flag parser's own: 0 after help, 2 after a wrong flag
        return stop.code if isinstance(stop.code, int) else USER_FAULT
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stdout = None
        return 0
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        text = f"{' '.join(first)} (a fault of levelground: run again with --debug and report what it prints)"
        return _fail(error, OUR_FAULT, debug, text)


@contextlib.contextmanager
def _rare_full_collections() -> Iterator[None]:
    """Let Python rarely look for cycles among old objects, which takes a tenth of torch's import and finds nothing."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, 100 * old)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)


@contextlib.contextmanager
def _messages_of_others() -> Iterator[None]:
    """Leave out the tracebacks of rasterio that quotes bytes other than UTF-8, and of threads that met a full disk."""
    former, quoted = sys.unraisablehook, UnicodeDecodeError
    of_threads = threading.excepthook
    threading.excepthook = lambda found: None if found.exc_value and is_full(found.exc_value) else of_threads(found)
    sys.unraisablehook = lambda found: (
        None if isinstance(found.exc_value, quoted) and "rasterio" in str(found.object) else former(found)
    )
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = former, of_threads


@contextlib.contextmanager
def named_limits() -> Iterator[None]:
    """Turn any error of a file, a full disk or a limit on memory into one of ours, those of other libraries too.

    Raises:
        DataError: A file or folder cannot be read or written.
        DiskError: The disk is full.
        OutOfMemoryError: The process may not take more memory.
    """
    try:
        yield
    except LevelgroundError:
        raise
    except Exception as error:
        if is_full(error):
            raise DiskError(f"{error}. Free space and run the same command again: what is finished stays.") from error
        if "marshal data" in str(error) and (damaged := damaged_bytecode(error)):
            raise DiskError(f"{damaged}: is damaged, as a full disk leaves it. Remove it.") from error
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            raise OutOfMemoryError(
                f"no more memory may be taken ({first_line(error)}). Close other programs, raise the limit (ulimit -v) "
                "or give a smaller --batch or --tile, and run the same command again: what is finished stays."
            ) from error
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, BrokenPipeError):
            raise DataError(
                f"{error.filename}: cannot be read or written ({reason(error)}). Mend the file or its permissions."
            ) from error
        if isinstance(error, RuntimeError) and str(error).startswith(_LINK_LOOP):  # of pathlib, before Python 3.13
            link = str(error).removeprefix(_LINK_LOOP).strip("'\" ")
            raise DataError(f"{link}: is a link that leads back to itself. Replace it with the file.") from error
        raise


_LINK_LOOP = "Symlink loop from "
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|bad_alloc|out of memory|cannot allocate memory|failed to map segment|"
    r"insufficient memory|OutOfMemory|unable to allocate|can't start new thread",
    re.IGNORECASE,
)
"""What torch, NumPy, OpenCV, GDAL and the loader of libraries say where memory ends."""


def _open_streams() -> None:
    """Give a process with closed standard streams ones that lead nowhere, before a file takes their place."""
    if any(stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)):
        handle = os.open(os.devnull, os.O_RDWR)
        while handle < 2:
            handle = os.open(os.devnull, os.O_RDWR)
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends


def initial_recipe(name: str | None, resumed: Path | None) -> "Recipe | None":
    """Return the recipe that single fields given beside it override; ``None`` for the command's own.

    Args:
        name: A shipped recipe or the path of a TOML file, where one was named.
        resumed: The run folder of a run to go on with, whose recipe is the run's own.
    Raises:
        ConfigError: Both are given, or there is no such recipe.
        RecordError: There is no such run.
    """
    if name is not None and resumed is not None:
        raise ConfigError(f"--recipe {name}: --resume goes on with the run card's own recipe. Drop one of the two.")
    if name is not None:
        from levelground.recipe_files import load_recipe

        return load_recipe(name)
    if resumed is not None:
        from levelground.runs import read_recipe, read_run

        return read_recipe(read_run(resumed))
    return None


def fault_of(error: "ValidationError", spellings: dict[str, str], whole: str) -> str:
    """Say which option has a wrong value and why, such as ``--steps 0: should be greater than or equal to 1``.

    Args:
        error: The error of an options class.
        spellings: How to write an option's name, where not as its field.
        whole: What to name where the error is of no single option.
    """
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    given = f" {first['input']}" if isinstance(first["input"], str | int | float) else ""
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    what, limits = f"{spellings.get(field, field) or whole}{given}", first.get("ctx", {})
    match first["type"]:
        case "greater_than_equal":
            return f"{what}: should be greater than or equal to {limits['ge']:g}"
        case "greater_than":
            return f"{what}: should be greater than {limits['gt']:g}"
        case "less_than_equal":
            return f"{what}: should be less than or equal to {limits['le']:g}"
        case "less_than":
            return f"{what}: should be less than {limits['lt']:g}"
        case "finite_number":
            return f"{what}: should be a finite number"
    return f"{what}: {reason}"


def _run_command(name: str, arguments: list[str]) -> int:
    """Run a command; its status is 0 unless its result has another one, as that of ``check``."""
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        if near:
            raise ConfigError(f"{name}: no such command. The nearest is {near[0]}. Commands: {', '.join(COMMANDS)}.")
        raise ConfigError(f"{name}: no such command. Commands: {', '.join(COMMANDS)}.")
    if {"-h", "--help"} & {*arguments}:
        sys.stdout.write(short_help(name) + "\n")
        return 0
    arguments = ["--help" if argument == "--help-all" else argument for argument in arguments]
    module = command_module(name)
    if command.takes_recipe:
        resumed = _value_of("--resume", arguments) if name == "train" else None
        recipe = initial_recipe(_value_of("--recipe", arguments), None if resumed is None else Path(resumed))
        if recipe is not None:
            from levelground.recipe_files import recipe_flags

            # The recipe's fields come first, so that flags given beside it win.
            arguments = [*recipe_flags(recipe), *arguments]
    options = _parse(name, getattr(module, command.config), arguments, module.__doc__)
    if command.computes:
        wait_passively_if_shared()
    return getattr(getattr(module, name)(options), "exit_status", 0)


def wait_passively_if_shared() -> None:
    """Let OpenMP's threads sleep while they wait where other processes use this machine, and say so in one line.

    By default they spin, which takes the cores from the thread that they wait for. The load of the last minute may be
    that of work that has ended, so the present is looked at too. A user's own ``OMP_WAIT_POLICY`` stays.
    """
    load_averages = getattr(os, "getloadavg", None)  # Windows has none
    if "OMP_WAIT_POLICY" in os.environ or "torch" in sys.modules or load_averages is None:
        return
    from levelground.runtime import busy_share

    load, cores = load_averages()[0], os.cpu_count() or 1
    if load >= _SHARED_LOAD * cores and busy_share() >= _SHARED_LOAD / 2:
        from levelground.console import say

        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        say(
            "Other processes use this machine (load %(load)s on %(cores)s cores): threads wait without spinning.",
            load=decimal(f"{load:.1f}"),
            cores=cores,
        )


def _parse(name: str, config: type[object], arguments: list[str], description: str | None) -> object:
    """Turn flags into a command's options; a value out of range is one line, like every error of ours."""
    import tyro
    from pydantic import ValidationError

    shown, helped = io.StringIO(), _Shown()
    given = with_values(arguments)
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(helped):
            options = tyro.cli(
                config, prog=f"levelground {name}", args=given, description=description, registry=plain_numbers()
            )
    except (SystemExit, ValidationError) as stop:
        error: BaseException | None = stop
        while error is not None and not isinstance(error, ValidationError):
            error = error.__context__  # the parser draws a box around the error of a nested configuration and exits
        if error is None:
            if isinstance(stop, SystemExit) and not stop.code:
                sys.stdout.write(_without_empty_defaults(helped.getvalue()))
                raise
            raise_fault(name, given, shown.getvalue())
        flags = {
            str(e["loc"][0]): f"--{str(e['loc'][0]).rstrip('_').replace('_', '-')}" for e in error.errors() if e["loc"]
        }
        raise ConfigError(f"{fault_of(error, flags, name)}. See levelground {name} --help-all.") from error
    if () in vars(options).values():  # the list of arguments is read from their source
        needed = [
            one for one in command_arguments(name) if one.first and one.default is MISSING and len(one.place) == 1
        ]
        if empty := [one for one in needed if getattr(options, one.place[0]) == ()]:
            raise_missing(name, empty)
    return options


class _Shown(io.StringIO):
    """A text that the parser draws as it would on stdout."""

    encoding = getattr(sys.__stdout__, "encoding", "utf-8")

    def isatty(self) -> bool:
        """Whether stdout shows colours."""
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def _without_empty_defaults(text: str) -> str:
    """Blank what a help says of options that hold nothing by default, whose frame stays as wide."""
    empty = re.compile("\\(default:(?:\x1b\\[[0-9;]*m|[\\s\u2502|])*\\)")
    return empty.sub(lambda found: re.sub(r"\(default:|\)", lambda part: " " * len(part[0]), found[0]), text)


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """Return the last value given for a flag, as ``--flag value`` or ``--flag=value``."""
    value = None
    for place, argument in enumerate(arguments):
        if argument == flag and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith(flag + "="):
            value = argument.partition("=")[2]
    return value


def _fail(error: BaseException, status: int, debug: bool, text: str) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    text = translated(one_line(text))
    sys.stderr.write(f"{type(error).__name__}: {text}\n")
    if "levelground.console" in sys.modules:
        sys.modules["levelground.console"].say_event("error", type=type(error).__name__, text=text)
    return status
