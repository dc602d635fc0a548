"""The console: lines, tables and bars for a person, on stderr, never taken for markup."""

import json
import math

import pytest

from levelground import console
from levelground.console import Forecast, duration, json_lines, part_of, progress_bar, say, say_table, track


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


def test_without_a_terminal_a_line_is_printed_each_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log files, batch queues and CI show counts, the note, the time left and the whole that the work is part of."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with part_of("run 2 of 6"), progress_bar("train unet-s0", 100) as bar:
        bar.start_at(40)
        for _ in range(6):
            now[0] += 25
            bar.advance(5, note="loss 0.512 · 3.1 images/s")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train unet-s0 (run 2 of 6): 55 of 100, loss 0.512 · 3.1 images/s, 4 min left",
        "train unet-s0 (run 2 of 6): 70 of 100, loss 0.512 · 3.1 images/s, 3 min left",
    ]


def test_the_time_left_of_all_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a bar goes by how long the whole bar takes; with its last step it is still said."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with part_of("run 2 of 4", lambda whole_s: 2 * max(300, whole_s)), progress_bar("train", 10) as bar:
        now[0] = 50
        bar.advance(5)
        bar.say_progress("validation mIoU 0.412, 3.1 images/s")
        now[0] = 100
        bar.advance(5)
        bar.say_progress("validation mIoU 0.500")
    assert capsys.readouterr().err.splitlines() == [
        "train (run 2 of 4): 5 of 10, validation mIoU 0.412, 3.1 images/s, 50 s left, 11 min left of all",
        "train (run 2 of 4): 10 of 10, validation mIoU 0.500, 10 min left of all",
    ]


def test_a_forecast_goes_by_the_pace_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the budget first: the whole takes four times as long to train, and no longer to evaluate."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    kinds = [(phase, arch) for arch in ("unet", "fpn") for phase in ("train", "evaluate")]
    plan = [(kind, share if kind[0] == "train" else 1.0) for share in (0.25, 1.0) for kind in kinds]
    forecast = Forecast([(("train", "done"), 0.0), *plan])
    forecast.next()  # done before: says nothing about pace
    assert forecast.left_s() is None
    assert forecast.after_s(10) == 10 + 40 + 40  # fpn goes by unet's pace, no evaluation is known yet
    for seconds in (10, 4, 20, 4):  # the quarter
        now[0] += seconds
        forecast.next()
    assert forecast.left_s() == 40 + 4 + 80 + 4
    assert forecast.after_s(60) == 4 + 80 + 4  # slower than thought, now
    now[0] += 30
    forecast.next()  # went on from a saved state: the whole of it would have taken 60 s
    for seconds in (5, 70, 4):
        assert forecast.left_s() is not None
        now[0] += seconds
        forecast.next()
    assert forecast.left_s() == 0


def test_json_lines_are_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line, table and progress is an object on stdout; stderr stays for people; only where it is asked for."""
    say("before")
    with json_lines():
        say("scene Лес\x07")
        say_table("Scores", ["run", "mIoU"], [["unet", ".474"]])
        with part_of("run 1 of 2", lambda whole_s: whole_s), progress_bar("train unet", 8) as bar:
            bar.advance(4, note="loss 0.5", figures={"loss": 0.5, "images_per_s": 3.0, "lr": math.nan})
            bar.say_progress("validation mIoU 0.412", figures={"val_miou": 0.412})
    say("after")
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert [event.pop("event") for event in events] == ["line", "table", "progress"]
    assert all(event.pop("time") > 1e9 for event in events)
    line, table, progress = events
    assert line == {"text": "scene Лес\x07"}
    assert table == {"title": "Scores", "header": ["run", "mIoU"], "rows": [["unet", ".474"]]}
    assert progress.pop("left_s") >= 0 and progress.pop("all_left_s") >= 0
    assert progress == {
        "task": "train unet", "part": "run 1 of 2", "done": 4, "total": 8,
        "loss": 0.5, "images_per_s": 3.0, "val_miou": 0.412,
    }  # fmt: skip
    assert "before" in captured.err and "validation mIoU 0.412" in captured.err and "after" in captured.err


def test_a_milestone_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A validation prints its figures; work of unknown length has no time left."""
    with progress_bar("train", None) as bar:
        bar.advance(7)
        bar.say_progress("validation mIoU 0.412")
    assert capsys.readouterr().err == "train: 7, validation mIoU 0.412\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (90, "90 s"), (91, "2 min"), (7100, "119 min"), (7200.5, "2 h 1 min")]
)
def test_durations_are_rounded_up(seconds: float, words: str) -> None:
    """Time left is never said to be none."""
    assert duration(seconds) == words
