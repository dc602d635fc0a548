"""Training history of a run: the lines of ``history.jsonl``, one training step or validation each."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, JsonValue, StrictInt, StrictStr
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from levelground.errors import RecordError
from levelground.files import append_text
from levelground.reading import check_seal, parse_json, read_bytes, seal
from levelground.records import (
    RECORD_CONFIG,
    OpenRecord,
    atomic_path,
    check_record,
    to_json,
)

HISTORY_FILE = "history.jsonl"
"""The history's name in a run folder."""


def _check_number(value: object) -> object:
    """Refuse what is not a number that can be drawn; not-a-number becomes ``None``."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1e300):
        raise PydanticCustomError("number", "is {shown}, expected a number", {"shown": repr(str(value)[:40])})
    return value


Number = Annotated[float | None, BeforeValidator(_check_number)]
"""A number that curves may show; not-a-number is written as ``null``."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class HistoryLine(OpenRecord):
    """Line of ``history.jsonl``: a training step, or a validation."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"step"})

    kind: StrictStr = ""
    """``step``, ``val`` (a validation), ``val_image`` (one image of a validation; adopted histories only) or ``course``
    (steps of a run under way that it takes again after a crash, at the same places)."""
    step: Annotated[StrictInt, BeforeValidator(_check_number)] = 0
    """Training steps done."""
    epoch: Number = None
    train_loss: Number = None
    """Loss of the step, or the mean since the validation before."""
    lr: Number = None
    """Highest learning rate of the step."""
    images_per_s: Number = None
    image: StrictInt | None = None
    """Number of the validation image."""
    val_loss: Number = None
    """Cross-entropy per counted pixel."""
    val_miou: Number = None
    val_pixel_accuracy: Number = None
    val_dice_loss: Number = None
    """Mean over scenes of the origin recipe's Dice loss."""
    val_own_loss: Number = None
    """Validation loss of an adopted history, by the other tool's definition."""
    val_image_iou: Number = None
    """Micro IoU per image, averaged over images, of an adopted history."""
    val_own_iou: Number = None
    """Validation IoU of an adopted history, by the other tool's definition."""
    time_s: Number = None
    """Time of the run so far, seconds."""
    train_s: Number = None
    """Time in training steps so far, seconds; under a budget of time."""
    progress: Number = None
    """Share of the training time behind the middle of the step; under a budget of time."""
    per_step: Number = None
    """Share of the training time of this step and of each one since the line before; under a budget of time."""


def history_line(content: Mapping[str, object]) -> HistoryLine:
    """Make a line of keys and values, those of metrics without a field of their own included."""
    return check_record(dict(content), HistoryLine, source="history line", remedy="Train anew.")


def append_history(folder: Path, lines: Iterable[HistoryLine]) -> None:
    """Append lines to ``history.jsonl``.

    Raises:
        DiskError: The disk is full; the history is what it was.
    """
    append_text(folder / HISTORY_FILE, "".join(map(_written, lines)))


def _written(line: HistoryLine) -> str:
    return seal(json.dumps(to_json(line), allow_nan=False), "line") + "\n"


def read_history(folder: str | PathLike[str]) -> list[HistoryLine]:
    """Read the lines of ``history.jsonl``; a last line that a kill cut short is left out.

    Raises:
        RecordError: A line before the last is not a JSON object or was changed after it was written, a field holds a
            value of a wrong type, or the file cannot be read.
    """
    path = Path(folder) / HISTORY_FILE
    if not path.exists():
        return []
    try:
        content = read_bytes(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    return list(_parsed(path, content.decode("utf-8", "replace").split("\n")))


def _parsed(path: Path, lines: list[str]) -> Iterator[HistoryLine]:
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        source = f"{path}: line {number}"
        content = _object(line)
        if content is not None:
            try:
                check_seal(line, "line")
            except ValueError as error:
                raise RecordError(f"{source} was changed after it was written ({error}). Remove the line.") from error
            content.pop("crc32", None)
            yield check_record(content, HistoryLine, source=source, remedy="Remove the line.")
        elif number < len(lines) or _object(line[:-1]) is not None:  # else a kill cut it short
            raise RecordError(f"{source} is not a JSON object ({line[:40]!r}). Remove the line.")


def _object(line: str) -> dict[str, JsonValue] | None:
    """Parse a line; ``None`` where it is not a JSON object."""
    try:
        content = parse_json(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def truncate_history(
    folder: Path, last_step: int, *, last_validation: int | None = None, keep_course: bool = False
) -> None:
    """Keep the history that a state knows, so that a resumed run writes the rest once.

    Args:
        folder: The run folder.
        last_step: The last step to keep.
        last_validation: The last step whose validation to keep; ``None`` keeps those up to ``last_step``.
        keep_course: Keep of the steps beyond where they lie in a budget of time, so that they are taken there again.
    """
    limit = last_step if last_validation is None else min(last_step, last_validation)
    written = read_history(folder)
    lines = [line for line in written if line.step <= (limit if line.kind == "val" else last_step)]
    if keep_course:
        lines += [
            HistoryLine(
                kind="course",
                step=line.step,
                progress=line.progress,
                per_step=line.per_step,
                time_s=line.time_s,
                train_s=line.train_s,
            )
            for line in written
            if line.step > last_step and line.per_step is not None
        ]
    else:
        lines = [line for line in lines if line.kind != "course"]
    with atomic_path(folder / HISTORY_FILE) as temporary:
        temporary.write_text("".join(map(_written, lines)), encoding="utf-8")
