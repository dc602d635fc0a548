"""Training history of the origin study (``*_trainhist.json``) as history lines.

Its keys: ``train_loss``, ``val_loss`` and ``val_meanIoU`` by epoch; ``tl``, ``vl`` and ``viou`` by step, the last two
by step of validation; ``metadata``. Its validation IoU is micro IoU per image, averaged, which is not our mIoU, and its
validation loss is not a cross-entropy: they keep names of their own, ``val_image_iou`` and ``val_own_loss``.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from levelground.errors import DataError
from levelground.runs import HistoryLine

BY_EPOCH = ("train_loss", "val_loss", "val_meanIoU")
BY_STEP = ("tl", "vl", "viou")


def read_origin_history(path: Path) -> tuple[list[HistoryLine], JsonValue]:
    """Read a history file of the origin study.

    Args:
        path: The JSON file.
    Returns:
        Lines for ``history.jsonl`` in the order of their steps, and the file's ``metadata``.
    Raises:
        DataError: The file is unreadable, lacks every key, or a value is not a list of numbers.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: unreadable history ({error}). Give the JSON file that training wrote.") from error
    keys = BY_EPOCH + BY_STEP
    if not isinstance(content, dict) or not any(key in content for key in keys):
        raise DataError(f"{path}: no training history. Expected a JSON object with keys such as {', '.join(keys)}.")
    values = {key: list(_numbers(content.get(key, []), path, key)) for key in keys}
    lines = [*_step_lines(values), *_image_lines(values), *_epoch_lines(values)]
    return sorted(lines, key=lambda line: line.step), content.get("metadata")


def _epochs(values: dict[str, list[float | None]]) -> int:
    return max(1, *(len(values[key]) for key in BY_EPOCH))


def _step_lines(values: dict[str, list[float | None]]) -> Iterator[HistoryLine]:
    """Yield training steps; they are spread evenly over the epochs."""
    epochs, losses = _epochs(values), values["tl"]
    for number, loss in enumerate(losses, start=1):
        yield HistoryLine(kind="step", step=number, epoch=number * epochs / len(losses), train_loss=loss)


def _image_lines(values: dict[str, list[float | None]]) -> Iterator[HistoryLine]:
    """Yield validation images, one a line, at the end of the epoch that they were scored after."""
    epochs, n = _epochs(values), max(len(values["vl"]), len(values["viou"]))
    for number in range(n):
        epoch = number * epochs // n + 1
        yield HistoryLine(
            kind="val_image",
            step=_step_at(values, epoch),
            epoch=epoch,
            image=number + 1,
            val_own_loss=_at(values["vl"], number),
            val_image_iou=_at(values["viou"], number),
        )


def _epoch_lines(values: dict[str, list[float | None]]) -> Iterator[HistoryLine]:
    """Yield epochs, as validations."""
    if any(values[key] for key in BY_EPOCH):
        for number in range(_epochs(values)):
            yield HistoryLine(
                kind="val",
                step=_step_at(values, number + 1),
                epoch=number + 1,
                train_loss=_at(values["train_loss"], number),
                val_own_loss=_at(values["val_loss"], number),
                val_image_iou=_at(values["val_meanIoU"], number),
            )


def _step_at(values: dict[str, list[float | None]], epoch: int) -> int:
    """Return the last training step of an epoch; the epoch itself where steps were not kept."""
    return round(epoch * len(values["tl"]) / _epochs(values)) or epoch


def _at(values: list[float | None], number: int) -> float | None:
    """Return the value at one place, where the file has one."""
    return values[number] if number < len(values) else None


def _numbers(value: object, path: Path, key: str) -> Iterator[float | None]:
    """Yield the numbers of a list, or of lists in it (steps kept epoch by epoch), in order."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item, path, key)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield None if value is None else float(value)
    else:
        raise DataError(
            f"{path}: {key} holds {value!r}, expected a list of numbers. Give the file as training wrote it."
        )
