"""Write ``src/levelground/__init__.pyi``, the types of the Python API, from the options of the commands.

``python docs/stub.py`` renews the stub; ``--check`` fails where it is stale. Type checkers and editors read it in place
of ``__init__.py``, whose names are loaded when they are used.
"""

import ast
import inspect
import subprocess
import sys
import textwrap
from dataclasses import MISSING
from pathlib import Path

import levelground
from levelground.api import (
    Argument,
    accepted_type,
    command_module,
    docstring_of,
    parameters_of,
)
from levelground.arguments import COMMANDS

STUB = Path(__file__).parent.parent / "src" / "levelground" / "__init__.pyi"

HEAD = '''"""The Python API with its types; made by docs/stub.py from the options of the commands, not to be edited."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal

'''

PRIVATE = "\ndef _drawn_by(name: str) -> Callable[..., Any]: ...\n"


def return_type(command: str) -> tuple[str, dict[str, str]]:
    """Return the type that a command's function gives, as source text, and the modules of the names in it."""
    tree = ast.parse(inspect.getsource(command_module(command)))
    written = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == command).returns
    text = written.value if isinstance(written, ast.Constant) else ast.unparse(written)
    places = {
        alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    return text, {name: places[name] for name in names if name in places}


def parameter(argument: Argument) -> str:
    """Return a parameter as source text."""
    text = f"{argument.name}: {accepted_type(argument)}"
    return text if argument.default is MISSING else f"{text} = {written_default(argument.default)}"


def written_default(value: object) -> str:
    """Return a default as source text; a path as text."""
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def function(command: str) -> str:
    """Return a command's function as source text of the stub."""
    arguments = parameters_of(command)
    lines = [parameter(argument) for argument in arguments]
    first = sum(argument.first for argument in arguments)
    lines[first:] = ["*", *lines[first:]] if lines[first:] else []
    doc = textwrap.indent(docstring_of(command), "    ").strip()
    body = "".join(f"    {line},\n" for line in lines)
    return f'def {command}(\n{body}) -> {return_type(command)[0]}:\n    r"""{doc}\n    """\n'


def stub_text() -> str:
    """Return the stub, formatted as the rest of the code."""
    places = {name: f"levelground.{place}" for name, place in levelground._PLACES.items()}
    lines = [f"from {place} import {name} as {name}" for name, place in places.items()]
    for command in COMMANDS:
        needed = return_type(command)[1]
        lines += [f"from {place} import {name}" for name, place in needed.items() if name not in places]
    lines += [f"from levelground import {name} as {name}" for name in levelground._MODULES]
    names = "".join(f"    {name!r},\n" for name in sorted(levelground.__all__))
    functions = "\n".join(function(command) for command in sorted(COMMANDS))
    text = (
        HEAD + "\n".join(sorted(set(lines))) + f"\n\n__version__: str\n__all__ = [\n{names}]\n\n" + functions + PRIVATE
    )
    for arguments in (["check", "--select=I", "--fix"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--quiet", f"--stdin-filename={STUB}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=STUB.parents[2],
        )
        text = done.stdout
    return text


def main() -> int:
    """Renew or check the stub."""
    fresh, stale = stub_text(), STUB.read_text(encoding="utf-8") if STUB.exists() else ""
    if fresh == stale:
        sys.stdout.write("stub: as the commands' options\n")
        return 0
    if "--check" in sys.argv[1:]:
        sys.stdout.write("stub: __init__.pyi is stale; run python docs/stub.py\n")
        return 1
    STUB.write_text(fresh, encoding="utf-8")
    sys.stdout.write("stub: renewed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
