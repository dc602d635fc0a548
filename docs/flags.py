"""Write each command's table of flags into its page, between the two markers, from the configuration itself.

``python docs/flags.py`` renews the pages; ``--check`` fails where a page is missing, stale or links to nothing.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from levelground.cli import COMMANDS

DOCS = Path(__file__).parent
BEGIN, END = "<!-- flags: made by docs/flags.py -->", "<!-- end of flags -->"


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class, inherited fields included."""
    docs = {}
    for owner in (owner for owner in reversed(cls.__mro__) if dataclasses.is_dataclass(owner)):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        for field, following in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(following, ast.Expr):
                value = following.value
                if isinstance(value, ast.Constant) and isinstance(field.target, ast.Name):
                    docs[field.target.id] = " ".join(str(value.value).split())
    return docs


def bare(hint: Any) -> Any:
    """A type without its annotations."""
    return bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def flag_name(field: dataclasses.Field[Any], hint: Any) -> str:
    """The flag of a field; a positional one in capitals."""
    metadata = getattr(hint, "__metadata__", ())
    renamed = next((m.name for m in metadata if hasattr(m, "name") and isinstance(m.name, str)), None)
    if tyro.conf.Positional[int].__metadata__[0] in metadata:
        return field.name.upper()
    return "--" + (renamed or field.name).replace("_", "-")


def help_of(hint: Any) -> str:
    """The text of a flag that is computed, such as the list of all metrics."""
    return next((m.help for m in getattr(hint, "__metadata__", ()) if getattr(m, "help", None)), "")


def default_text(field: dataclasses.Field[Any]) -> str:
    """A field's default for a table cell."""
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or "none"
    return (
        {None: "none", True: "on", False: "off"}.get(default, str(default))
        if not isinstance(default, int | float) or isinstance(default, bool)
        else f"{default:g}"
    )


def rows(cls: type) -> list[tuple[str, str, str]]:
    """Flag, default and meaning of every field, nested configurations included."""
    hints, docs, table = get_type_hints(cls, include_extras=True), field_docs(cls), []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(bare(hint)):
            table += rows(bare(hint))
        else:
            text = docs.get(field.name) or help_of(hint)
            table.append((flag_name(field, hint), default_text(field), text))
    return table


def table_of(command: str) -> str:
    """The Markdown table of a command's flags."""
    config = getattr(importlib.import_module(f"levelground.commands.{command}"), COMMANDS[command].config)
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    lines += [f"| `{flag}` | {default} | {text.replace('|', '/')} |" for flag, default, text in rows(config)]
    return "\n".join([BEGIN, *lines, END])


def renewed(command: str, page: str) -> str:
    """A command's page with its table of flags renewed."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    table = table_of(command)
    return (
        re.sub(pattern, lambda _: table, page, flags=re.DOTALL)
        if BEGIN in page
        else f"{page.rstrip()}\n\n## Flags\n\n{table}\n"
    )


def dead_links() -> list[str]:
    """Relative links of the documentation that lead nowhere."""
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    return [
        f"{page.relative_to(DOCS.parent)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]


def main() -> int:
    """Renew or check all pages."""
    check, faults = "--check" in sys.argv[1:], []
    for command in COMMANDS:
        path = DOCS / f"{command}.md"
        page = (
            path.read_text(encoding="utf-8")
            if path.exists()
            else f"# levelground {command}\n\n{COMMANDS[command].summary}\n"
        )
        config = getattr(importlib.import_module(f"levelground.commands.{command}"), COMMANDS[command].config)
        faults += [f"{command}: {flag} has no text under its field" for flag, _, text in rows(config) if not text]
        fresh = renewed(command, page)
        if fresh != page or not path.exists():
            faults.append(f"{path.name}: flags are stale; run python docs/flags.py")
            if not check:
                path.write_text(fresh, encoding="utf-8")
    links = dead_links()
    problems = (faults if check else []) + [f"dead link {link}" for link in links]
    sys.stdout.write("\n".join(problems or [f"docs: {len(COMMANDS)} commands, all links lead somewhere"]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
