"""Escape text for where it is shown: terminal, CSV, Markdown and LaTeX; HTML is escaped by Jinja and markupsafe.

Names of classes, scenes and files come from others. Whatever they hold, they are shown as text and do nothing.
"""

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what is not seen or acts on what is: controls, bidirectional marks, halves, line separators."""


def visible(text: str) -> str:
    r"""Escape what a terminal would obey, such as escape sequences and marks of writing direction; lines stay.

    Example:
        >>> print(visible("Лес \x1b[2J\u202e"))
        Лес \x1b[2J\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if character != "\n" and unicodedata.category(character) in _HIDDEN else character
        for character in text
    )


def csv_cell(value: object) -> object:
    r"""Keep a spreadsheet from taking a text for a formula; numbers, signed ones too, stay as they are.

    Example:
        >>> csv_cell("=1+2"), csv_cell("-0.5"), csv_cell("wood"), csv_cell(3)
        ("'=1+2", '-0.5', 'wood', 3)
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    try:
        float(text)
    except ValueError:
        return f"'{text}" if value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return text


def escape_markdown(text: str) -> str:
    r"""Escape text for Markdown: it is shown as it is, on one line, inside a table cell too.

    Example:
        >>> print(escape_markdown("a|b_c*<d>"))
        a\|b\_c\*&lt;d>
    """
    one_line = visible(re.sub(r"\s+", " ", text))
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", one_line).replace("<", "&lt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "δ": r"$\delta$",
    "|": "$|$",  # a dash in TeX's oldest encoding
    "[": "{[}",  # after a row's end these two would be taken for its options
    "*": "{*}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def escape_latex(text: str) -> str:
    r"""Escape text for LaTeX: it is set as it is.

    Example:
        >>> print(escape_latex("unet_s0 & 5 % −0.1"))
        unet\_s0 \& 5 \% $-$0.1
    """
    return "".join(_LATEX.get(character, character) for character in visible(re.sub(r"\s+", " ", text)))
