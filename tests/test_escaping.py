"""Text from others on its way out: terminal, CSV, Markdown, LaTeX."""

import pytest

from levelground.console import say, say_table
from levelground.escaping import csv_cell, escape_latex, escape_markdown, visible

HARMFUL = "\x1b[2J\x1b]0;PWN\x07\x9b31m\u202e\u2066\u200b\x00\r\x85\u2028"


def test_no_control_character_passes() -> None:
    """Escape sequences, C1 controls, bidirectional marks, line separators; letters of any script do."""
    for made in (visible(HARMFUL), csv_cell(HARMFUL), escape_markdown(HARMFUL), escape_latex(HARMFUL)):
        assert isinstance(made, str)
        assert not set(made) & set(HARMFUL) - set("[2J]0;PWN31m")
    assert visible("Лес – 森林, – −0.5 × 3\u00a0m\nline") == "Лес – 森林, – −0.5 × 3\u00a0m\nline"


def test_the_console_shows_what_it_is_given_and_obeys_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines, titles, heads and cells."""
    say(f"run {HARMFUL}")
    say_table(HARMFUL, (HARMFUL, "b"), ((HARMFUL, "[red]x"),))
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert not set(shown) & {"\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\x00", "\x85", "\u2028"}
    assert "[red]x" in shown


@pytest.mark.parametrize("text", ["=1+2", "+cmd", "-x", "@SUM(A1)", "\t=1", " =1", "=cmd|' /C calc'!A0"])
def test_a_cell_is_no_formula(text: str) -> None:
    """A spreadsheet takes it for text."""
    assert str(csv_cell(text)).startswith("'")


@pytest.mark.parametrize("value", ["-0.5", "+1e-3", "1", "nan", "-inf", 0.5, None, "a=b", "−0.1"])
def test_numbers_and_words_are_written_as_they_are(value: object) -> None:
    """Signed ones too."""
    assert csv_cell(value) == value
