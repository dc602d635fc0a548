"""The console: lines, tables and bars for a person, on stderr, never taken for markup."""

import pytest

from levelground.console import progress_bar, say, say_table, track


def test_say_writes_one_line_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Long lines are not broken, brackets are no markup, stdout stays free."""
    text = "[bold]scene [1/2][/bold] " + "wide " * 60 + "Лес"
    say(text)
    captured = capsys.readouterr()
    assert captured.err == text + "\n"
    assert captured.out == ""


def test_say_table_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """Title, header and cells stand there as given."""
    say_table("Scores [mIoU]", ["run", "mIoU"], [["unet [s0]", ".474"], ["fpn", ".478"]])
    shown = capsys.readouterr().err
    for text in ("Scores [mIoU]", "run", "mIoU", "unet [s0]", ".474", "fpn", ".478"):
        assert text in shown


def test_progress_bar_leaves_no_line_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar goes when its work is done; notes and titles with brackets harm nothing."""
    with progress_bar("train [unet]", 3) as bar:
        bar.advance()
        bar.advance(2, note="loss 0.5 [x] · 3 images/s")
    assert capsys.readouterr().out == ""


def test_progress_bar_without_a_total() -> None:
    """An unknown number of units is fine."""
    with progress_bar("look", None) as bar:
        bar.advance(5)


def test_track_yields_the_items_in_order() -> None:
    """Items pass through unchanged, one by one."""
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]


def test_track_passes_an_error_on() -> None:
    """An error inside the loop reaches the caller."""
    with pytest.raises(ValueError, match="b"):
        for item in track("abc", "letters", 3):
            if item == "b":
                raise ValueError(item)
