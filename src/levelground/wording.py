"""Messages for people in a language: gettext catalogues, plural forms, and the marks inside numbers.

Message ids are the English sentences, so English needs no catalogue. A language is a folder
``locale/LANGUAGE/LC_MESSAGES`` with ``levelground.po``, which people translate, and ``levelground.mo``, which
``docs/messages.py`` compiles from it. A message is a whole sentence; names and numbers stand in it as ``%(name)s``::

    ngettext("%(runs)s was adopted.", "%(runs)s were adopted.", len(runs), runs=listing(runs))
"""

import gettext as catalogues
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from levelground.errors import ConfigError

DOMAIN = "levelground"
"""The name of the catalogues' files."""

FOLDER = Path(__file__).parent / "locale"
"""Where the catalogues are."""

SOURCE = "en"
"""The language of the message ids."""

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
    known = languages()
    if code not in known:
        raise ConfigError(f"language {code!r}: there are no messages in it. Expected one of {', '.join(known)}.")
    source = catalogues.NullTranslations()
    with catalogue(source if code == SOURCE else catalogues.translation(DOMAIN, FOLDER, [code])):
        yield


@contextmanager
def catalogue(translations: catalogues.NullTranslations) -> Iterator[None]:
    """Take all messages inside the ``with`` block from a catalogue that is at hand."""
    token = _current.set(translations)
    try:
        yield
    finally:
        _current.reset(token)


def _translations() -> catalogues.NullTranslations:
    return _current.get(None) or catalogues.NullTranslations()


def gettext(message: str, /, **values: str) -> str:
    """Return a message with its values filled in.

    Example:
        >>> gettext("%(share)s of the pixels, in a 95 %% interval", share="3 %")
        '3 % of the pixels, in a 95 % interval'
    """
    return _translations().gettext(message) % values


def pgettext(context: str, message: str, /, **values: str) -> str:
    """Return a message that other languages may write otherwise in another context.

    Example:
        >>> pgettext("list", "%(first)s or %(last)s", first="a", last="b")
        'a or b'
    """
    return _translations().pgettext(context, message) % values


def ngettext(one: str, many: str, n: int, /, **values: str) -> str:
    """Return the message whose form agrees with a number, which it may show as ``%(n)s``.

    Example:
        >>> ngettext("%(n)s run of %(arch)s", "%(n)s runs of %(arch)s", 2, arch="unet")
        '2 runs of unet'
    """
    return _translations().ngettext(one, many, n) % ({"n": whole(n)} | values)


def npgettext(context: str, one: str, many: str, n: int, /, **values: str) -> str:
    """Return the message whose form agrees with a number, in a context.

    Example:
        >>> npgettext("with", "%(n)s group", "%(n)s groups", 1)
        '1 group'
    """
    return _translations().npgettext(context, one, many, n) % ({"n": whole(n)} | values)


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
