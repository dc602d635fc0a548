"""Collect the messages of the code into ``locale/levelground.pot``, and bring every language up to date with it.

``python docs/messages.py`` renews the template, merges it into each ``locale/LANGUAGE/LC_MESSAGES/levelground.po`` and
compiles that to ``levelground.mo``; ``--check`` fails where one of these files is stale. To add a language, make its
folder with an empty ``levelground.po``, run the script and translate what it wrote.
"""

import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from levelground.metrics.named import METRICS
from levelground.reporting.learning_curves import AXES, CURVES
from levelground.wording import DOMAIN, FOLDER

PACKAGE = FOLDER.parent
TEMPLATE = FOLDER / f"{DOMAIN}.pot"
KEYWORDS = {"gettext": None, "say": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2), "npgettext": ((1, "c"), 2, 3)}
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
    return found


def written(catalog: Catalog) -> str:
    """Return a catalogue as the text of its file, without dates and line numbers."""
    file = io.BytesIO()
    write_po(file, catalog, width=100, omit_header=False, include_lineno=False, sort_output=False)
    return re.sub(r'^"(POT-Creation|PO-Revision)-Date: .*"\n', "", file.getvalue().decode(), flags=re.MULTILINE)


def merged(path: Path, source: Catalog) -> Catalog:
    """Return a language's catalogue with the messages of the template and its own translations."""
    with path.open("rb") as file:
        catalog = read_po(file, locale=path.parts[-3], domain=DOMAIN)
    catalog.update(source, no_fuzzy_matching=True)
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """Return a catalogue as the bytes that gettext reads."""
    file = io.BytesIO()
    catalog.creation_date = catalog.revision_date = datetime(2000, 1, 1, tzinfo=UTC)  # bytes that stay the same
    write_mo(file, catalog)
    return file.getvalue()


def made_files() -> dict[Path, bytes]:
    """Return the content of every file that this script makes."""
    source = template()
    files = {TEMPLATE: written(source).encode()}
    for path in sorted(FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        catalog = merged(path, source)
        files |= {path: written(catalog).encode(), path.with_suffix(".mo"): compiled(catalog)}
    return files


def main() -> int:
    """Renew or check the catalogues."""
    files = made_files()
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
