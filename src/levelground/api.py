"""The Python API: every command as a function whose arguments have the names of the command's flags.

A command's options dataclass (:mod:`levelground.commands`) is the one declaration. The parser makes flags and help of
it, ``docs/flags.py`` the table on the command's page and the type stub, and this module the function's signature and
docstring. ``import levelground as lg`` gives the functions: ``lg.study("scenes", out="study", archs=["unet", "fpn"])``.
"""

import dataclasses
import difflib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from levelground.arguments import (
    COMMANDS,
    PATH_TYPE,
    Argument,
    accepted_type,
    bare_type,
    command_arguments,
    command_function,
    command_module,
    default_of,
    options_class,
)
from levelground.cli import fault_of, initial_recipe, named_limits
from levelground.config import Recipe
from levelground.errors import ConfigError

LINE = 88
"""Longest signature that is shown on one line, and widest line of a docstring."""

_WRAPPER = textwrap.TextWrapper(LINE, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)
_WRAPPER.break_long_words = False


class WrappedSignature(inspect.Signature):
    """A signature that is printed with one parameter a line where it is long."""

    def __str__(self) -> str:
        """Return the signature as it is written in Python."""
        text = super().__str__()
        if len(text) <= LINE:
            return text
        lines = [str(parameter) for parameter in self.parameters.values()]
        kinds = [parameter.kind for parameter in self.parameters.values()]
        if inspect.Parameter.KEYWORD_ONLY in kinds:
            lines.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
        return "(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def make_function(command: str) -> Callable[..., Any]:
    """Return a command as a function.

    Args:
        command: Its name, such as ``study``.
    Returns:
        The function. Its signature and docstring come from the command's options; a wrong argument is a ConfigError.
    """
    arguments = command_arguments(command)

    def function(*args: object, **kwargs: object) -> object:
        given = _named(command, arguments, args, kwargs)
        options = make_options(command, given)
        _refuse_processes(given.get("processes"))
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is loaded: its advice is for programmers
        with named_limits():
            return command_function(command)(options)

    function.__name__ = function.__qualname__ = command
    function.__module__ = "levelground"
    function.__doc__ = docstring_of(command)
    function.__signature__ = signature_of(command)  # type: ignore[attr-defined]  # inspect.signature reads it
    return function


def parameters_of(command: str) -> list[Argument]:
    """List a command's arguments as its function takes them: those that need no name first."""
    return sorted(command_arguments(command), key=lambda argument: not argument.first)


def signature_of(command: str) -> inspect.Signature:
    """Return the signature of a command's function; the types are in the docstring and in the stub.

    Example:
        >>> print(signature_of("report"))
        (study, *, out=None, figures=('png',))
    """
    kinds = {True: inspect.Parameter.POSITIONAL_OR_KEYWORD, False: inspect.Parameter.KEYWORD_ONLY}
    return WrappedSignature(
        [
            inspect.Parameter(
                argument.name,
                kinds[argument.first],
                default=_shown_default(argument.default),
            )
            for argument in parameters_of(command)
        ]
    )


def _shown_default(default: object) -> object:
    """Return a default as a signature shows it: a path as the text that a caller would write."""
    if default is MISSING:
        return inspect.Parameter.empty
    return str(default) if isinstance(default, Path) else default


def docstring_of(command: str) -> str:
    """Return the docstring of a command's function: what it does, each argument's text, what it returns and raises."""
    summary = (inspect.getdoc(command_module(command)) or "").strip()
    own = inspect.getdoc(command_function(command)) or ""
    flags = {argument.flag: argument.name for argument in command_arguments(command)}
    lines = [summary, "", "Args:"]
    for argument in parameters_of(command):
        text = re.sub(r"--[a-z][a-z-]*", lambda flag: f"``{flags.get(flag[0], flag[0])}``", argument.text)
        kind = accepted_type(argument).replace(PATH_TYPE, "path")
        head = f"{argument.name} ({kind if len(kind) < LINE else kind.partition(' | ')[2]}):"
        unbroken = head.replace(" ", "\xa0")  # a reader of docstrings takes name and type from one line
        lines += [line.replace("\xa0", " ") for line in _WRAPPER.wrap(f"{unbroken} {text}")]
    return "\n".join([*lines, *own.splitlines()[own.splitlines().index("Returns:") :]])


def make_options(command: str, given: Mapping[str, object]) -> Any:
    """Make a command's options of its arguments by name.

    Args:
        command: The command.
        given: Values by argument; a path may be text, several values any sequence or a single one.
    Returns:
        An object of the command's options class.
    Raises:
        ConfigError: An argument is unknown, missing or has a wrong value; the message names it.
    Example:
        >>> make_options("compare", {"runs": "study", "delta": 0.02}).runs
        (PosixPath('study'),)
    """
    arguments = command_arguments(command)
    values = {one.place: _plain(given[one.name], one.hint) for one in arguments if one.name in given}
    for argument in arguments:
        if argument.default is MISSING and argument.name not in given:
            raise ConfigError(f"{argument.name}: not given. {_help(command)}")
    recipe = None
    if COMMANDS[command].takes_recipe:
        place = next(argument.place for argument in arguments if argument.name == "recipe")
        recipe = _chosen_recipe(values.get(place), given.get("resume"))
        values.pop(place, None)
    return _make(command, options_class(command), None, (), values, recipe)


def _chosen_recipe(named: object, resumed: object) -> Recipe | None:
    """Return the recipe whose fields the other arguments override."""
    if isinstance(named, Recipe) and resumed is None:
        return named
    name = named.name if isinstance(named, Recipe) else None if named is None else str(named)
    return initial_recipe(name, None if resumed is None else Path(os.fspath(resumed)))  # type: ignore[call-overload]


def _make(
    command: str,
    cls: type[Any],
    defaults: object,
    place: tuple[str, ...],
    values: Mapping[tuple[str, ...], object],
    recipe: Recipe | None,
) -> Any:
    """Make an options class of the values given and the defaults of the group that holds it."""
    hints, fields = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        default = default_of(field) if defaults is None else getattr(defaults, field.name)
        inner, own = hints[field.name], (*place, field.name)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            held = recipe if inner is Recipe and recipe is not None else None if default is MISSING else default
            fields[field.name] = _make(command, inner, held, own, values, recipe)
        elif own in values or default is not MISSING:
            fields[field.name] = values.get(own, default)
    try:
        return cls(**fields)
    except ValidationError as error:
        raise ConfigError(f"{fault_of(error, {}, command)}. {_help(command)}") from error


def _refuse_processes(processes: object) -> None:
    """Refuse several processes where Python is interactive: each would run the program again, and there is none."""
    if processes not in (None, 1) and (hasattr(sys, "ps1") or "ipykernel" in sys.modules):
        raise ConfigError(
            f"processes {processes}: a notebook or console has no program that the others could run. Use a script or "
            "the command line."
        )


def _named(
    command: str, arguments: Sequence[Argument], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Bring all arguments of a call under their names."""
    first, known = [one.name for one in arguments if one.first], [one.name for one in arguments]
    if len(args) > len(first):
        raise ConfigError(
            f"{command}: {len(args)} arguments without a name, expected at most {len(first)} ({', '.join(first)}). "
            "Give the others by name."
        )
    given = dict(zip(first, args, strict=False))
    for name in kwargs:
        if name in given:
            raise ConfigError(f"{name}: given twice. {_help(command)}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
            raise ConfigError(f"{name}: {command} has no such argument. {remedy}")
    return given | dict(kwargs)


def _plain(value: object, hint: Any) -> object:
    """Turn paths into text, arrays into numbers, and what is for several values into a tuple."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        return _as_tuple(os.fspath(value), hint)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in value)
    return _as_tuple(value, hint)


def _as_tuple(value: object, hint: Any) -> object:
    several = [bare_type(part) for part in get_args(bare_type(hint))] if value is not None else []
    return (value,) if any(get_origin(part) is tuple for part in (bare_type(hint), *several)) else value


def _help(command: str) -> str:
    return f"See help(levelground.{command})."
