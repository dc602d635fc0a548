"""Messages for people in a language: gettext catalogues, plural forms, and the marks inside numbers.

Message ids are the English sentences, so English needs no catalogue. A language is a folder
``locale/LANGUAGE/LC_MESSAGES`` with ``levelground.po``, which people translate, and ``levelground.mo``, which
``docs/messages.py`` compiles from it. A message is a whole sentence; names and numbers stand in it as ``%(name)s``::

    ngettext("%(runs)s was adopted.", "%(runs)s were adopted.", len(runs), runs=listing(runs))

Errors are raised with finished English texts. Where one is shown, :func:`translated` finds the sentence that it was
made from in a catalogue of its own, ``errors.po``; one that is not there, or was changed since, is shown in English.

The language of a process is :data:`VARIABLE`, which the flag ``--lang`` sets for a command and the processes that it
starts. Files for programs (JSON, CSV) are written in English whatever the language.
"""

import ast
import functools
import gettext as catalogues
import inspect
import itertools
import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from levelground.errors import ConfigError

DOMAIN = "levelground"
"""The name of the catalogues' files."""

ERRORS = "errors"
"""The name of the catalogue of texts that are written in English and translated where they are shown."""

FOLDER = Path(__file__).parent / "locale"
"""Where the catalogues are."""

SOURCE = "en"
"""The language of the message ids."""

VARIABLE = "LEVELGROUND_LANG"
"""Environment variable with the language of a process; English without it."""

_current: ContextVar[catalogues.NullTranslations] = ContextVar("translations")


def languages() -> tuple[str, ...]:
    """Return the languages that messages can be written in, English first."""
    found = FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return (SOURCE, *sorted(path.parts[-3] for path in found))


@contextmanager
def language(code: str) -> Iterator[None]:
    """Write all messages inside the ``with`` block in a language.

    Args:
        code: The language, one of :func:`languages`.
    Raises:
        ConfigError: There is no catalogue of it.
    """
    with catalogue(_translations_of(code, FOLDER)):
        yield


def known(code: str) -> str:
    """Return a language there are messages in.

    Raises:
        ConfigError: There are none.
    """
    if code not in languages():
        raise ConfigError(f"language {code!r}: there are no messages in it. Expected one of {', '.join(languages())}.")
    return code


@contextmanager
def process_language(asked: str | None) -> Iterator[None]:
    """Write the messages of this process, its threads and child processes in a language inside the ``with`` block.

    Args:
        asked: The language; ``None`` takes that of :data:`VARIABLE`, else that of the locale.
    Raises:
        ConfigError: There is no catalogue of it.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = known(asked or before or locale_language())
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def locale_language() -> str:
    """Return the language of the locale's messages, English where there are none in it."""
    values = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    code = next((value for value in values if value), SOURCE)[:2].lower()
    return code if code in languages() else SOURCE


def current_language() -> str:
    """Return the code of the language that messages are written in here."""
    return _translations().info().get("language", SOURCE)


@contextmanager
def catalogue(translations: catalogues.NullTranslations) -> Iterator[None]:
    """Take all messages inside the ``with`` block from a catalogue that is at hand."""
    token = _current.set(translations)
    try:
        yield
    finally:
        _current.reset(token)


def _translations() -> catalogues.NullTranslations:
    return _current.get(None) or _translations_of(os.environ.get(VARIABLE) or SOURCE, FOLDER)


@functools.cache
def _translations_of(code: str, folder: Path) -> catalogues.NullTranslations:
    """Return the catalogue of a language; the folder is looked through once, not at every message."""
    return catalogues.NullTranslations() if known(code) == SOURCE else catalogues.translation(DOMAIN, folder, [code])


def gettext(message: str, /, **values: object) -> str:
    """Return a message with its values filled in.

    Example:
        >>> gettext("%(share)s of the pixels, in a 95 %% interval", share="3 %")
        '3 % of the pixels, in a 95 % interval'
    """
    return _translations().gettext(message) % values


def gettext_plain(message: str, /) -> str:
    """Return a message that has no values and in which a per cent sign stands for itself."""
    return _translations().gettext(message) if message else ""


def pgettext(context: str, message: str, /, **values: object) -> str:
    """Return a message that other languages may write otherwise in another context.

    Example:
        >>> pgettext("list", "%(first)s or %(last)s", first="a", last="b")
        'a or b'
    """
    return _translations().pgettext(context, message) % values


def ngettext(one: str, many: str, n: int, /, **values: object) -> str:
    """Return the message whose form agrees with a number, which it may show as ``%(n)s``.

    Example:
        >>> ngettext("%(n)s run of %(arch)s", "%(n)s runs of %(arch)s", 2, arch="unet")
        '2 runs of unet'
    """
    return _translations().ngettext(one, many, n) % ({"n": whole(n)} | values)


def npgettext(context: str, one: str, many: str, n: int, /, **values: object) -> str:
    """Return the message whose form agrees with a number, in a context.

    Example:
        >>> npgettext("with", "%(n)s group", "%(n)s groups", 1)
        '1 group'
    """
    return _translations().npgettext(context, one, many, n) % ({"n": whole(n)} | values)


def translated(text: str) -> str:
    """Return a finished English text, such as that of an error, in the current language.

    What stands for a name in the text's sentence is translated likewise. A text of no known sentence stays English.
    """
    code = current_language()
    for parts, pattern, message in _sentences(code, FOLDER) if code != SOURCE else ():
        if all(part in text for part in parts) and (found := pattern.fullmatch(text)):
            return message % {name: translated(value) for name, value in found.groupdict().items()}
    return text


@functools.cache
def _sentences(code: str, folder: Path) -> tuple[tuple[list[str], re.Pattern[str], str], ...]:
    """Return the sentences of a language's errors: their fixed parts, a pattern, the translation; longest first."""
    found = catalogues.translation(ERRORS, folder, [code], fallback=True)
    messages: dict[str, str] = getattr(found, "_catalog", {})  # gettext itself looks up whole messages only
    sentences = []
    for english, message in messages.items():
        *pieces, last = re.split(r"%\((\w+)\)s", english)
        parts = [part.replace("%%", "%") for part in (*pieces[::2], last)]
        names, pattern = pieces[1::2], re.escape(parts[0])
        for number, name in enumerate(names):
            again = name in names[:number]
            pattern += (f"(?P={name})" if again else f"(?P<{name}>.*?)") + re.escape(parts[number + 1])
        if english and re.search(r"[a-z]{3}", "".join(parts)):
            sentences.append((parts, re.compile(pattern, re.DOTALL), message))
    return tuple(sorted(sentences, key=lambda one: -sum(map(len, one[0]))))


def texts_under_fields(cls: type) -> dict[str, str]:
    """Return the text that stands under each field in the source of a class, without inherited fields."""
    texts = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    for field, following in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(following, ast.Expr):
            value = following.value.value if isinstance(following.value, ast.Constant) else None
            if isinstance(value, str):
                texts[field.target.id] = inspect.cleandoc(value)
    return texts


def whole(n: int) -> str:
    """Return a whole number with its thousands set apart.

    Example:
        >>> whole(12345), whole(7)
        ('12 345', '7')
    """
    return f"{n:,}".replace(",", pgettext("mark between thousands", " "))


def decimal(number: str) -> str:
    """Return a number's digits with the language's decimal mark.

    Example:
        >>> decimal("0.474")
        '0.474'
    """
    return number.replace(".", pgettext("decimal mark", "."))
