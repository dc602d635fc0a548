"""Collect the messages of the code into ``locale/levelground.pot``, and bring every language up to date with it.

Sentences of errors and of findings about data are in ``errors.po`` of each language: they are written in English and
translated where they are shown. One that was changed is English until it is translated again, so ``--check`` compares
that file only with its ``errors.mo``.

``python docs/messages.py`` renews the template, merges it into each ``locale/LANGUAGE/LC_MESSAGES/levelground.po`` and
compiles that to ``levelground.mo``; ``--check`` fails where one of these files is stale. To add a language, make its
folder with an empty ``levelground.po``, run the script and translate what it wrote.
"""

import ast
import io
import itertools
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from levelground.metrics.named import METRICS
from levelground.reporting.cost_table import PROTOCOL_FIELDS
from levelground.reporting.learning_curves import AXES, CURVES
from levelground.wording import DOMAIN, ERRORS, FOLDER

PACKAGE = FOLDER.parent
TEMPLATE = FOLDER / f"{DOMAIN}.pot"
KEYWORDS = {
    "gettext": None,
    "say": None,
    "say_counted": (1, 2),
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
IN_TEMPLATES = KEYWORDS | {"_": None, "markup": None}
HEAD = f"# Messages of {DOMAIN}; made by docs/messages.py, not to be edited.\n#"


def template() -> Catalog:
    """Return all messages of the package and its templates, the words of its metrics and the titles of its charts."""
    found = Catalog(project=DOMAIN, header_comment=HEAD, charset="utf-8")
    in_code = extract_from_dir(PACKAGE, [("**.py", "python")], keywords=KEYWORDS, comment_tags=["Translators:"])
    in_templates = extract_from_dir(
        PACKAGE / "reporting" / "templates",
        [("**.html", "jinja2"), ("**.j2", "jinja2")],
        {"**.html": {"silent": "false"}, "**.j2": {"silent": "false"}},
        keywords=IN_TEMPLATES,
    )
    messages = [*in_code, *((f"reporting/templates/{path}", *rest) for path, *rest in in_templates)]
    for path, line, message, comments, context in sorted(messages, key=lambda item: (item[0], item[1])):
        plural = isinstance(message, tuple)
        text = message[0] if plural else message
        if text and context is None and not re.search(r"[^\W\d_]", text):
            continue  # the separator of a list that a line is made of
        if not text:
            raise SystemExit(f"{path}:{line}: the message is not a string literal")
        found.add(message, None, [(path, 0)], auto_comments=comments, context=context)
    for kind in METRICS.values():
        found.add(kind.words, None, [("metrics/named.py", 0)])
    for title in dict.fromkeys([*(curve.title for curve in CURVES), *AXES.values()]):
        found.add(title, None, [("reporting/learning_curves.py", 0)])
    for name in PROTOCOL_FIELDS.values():
        found.add(name, None, [("reporting/cost_table.py", 0)])
    return found


IN_VARIABLES = {
    "REMEDY",
    "_REMEDIES",
    "again",
    "damage",
    "how",
    "problem",
    "reason",
    "refusal",
    "remedy",
    "text",
    "told",
    "what",
    "which",
    "why",
}
"""Names of variables that hold a sentence, or a part of one, of an error."""

NOT_OURS = {"OSError", "TypeError", "KeyError", "AttributeError", "AssertionError"}
ELSEWHERE = ("comparison/", "reporting/", "synthetic/", "arguments.py", "api.py")
"""Where only the texts of raised errors are collected: other sentences there are messages."""


def errors() -> Catalog:
    """Return the sentences of errors and of findings about data, with what is filled in as ``%(name)s``."""
    found = Catalog(project=DOMAIN, header_comment=HEAD, charset="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for text, least in _texts(node, place):
                sentence = _sentence(text)
                words = re.findall(r"[A-Za-z]{2,}", re.sub(r"%\(\w+\)s", "", sentence or ""))
                if sentence and len(words) >= least and "<" not in sentence:
                    found.add(sentence, None, [(place, 0)])
    return found


def _texts(node: ast.AST, place: str) -> Iterator[tuple[ast.expr, int]]:
    """Yield the expressions of a node that may be sentences, each with the fewest words that it must have."""
    made = node.exc if isinstance(node, ast.Raise) else node
    name = getattr(made.func, "id", "") if isinstance(made, ast.Call) else ""
    raised = isinstance(node, ast.Raise) and name.endswith("Error") and name not in NOT_OURS
    if raised and isinstance(made, ast.Call) and made.args:
        yield made.args[0], 1
    if place.startswith(ELSEWHERE):
        return
    if isinstance(node, ast.Call) and name in ("Finding", "HTTPException"):
        yield from ((one, 3) for one in node.args[{"Finding": 2, "HTTPException": 1}[name] :][:1])
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if (isinstance(target, ast.Name) and target.id in IN_VARIABLES) or isinstance(node, ast.Return | ast.Yield):
        value = node.value
        if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
            yield from ((one, 3) for one in ast.walk(value) if isinstance(one, ast.Constant))
        yield from (
            (one, 3) for one in ([value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]) if one
        )


def _sentence(text: ast.expr) -> str | None:
    """Return a string or an f-string as a message; ``None`` for anything else."""
    if isinstance(text, ast.Constant):
        return text.value.replace("%", "%%") if isinstance(text.value, str) else None
    if not isinstance(text, ast.JoinedStr):
        return None
    names: dict[str, str] = {}
    parts = []
    for value in text.values:
        if isinstance(value, ast.FormattedValue):
            source = ast.unparse(value.value)
            if source not in names:
                name = re.sub(r"\W", "", _name_of(value.value)).strip("_") or "value"
                spare = (name if n == 1 else f"{name}{n}" for n in itertools.count(1))
                names[source] = next(one for one in spare if one not in names.values())
            parts.append(f"%({names[source]})s")
        else:
            parts.append(value.value.replace("%", "%%"))
    return "".join(parts)


def _name_of(value: ast.expr) -> str:
    """Return a name for an expression: that of what it is made of."""
    match value:
        case ast.Name():
            return value.id
        case ast.Attribute():
            return value.attr
        case ast.Call():
            inner = next(filter(None, map(_name_of, value.args)), "")
            own = value.func
            return inner or (_name_of(own.value) or own.attr if isinstance(own, ast.Attribute) else _name_of(own))
        case ast.Subscript():
            return _name_of(value.value)
        case ast.IfExp():
            return _name_of(value.body) or _name_of(value.orelse)
        case ast.BinOp():
            return _name_of(value.left) or _name_of(value.right)
        case ast.GeneratorExp():
            return _name_of(value.elt)
    return ""


def written(catalog: Catalog) -> str:
    """Return a catalogue as the text of its file, without dates and line numbers."""
    file = io.BytesIO()
    write_po(file, catalog, width=100, omit_header=False, include_lineno=False, sort_output=False)
    return re.sub(r'^"(POT-Creation|PO-Revision)-Date: .*"\n', "", file.getvalue().decode(), flags=re.MULTILINE)


def merged(path: Path, source: Catalog | None) -> Catalog:
    """Return a language's catalogue with the messages of the template, its own without one, and its translations."""
    with path.open("rb") as file:
        catalog = read_po(file, locale=path.parts[-3], domain=path.stem)
    if source is not None:
        catalog.update(source, no_fuzzy_matching=True)
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """Return a catalogue as the bytes that gettext reads."""
    file = io.BytesIO()
    catalog.creation_date = catalog.revision_date = datetime(2000, 1, 1, tzinfo=UTC)  # bytes that stay the same
    write_mo(file, catalog)
    return file.getvalue()


def made_files(*, check: bool = False) -> dict[Path, bytes]:
    """Return the content of every file that this script makes; of errors, to check, only what is compiled."""
    source, sentences = template(), None if check else errors()
    files = {TEMPLATE: written(source).encode()}
    for path in sorted(FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        catalog = merged(path, source)
        files |= {path: written(catalog).encode(), path.with_suffix(".mo"): compiled(catalog)}
    for path in sorted(FOLDER.glob(f"*/LC_MESSAGES/{ERRORS}.po")):
        catalog = merged(path, sentences)
        catalog.obsolete.clear()
        files |= {path: written(catalog).encode(), path.with_suffix(".mo"): compiled(catalog)}
    return files


def main() -> int:
    """Renew or check the catalogues."""
    files = made_files(check="--check" in sys.argv[1:])
    stale = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    if not stale:
        sys.stdout.write("messages: as in the code\n")
        return 0
    names = ", ".join(str(path.relative_to(FOLDER)) for path in stale)
    if "--check" in sys.argv[1:]:
        sys.stdout.write(f"messages: {names} stale; run python docs/messages.py\n")
        return 1
    for path in stale:
        path.write_bytes(files[path])
    sys.stdout.write(f"messages: renewed {names}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
