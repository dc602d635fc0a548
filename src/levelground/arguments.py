"""The commands and their arguments: one table, and what each command's options class says of its flags.

A command's options dataclass (:mod:`levelground.commands`) is the one declaration: the parser makes flags of it,
:mod:`levelground.api` a function, ``docs/flags.py`` the table on its page. Importing this module loads no command.
"""

import dataclasses
import difflib
import functools
import importlib
import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from levelground.errors import ConfigError
from levelground.wording import texts_under_fields

PATH_TYPE = "str | PathLike[str]"


@dataclass(frozen=True)
class Command:
    """A command, whose options class and function are in the module of its name in ``levelground.commands``.

    Attributes:
        config: Name of its options class.
        summary: What it does, in one line.
        takes_recipe: Whether it has the flags of a recipe.
        computes: Whether it runs a network, with threads.
        first: The flag that in Python is the first argument, where the command line takes it by name only.
        example: A command line that works, after the program's name.
        often: Names of the flags that most people need first, apart by spaces.
    """

    config: str
    summary: str
    example: str
    often: str = ""
    takes_recipe: bool = False
    computes: bool = False
    first: str | None = None


COMMANDS = {
    "demo": Command(
        "DemoConfig",
        "generate scenes and run a whole study on them; needs no data",
        "demo --out demo",
        often="out archs seeds steps minutes",
        takes_recipe=True,
        computes=True,
    ),
    "study": Command(
        "StudyConfig",
        "prepare, train every arch x seed, evaluate, compare, report",
        "study --data scenes --archs unet fpn --seeds 0 1 --minutes 30",
        often="data archs seeds minutes out",
        takes_recipe=True,
        computes=True,
        first="data",
    ),
    "prepare": Command(
        "PrepareConfig",
        "find and verify scenes, split them, decode them once",
        "prepare --data scenes --out study",
        often="data out layout legend split",
        first="data",
    ),
    "train": Command(
        "TrainConfig",
        "train one architecture on a prepared study",
        "train study --arch unet --seed 0 --minutes 30",
        often="arch seed minutes resume encoder",
        takes_recipe=True,
        computes=True,
    ),
    "adopt": Command(
        "AdoptConfig",
        "make a run of another tool's weights or predicted masks",
        "adopt weights.pth --study study --arch unet --encoder resnet34",
        often="study arch encoder predictions name",
    ),
    "evaluate": Command(
        "EvaluateConfig",
        "count what runs get right and wrong, scene by scene",
        "evaluate study",
        often="runs split on tile device",
        computes=True,
    ),
    "compare": Command(
        "CompareConfig",
        "scores, intervals and verdicts from the counts of two or more runs",
        "compare study",
        often="metric delta split out allow-unlike",
    ),
    "benchmark": Command(
        "BenchmarkConfig",
        "models x data sets on one page, from the comparisons of several studies",
        "benchmark study-a study-b study-c --out benchmark",
        often="out",
    ),
    "report": Command(
        "ReportConfig",
        "one offline HTML page and the figures of a comparison",
        "report study",
        often="out figures",
    ),
    "tune": Command(
        "TuneConfig",
        "tune the recipe of each architecture: equal space, trials and budget, never the test scenes",
        "tune study --archs unet fpn --space space.toml --trials 30 --steps 200",
        often="space archs trials steps cluster",
        takes_recipe=True,
        computes=True,
    ),
    "track": Command(
        "TrackConfig",
        "curves, scores and verdicts of a study to TensorBoard or MLflow",
        "track study --to tensorboard",
        often="to follow",
    ),
    "jobs": Command("JobsConfig", "what runs where in a study, with the time left", "jobs study"),
    "predict": Command(
        "PredictConfig",
        "predict class maps of images and rasters of any size",
        "predict study/runs/unet-tf_efficientnet_lite0-s0 ortho.tif --out maps",
        often="out polygons bands overlay tile",
        computes=True,
    ),
    "check": Command("CheckConfig", "verify every file of a study, and say what to redo", "check study"),
    "serve": Command(
        "ServeConfig",
        "a page for making maps and comparing them, on this machine",
        "serve study --rasters rasters",
        often="rasters out port host token",
        computes=True,
    ),
    "doctor": Command(
        "DoctorConfig", "say what this installation can do, and how to get what is missing", "doctor", often="cache"
    ),
    "completion": Command(
        "CompletionConfig", "print the script that lets a shell complete commands and flags", "completion bash"
    ),
    "legends": Command(
        "LegendsConfig",
        "list the shipped legends, or print one as a file to start from",
        "legends worldcover --out legend.toml",
        often="out",
    ),
    "export": Command(
        "ExportConfig",
        "a run's model as an ONNX file or SMP folder, checked against the run",
        "export study/runs/unet-tf_efficientnet_lite0-s0 --to onnx",
        often="to tile gsd overwrite",
        computes=True,
    ),
}
"""The commands by name, in the order of the help."""


@dataclass(frozen=True)
class Argument:
    """One option of a command: a flag, and an argument of the command's function.

    Attributes:
        name: The argument's name.
        flag: The flag, such as ``--save-every``; of a positional one the name in capitals.
        hint: Its type as declared.
        default: Its default; ``dataclasses.MISSING`` where it must be given.
        text: What it means.
        place: Where it is in the options: the names of the groups that hold it, then its field's.
        first: Whether it may be given without its name.
    """

    name: str
    flag: str
    hint: Any
    default: object
    text: str
    place: tuple[str, ...]
    first: bool


def command_module(command: str) -> ModuleType:
    """Import the module of a command."""
    return importlib.import_module(f"levelground.commands.{command}")


def command_function(command: str) -> Callable[[Any], Any]:
    """Return the function that a command calls with its options."""
    found: Callable[[Any], Any] = getattr(command_module(command), command)
    return found


def options_class(command: str) -> type[Any]:
    """Return the dataclass of a command's options."""
    found: type[Any] = getattr(command_module(command), COMMANDS[command].config)
    return found


@functools.cache
def command_arguments(command: str) -> tuple[Argument, ...]:
    """List the options of a command in the order of its help, those of nested groups among them.

    Example:
        >>> [argument.name for argument in command_arguments("report")]
        ['study', 'out', 'figures']
        >>> [argument.flag for argument in command_arguments("train")][:5]
        ['STUDY', '--arch', '--seed', '--init', '--resume']
    """
    return tuple(_arguments(options_class(command), None, (), COMMANDS[command].first))


def _arguments(cls: type[Any], defaults: object, place: tuple[str, ...], first: str | None) -> Iterator[Argument]:
    hints, texts = get_type_hints(cls, include_extras=True), field_texts(cls)
    for field in dataclasses.fields(cls):
        hint, inner = hints[field.name], bare_type(hints[field.name])
        default = default_of(field) if defaults is None else getattr(defaults, field.name)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from _arguments(inner, None if default is MISSING else default, (*place, field.name), first)
            continue
        marks = getattr(hint, "__metadata__", ())
        flag = next((mark.name for mark in marks if isinstance(getattr(mark, "name", None), str)), None) or field.name
        positional = any(mark in marks for mark in _positional_marks())
        computed = next((mark.help for mark in marks if isinstance(getattr(mark, "help", None), str)), "")
        yield Argument(
            name=flag + "_" * keyword.iskeyword(flag),  # as PEP 8 has it
            flag=flag.upper() if positional else "--" + flag.replace("_", "-"),
            hint=hint,
            default=default,
            text=texts.get(field.name) or computed,
            place=(*place, field.name),
            first=positional or flag == first,
        )


@functools.cache
def _positional_marks() -> tuple[Any, ...]:
    """Return how the parser marks what is given without a flag."""
    import tyro

    return get_args(tyro.conf.Positional[int])[1:]


def default_of(field: "dataclasses.Field[Any]") -> object:
    """Return the default of a field of an options class; ``dataclasses.MISSING`` where it must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def field_texts(cls: type[Any]) -> dict[str, str]:
    """Return the text under each field of an options class, inherited fields included, by field and on one line."""
    texts: dict[str, str] = {}
    for owner in (owner for owner in reversed(cls.__mro__) if dataclasses.is_dataclass(owner)):
        texts |= {name: " ".join(text.split()) for name, text in texts_under_fields(owner).items()}
    return texts


def bare_type(hint: Any) -> Any:
    """Return a type without its annotations."""
    return bare_type(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def accepted_type(argument: Argument) -> str:
    """Return what an argument takes in Python, as source text: any path for a path, any sequence for several values.

    Example:
        >>> [accepted_type(one) for one in command_arguments("train") if one.name in ("study", "recipe", "tile")]
        ['str | PathLike[str] | None', 'str | PathLike[str] | Recipe', 'int']
    """
    return f"{PATH_TYPE} | Recipe" if argument.name == "recipe" else _accepted(argument.hint)


def _accepted(hint: Any) -> str:
    hint = bare_type(hint)
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(dict.fromkeys(_accepted(part) for part in get_args(hint)))
    if get_origin(hint) is tuple:
        each = _accepted(get_args(hint)[0])
        return f"{each} | Sequence[{each}]"
    if get_origin(hint) is Literal:
        return f"Literal[{', '.join(map(repr, get_args(hint)))}]"
    return {"Path": PATH_TYPE, "NoneType": "None"}.get(hint.__name__, str(hint.__name__))


@functools.cache
def plain_numbers() -> Any:
    """Return the parser's rules for numbers: only what plainly is one is read, as ``1_0`` and ``٣`` are not.

    The parser takes an error of a rule for its own, so that :func:`raise_fault` says it.
    """
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    from levelground.reading import is_number, is_whole_number

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kind: Any = info.type
        if kind not in (int, float):
            return None
        plain = is_whole_number if kind is int else is_number

        def read(words: list[str]) -> Any:
            if not plain(words[0]):
                raise ValueError(f"{words[0]!r} is not a number")
            return kind(words[0])

        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=kind.__name__.upper(),
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, int) or (kind is float and isinstance(value, float)),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


UNDECIDED = ("--zero-is-nodata",)
"""Switches that are on with ``--NAME``, off with ``--no-NAME``, and decided by the files where neither is given."""


def with_values(arguments: list[str]) -> list[str]:
    """Give switches that may be left undecided, which the parser reads with a value, the value that they stand for.

    Example:
        >>> with_values(["--no-zero-is-nodata", "--zero-is-nodata", "a.tif"])
        ['--zero-is-nodata', 'False', '--zero-is-nodata', 'True', 'a.tif']
        >>> with_values(["--no-figures", "study"])  # no format at all, behind what is no format
        ['study', '--figures']
    """
    found: list[str] = []
    for place, argument in enumerate(arguments):
        name = argument.replace("_", "-")
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if name == "--no-figures" or (name == "--figures" and (not following or following.startswith("-"))):
            continue  # as a switch it was on in version 0.1.0
        if name.replace("--no-", "--", 1) not in UNDECIDED or following in ("None", "True", "False"):
            found.append(argument)
        else:
            found += [name.replace("--no-", "--", 1), str(not name.startswith("--no-"))]
    undrawn = {"--no-figures", "--no_figures"} & {*arguments}
    return [*found, "--figures"] if undrawn else found


def raise_fault(command: str, given: Sequence[str], shown: str) -> NoReturn:
    """Raise in one line what the parser shows in a box when arguments do not fit; a wrong flag with the nearest one.

    Args:
        command: The command.
        given: Its arguments.
        shown: What the parser wrote.
    Raises:
        ConfigError: Always.
    """
    arguments, told = command_arguments(command), " ".join(re.sub("[\u2500-\u257f]", " ", shown).split())
    if found := re.search(r"Unrecognized options: ([^\s,]+)", told):
        word = next((one for one in given if one.startswith(found[1])), found[1]).partition("=")[0]
        if not re.match("-+[A-Za-z]", word):
            raise ConfigError(f"{word}: is one value too many. See levelground {command} --help.")
        flags = [one.flag for one in arguments if one.flag.startswith("--")]
        near = difflib.get_close_matches("--" + word.lstrip("-").replace("_", "-"), flags, 1)
        if near:
            raise ConfigError(f"{word}: no such flag. The nearest is {near[0]}. See levelground {command} --help-all.")
        raise ConfigError(f"{word}: no such flag. See levelground {command} --help-all.")
    if "Missing from" in told:
        raise_missing(command, [one for one in arguments if one.default is MISSING and f" {one.flag} " in told])
    if found := re.search(r"Missing value for argument '(\S+)'", told):
        raise ConfigError(f"{found[1]}: its value is missing. See levelground {command} --help-all.")
    if found := re.search(r"invalid choice '(.*?)' for argument '(\S+)'\. Expected one of \((.*?),?\)", told):
        flag = found[2] if found[2].startswith("-") else found[2].upper()
        order = " ".join(_accepted(one.hint) for one in arguments if one.flag == flag)  # the parser's is not fixed
        named = {one for one in re.findall("'(.*?)'", found[3]) if one != "None"}
        choices = ", ".join(sorted(named, key=lambda one: order.find(f"'{one}'")))
        raise ConfigError(f"{flag} {found[1]}: expected one of {choices}. See levelground {command} --help-all.")
    if found := re.search(r"Error parsing (\S+): ", told):
        _raise_wrong_value(command, next((one for one in arguments if one.flag == found[1]), None), given, told)
    raise ConfigError(f"{command}: {told}. See levelground {command} --help-all.")


def raise_missing(command: str, missing: Sequence[Argument]) -> NoReturn:
    """Raise that arguments are missing.

    Raises:
        ConfigError: Always.
    """
    flags, example = ", ".join(one.flag for one in missing), COMMANDS[command].example
    raise ConfigError(f"{flags}: must be given. Example: levelground {example}. See levelground {command} --help.")


def _raise_wrong_value(command: str, argument: Argument | None, given: Sequence[str], told: str) -> NoReturn:
    from levelground.reading import is_number, is_whole_number

    flag = "" if argument is None else argument.flag
    kinds = "" if argument is None else _accepted(argument.hint)
    whole, real = re.search(r"\bint\b", kinds) is not None, re.search(r"\bfloat\b", kinds) is not None
    plain = is_whole_number if whole else is_number if real else lambda word: f"'{word}'" not in told
    words = _values_given(flag, given)
    value = next((word for word in words if not plain(word)), words[0] if words else "")[:100]
    if whole:
        raise ConfigError(f"{flag} {value}: expected a whole number. See levelground {command} --help-all.")
    if real:
        raise ConfigError(f"{flag} {value}: expected a number. See levelground {command} --help-all.")
    if re.search(r"\bbool\b", kinds):
        raise ConfigError(f"{flag} {value}: expected True or False. See levelground {command} --help-all.")
    raise ConfigError(f"{flag} {value}: is not a value that it takes. See levelground {command} --help-all.")


def _values_given(flag: str, given: Sequence[str]) -> list[str]:
    """Return the words given for a flag, behind it or behind its equals sign; the last time counts, as for the parser.

    Example:
        >>> _values_given("--seeds", ["study", "--seeds", "1", "2_2", "--save_every=x"])
        ['1', '2_2']
        >>> _values_given("--save-every", ["study", "--seeds", "1", "2_2", "--save_every=x"])
        ['x']
    """
    found: list[str] = []
    current = ""
    for word in given:
        if re.match("--[A-Za-z]", word):
            name, equals, value = word.partition("=")
            current = name.replace("_", "-")
            found = ([value] if equals else []) if current == flag else found
        elif current == flag:
            found.append(word)
    return found
