"""Training histories of other tools, read whole or refused: the origin study's, and logs by epoch or step."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from levelground.adoption.adopted_runs import UNNAMED, TrainingName, adopted_card, clean_name, find_adopted
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import DataError, first_line
from levelground.history import HistoryLine, append_history, history_line, truncate_history
from levelground.reading import parse_csv, parse_json, read_text
from levelground.records import sha256_json
from levelground.runs import RUN_FILE, AdoptionRecord, Run, read_run, runs_folder, write_card

BY_EPOCH = ("train_loss", "val_loss", "val_meanIoU")
BY_STEP = ("tl", "vl", "viou")

Row = Mapping[str, object]
"""What a log says of one step or epoch, by column."""

_VAL = "(val|valid|validation|eval)"
_OF_IOU = r"((one_hot_)?mean|m|dataset|per_image)?[_ ]?(iou|jaccard)([_ ](score|index|epoch))?"
_BY_KERAS = r"(binary_|one_hot_)?(mean_)?io_u(_\d+)?"
_OF_STAGE = r"loss([_/]?(step|epoch))?"
_NAMES = {
    "epoch": "epoch",
    "step": "step|global_step|iter|iteration",
    "val_own_loss": rf"{_VAL}[/_.: ]?{_OF_STAGE}|loss[/_]{_VAL}",
    "val_own_loss?": rf"test[/_.: ]?{_OF_STAGE}",
    "train_loss": rf"(train|training|loss)[/_.: ]?{_OF_STAGE}|loss|(loss|train)[/_]train(_loss)?",
    "val_own_iou": rf"({_VAL}|metrics)[/_.: ]({_OF_IOU}|{_BY_KERAS})|{_OF_IOU}[/_]{_VAL}",
    "val_own_iou?": _OF_IOU,
    "lr": r"lr|learning_rate|lr/pg0|lr-\w+",
}
"""What columns are called here, and their names; one with a question mark counts only where the log has none without.
IoU that is not said to be a validation's is training's in Keras' histories, and always in Keras' spelling ``io_u``."""
_PARTS = {"train": re.compile(r"train/\w+_loss"), "val": re.compile(r"val/\w+_loss")}


def read_history_file(path: Path) -> tuple[list[HistoryLine], JsonValue]:
    """Read a training history that another tool wrote.

    Args:
        path: The origin study's JSON, Keras' history as JSON or CSV, Lightning's ``metrics.csv``, ultralytics'
            ``results.csv``, or any CSV, JSON or JSON lines with such columns.
    Returns:
        Lines for ``history.jsonl`` in the order of their steps, and what the file says of itself.
    Raises:
        DataError: The file is unreadable, a value is not a number, or nothing in it is a loss or IoU.
    """
    content = _content(path)
    if isinstance(content, dict) and (
        any(key in content for key in (*BY_STEP, "val_meanIoU")) or content.keys() <= {*BY_EPOCH, "metadata"}
    ):
        return read_origin_history(path)
    rows = list(_rows(content, path))
    lines = sorted(_lines(rows, path), key=lambda line: line.step)
    if not lines:
        seen = ", ".join(dict.fromkeys(str(key) for row in rows for key in row)) or "nothing"
        raise DataError(
            f"{path}: no training history: its columns are {seen[:200]}. Expected epoch or step with train_loss, "
            "val_loss or val_iou, as CSV, JSON or JSON lines."
        )
    return lines, None


def attach_history(run: Run, lines: Sequence[HistoryLine], metadata: JsonValue) -> Run:
    """Put a history in the place of a run's, and what it says of itself onto the card."""
    origin = run.card.adopted_from or AdoptionRecord()
    run = write_card(
        run.folder, dataclasses.replace(run.card, adopted_from=dataclasses.replace(origin, metadata=metadata))
    )
    truncate_history(run.folder, 0)
    append_history(run.folder, lines)
    return run


def adopt_history(path: Path, dataset: Dataset, training: TrainingName = UNNAMED) -> Run:
    """Adopt a training history alone, as a run with curves; under the same name weights or predictions join.

    Args:
        path: The history.
        dataset: The study that gets the run.
        training: Its names, and its seed.
    Returns:
        The run.
    Raises:
        DataError: The file is not a training history.
        ConfigError: The name is taken by another run.
    """
    lines, metadata = read_history_file(path)
    label = training.folder_name(clean_name(path.stem))
    identity = sha256_json(["predictions", label])  # predictions that join it later are the same run's
    place = runs_folder(dataset.folder) / label
    old = read_run(place) if (place / RUN_FILE).exists() else None
    if old is not None and old.adopted:  # weights or predictions, which it joins
        named = training if training.seed is not None else TrainingName(None, old.card.known_as, old.card.seed)
        card = dataclasses.replace(old.card, known_as=named.known_as, seed=named.seed)
        return attach_history(Run(place, card), lines, metadata)
    folder, _ = find_adopted(dataset, label, identity)
    return attach_history(Run(folder, adopted_card(dataset, label, identity, training)), lines, metadata)


def _content(path: Path) -> object:
    """Read the file as JSON, as JSON lines, or as CSV."""
    if "tfevents" in path.name:
        raise DataError(f"{path}: is TensorBoard's event file. Download its scalars as CSV or JSON, and give that.")
    try:
        text = read_text(path, "utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: unreadable history ({first_line(error)}). Give the log that training wrote."
        ) from error
    if path.suffix.lower() not in (".csv", ".tsv") and text.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(text)
        except ValueError:
            return [_json_line(line, number, path) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    try:
        table = parse_csv(text, "\t" if "\t" in text.split("\n", 1)[0] else ",")
    except ValueError as error:
        raise DataError(f"{path}: unreadable history ({error}). Give the log that training wrote.") from error
    header = [word.strip() for word in table[0]] if table else []
    if len(header) < 2:
        raise DataError(
            f"{path}: no training history. Expected CSV with columns such as epoch, train_loss, val_loss, or JSON."
        )
    for number, row in enumerate(table[1:], start=2):
        if row and len(row) != len(header):
            raise DataError(f"{path}: line {number} has {len(row)} columns, expected {len(header)}. Mend the file.")
    return [dict(zip(header, map(str.strip, row), strict=True)) for row in table[1:] if row]


def _json_line(line: str, number: int, path: Path) -> object:
    """Read one of several JSON objects."""
    try:
        return parse_json(line)
    except ValueError as error:
        raise DataError(
            f"{path}: line {number} is not JSON ({first_line(error)}). Give the log as it was written."
        ) from error


def _rows(content: object, path: Path) -> Iterator[Row]:
    """Yield what a log says of each epoch or step: lists by name become rows, lists of objects are rows."""
    if isinstance(content, dict) and isinstance(content.get("log_history"), list):
        # The Hugging Face trainer's state; its last entry repeats the loss as a mean of the whole training.
        content = [row for row in content["log_history"] if not isinstance(row, dict) or "train_runtime" not in row]
    if isinstance(content, dict) and isinstance(content.get("history"), dict):
        content = content["history"]
    if isinstance(content, dict):
        columns = {key: value for key, value in content.items() if isinstance(value, list)}
        lengths = {key: len(value) for key, value in columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {n}" for key, n in lengths.items())
            raise DataError(
                f"{path}: lists of unlike length ({shown}), expected one value an epoch. Give the whole log."
            )
        for number in range(max(lengths.values(), default=0)):
            yield {"epoch": number + 1} | {key: value[number] for key, value in columns.items()}
    elif isinstance(content, list):
        for number, row in enumerate(content, start=1):
            if not isinstance(row, dict):
                raise DataError(f"{path}: entry {number} is {str(row)[:40]!r}, expected an object. Give the whole log.")
            yield row


def _lines(rows: Sequence[Row], path: Path) -> Iterator[HistoryLine]:
    """Yield the lines of a log: training steps, and validations, which rows of one step make together."""
    names = _column_names(dict.fromkeys(str(column) for row in rows for column in row))
    read = [_figures(row, names, path, number) for number, row in enumerate(rows, start=1)]
    epochs = [row["epoch"] for row in read if "epoch" in row]
    steps = [row["step"] for row in read if "step" in row]
    first_epoch = int(0 in epochs and all(epoch.is_integer() for epoch in epochs))  # counted from 0
    first_step = int(0 in steps)
    scale = 0.01 if any(row.get("val_own_iou", 0) > 1 for row in read) else 1.0
    if scale < 1:
        say("%(name)s: its IoU is in per cent.", name=path.name)
    validations: dict[int, dict[str, float]] = defaultdict(dict)
    trained: dict[int, dict[str, float]] = defaultdict(dict)
    for number, row in enumerate(read, start=1):
        if "epoch" in row:
            row["epoch"] += first_epoch
        step = int(row["step"]) + first_step if "step" in row else math.ceil(row.get("epoch", number))
        of_epoch = row.pop("epoch_loss", None)
        if of_epoch is not None:
            row["train_loss"] = of_epoch
        known = row.keys() & {"train_loss", "val_own_loss", "val_own_iou"}
        if known == {"train_loss"} and "step" in row and of_epoch is None:
            _refuse_twice(trained[step], row, f"step {step}", path)
            trained[step] |= row
            yield history_line({"kind": "step", "step": step} | {key: row[key] for key in row.keys() - {"step"}})
        elif known:
            _refuse_twice(validations[step], row, f"step {step}" if "step" in row else f"epoch {step}", path)
            validations[step] |= row
    for step, row in sorted(validations.items()):
        figures = {key: value for key, value in row.items() if key not in ("step", "lr")}
        if "val_own_iou" in figures:
            figures["val_own_iou"] *= scale
        yield history_line({"kind": "val", "step": step} | figures)


def _refuse_twice(before: Mapping[str, float], row: Mapping[str, float], place: str, path: Path) -> None:
    """Refuse a figure that a step or epoch has two values of: a log of two trainings, or of parts without a step.

    Raises:
        DataError: There is one.
    """
    for name in ("train_loss", "val_own_loss", "val_own_iou"):
        if name in before and name in row and before[name] != row[name]:
            raise DataError(
                f"{path}: {place} has two values of {name}, {before[name]:g} and {row[name]:g}. Give the log of one "
                "training, with a column step that counts through where an epoch has several rows."
            )


def _figures(row: Row, names: Mapping[str, str], path: Path, number: int) -> dict[str, float]:
    """Return the figures of a row by their names here; losses in parts, as ultralytics', are added."""
    found: dict[str, float] = {}
    parts: dict[str, list[float]] = defaultdict(list)
    for column, value in row.items():
        key = str(column).strip().lower()
        name = names.get(str(column))
        part = next((part for part, pattern in _PARTS.items() if pattern.fullmatch(key)), None)
        if name is None and part is None:
            continue
        figure = _figure(value, f"{path}: {column} of entry {number}")
        if figure is None:
            continue
        if part is not None:
            parts[part].append(figure)
        elif name is not None:
            found.setdefault(name, figure)
    for part, name in (("train", "train_loss"), ("val", "val_own_loss")):
        if parts[part]:
            found.setdefault(name, sum(parts[part]))
    return found


def _column_names(columns: Iterable[str]) -> dict[str, str]:
    """Return what columns of a log are called here, without those that are not drawn."""
    found = {}
    for column in columns:
        key = column.strip().lower()
        name = next((name for name, pattern in _NAMES.items() if re.fullmatch(pattern, key)), None)
        if name is not None:
            found[column] = "epoch_loss" if name == "train_loss" and key.endswith("epoch") else name
    certain = set(found.values())
    return {
        column: name.removesuffix("?")
        for column, name in found.items()
        if not name.endswith("?") or name.removesuffix("?") not in certain
    }


def _figure(value: object, where: str) -> float | None:
    """Return a finite number; ``None`` for an empty cell and for what is not finite."""
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise DataError(f"{where} is {str(value)[:40]!r}, expected a number. Give the log as training wrote it.")
    return number if math.isfinite(number) else None


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
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
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
        yield None if value is None or not math.isfinite(value) else float(value)
    else:
        raise DataError(
            f"{path}: {key} holds {value!r}, expected a list of numbers. Give the file as training wrote it."
        )
