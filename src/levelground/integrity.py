"""Integrity of what levelground wrote: every file below a folder against its checksum, with what to redo.

Records end with a hash of their text, lines of a log with theirs, cached arrays and fingerprints have a checksum behind
them, states of training one before. A run's card names the hash of its counts and weights. What has no such place, as
masks, tables, pictures and exports, is named in a ``hashes.json``. Files that an earlier version or another program
wrote may have none; they are listed, not refused.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from levelground.comparison.record import FILE as COMPARISON_FILE
from levelground.comparison.record import read_comparison
from levelground.comparison.tables import LATEX_FOLDER
from levelground.console import progress_bar
from levelground.datasets.dataset import DATASET_FILE, Dataset, read_dataset
from levelground.datasets.fingerprints import fingerprint_path
from levelground.errors import LevelgroundError, RecordError, first_line
from levelground.history import HISTORY_FILE, read_history
from levelground.imagery.cache import Cache, cache_fault
from levelground.models.spec import model_file
from levelground.prediction.resume import BLOCK_FILES, STATE_FILE, UNFINISHED_FILE, block_file_fault
from levelground.reading import check_seal, parse_json, read_bytes, read_text, verify_signed
from levelground.records import HASHES_FILE, read_hashes, read_json, sha256_array, sha256_file
from levelground.runs import EVALUATION_LOG, RUN_FILE, STUDY_FILE, read_run, read_study
from levelground.wording import gettext

BENCHMARK_FILE = "benchmark.json"

NO_CHECKSUM = ""
"""The fault of a file that cannot be verified, in place of a text."""


@dataclass(frozen=True)
class CheckedFile:
    """A file that was checked.

    Attributes:
        path: The file.
        fault: What is wrong with it; ``None`` where it is as it was written, an empty text where it has no checksum.
        redo: What to do about it, with the command.
    """

    path: Path
    fault: str | None
    redo: str = ""


@dataclass(frozen=True, repr=False)
class CheckedFolder:
    """All files below a folder, checked.

    Attributes:
        folder: The folder.
        files: The files, and those that are missing, by path.
    """

    folder: Path
    files: tuple[CheckedFile, ...]

    @property
    def damaged(self) -> tuple[CheckedFile, ...]:
        """The files that are damaged, exchanged or missing."""
        return tuple(file for file in self.files if file.fault)

    @property
    def unhashed(self) -> tuple[CheckedFile, ...]:
        """The files that have no checksum: of version 0.1.0, or of other programs."""
        return tuple(file for file in self.files if file.fault == NO_CHECKSUM)

    @property
    def exit_status(self) -> int:
        """The exit status of ``levelground check``: 2 where a file is damaged or missing."""
        return 2 if self.damaged else 0

    def __repr__(self) -> str:
        """Return folder and numbers on one line."""
        numbers = f"{len(self.files)} files, {len(self.damaged)} damaged, {len(self.unhashed)} without a checksum"
        return f"<CheckedFolder {str(self.folder)!r}: {numbers}>"


def check_folder(folder: Path) -> CheckedFolder:
    """Verify every file below a folder, and the decoded scenes of the data sets in it; nothing is changed.

    Args:
        folder: A study, or any folder that levelground wrote.
    Raises:
        RecordError: There is no such folder, or nothing in it is levelground's.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder. Give the folder of a study.")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_passing(path))
    named = dict(_named_hashes(found))
    scenes = {path: dataset for dataset in _datasets(found) for path in _cached_files(dataset)}
    labels = {path: digest for dataset in dict.fromkeys(scenes.values()) for path, digest in _labels(dataset)}
    runs = (run for run in folder.rglob("runs/[!.]*") if run.is_dir())
    paths = sorted({*found, *named, *scenes, *(run / RUN_FILE for run in runs)})
    if not any(_checker(path) or path in named for path in paths):
        raise RecordError(f"{folder}: holds nothing that levelground wrote. Give the folder of a study.")
    checked = []
    with progress_bar(gettext("check %(folder)s", folder=folder), len(paths)) as bar:
        for path in paths:
            fault = _fault(path, named.get(path), labels.get(path))
            redo = _redo(path, scenes.get(path)) if fault else ""
            checked.append(CheckedFile(path, fault, redo))
            bar.advance()
    return CheckedFolder(folder, tuple(checked))


def _is_passing(path: Path) -> bool:
    """Tell whether a file says nothing that lasts: a lock, or one that a killed process left half-written."""
    return re.fullmatch(r"\.(.*\.)?lock(\.pid)?|\..*\.part.*", path.name) is not None


def _datasets(found: list[Path]) -> Iterator[Dataset]:
    for path in found:
        if path.name == DATASET_FILE:
            with suppress(LevelgroundError):  # its own line says what is wrong
                yield read_dataset(path)


def _named_hashes(found: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the files that cards and records of hashes name, with the hash that they should have."""
    for path in found:
        with suppress(LevelgroundError):
            if path.name == HASHES_FILE or path.name.endswith(f".{HASHES_FILE}"):
                yield from ((path.parent / name, known) for name, known in read_hashes(path).items())
            elif path.name == RUN_FILE:
                run = read_run(path.parent)
                yield from ((run.counts_path(split), one.counts_sha256) for split, one in run.card.evaluations.items())
                if run.card.weights_sha256 is not None and not run.card.folds:
                    yield model_file(run), run.card.weights_sha256


def _cached_files(dataset: Dataset) -> Iterator[Path]:
    """Yield the files of the cache that the scenes of a data set need."""
    cache = Cache(dataset.cache)
    for scene in dataset.scenes:
        yield cache.path(scene.image_key)
        yield cache.path(scene.labels_key)
        yield cache.path(scene.labels_key).with_suffix(".json")
        fingerprint = fingerprint_path(dataset.cache, scene.image_key, scene.labels_key)
        if fingerprint.exists():  # only prepare reads it, and makes it where it is missing
            yield fingerprint


def _labels(dataset: Dataset) -> Iterator[tuple[Path, str]]:
    for scene in dataset.scenes:
        yield Cache(dataset.cache).path(scene.labels_key), scene.labels_sha256


def _fault(path: Path, known: str | None, labels_sha256: str | None) -> str | None:
    """Say what is wrong with a file, by its own checksum and by the hash that another file has of it."""
    checker = _checker(path)
    try:
        if not path.is_file():
            return "is missing"
        if known is not None and sha256_file(path) != known:
            return "was changed after it was written"
        fault = None if checker is None else checker(path)
        if fault is None and labels_sha256 is not None and _array_sha256(path) != labels_sha256:
            return "holds other labels than those that the data set was prepared with"
        return NO_CHECKSUM if checker is None and known is None else None if known is not None and not fault else fault
    except LevelgroundError as error:
        return str(error).removeprefix(f"{path}: ").partition(". ")[0].removesuffix(".")
    except (OSError, ValueError, TypeError, KeyError) as error:
        return first_line(error)


def _array_sha256(path: Path) -> str:
    cache = Cache(path.parent.parent)
    return sha256_array(cache.open(path.stem, None).pixels)


Checker = Callable[[Path], str | None]
"""Returns the fault of a file, ``None`` or :data:`NO_CHECKSUM`; it may raise instead."""


def _checker(path: Path) -> Checker | None:
    """Return what verifies a file by its own checksum; ``None`` where it has none of its own."""
    if path.name in _CHECKERS:
        return _CHECKERS[path.name]
    if path.name.endswith(f".{HASHES_FILE}"):
        return _sealed(read_hashes)
    if re.fullmatch(r"state\.(new\.|prev\.)?ckpt", path.name):
        return _state_fault
    if path.name in BLOCK_FILES:
        return block_file_fault
    in_cache = re.fullmatch(r"[0-9a-f]{64}", path.stem) and path.parent.name in (path.stem[:2], "stacks")
    return cache_fault if in_cache else None


def _sealed(read: Callable[[Path], object]) -> Checker:
    """Make the checker of a record: it is read as its readers do, and has the hash of its text at its end."""

    def check(path: Path) -> str | None:
        read(path)
        return None if check_seal(read_text(path), "record") else NO_CHECKSUM

    return check


def _lines_fault(path: Path) -> str | None:
    """Check each line of a log."""
    lines, sealed = read_bytes(path).decode().split("\n"), True
    for number, line in enumerate(lines, start=1):
        if line or number < len(lines):
            try:
                parse_json(line)
                sealed = check_seal(line, "line") and sealed
            except ValueError as error:
                return f"line {number}: {first_line(error)}"
    return None if sealed else NO_CHECKSUM


def _history_fault(path: Path) -> str | None:
    read_history(path.parent)
    return _lines_fault(path)


def _state_fault(path: Path) -> None:
    verify_signed(read_bytes(path))


_CHECKERS: Mapping[str, Checker] = {
    RUN_FILE: _sealed(lambda path: read_run(path.parent)),
    STUDY_FILE: _sealed(lambda path: read_study(path.parent)),
    DATASET_FILE: _sealed(read_dataset),
    COMPARISON_FILE: _sealed(read_comparison),
    BENCHMARK_FILE: _sealed(lambda path: read_json(path, kind="benchmark")),
    HASHES_FILE: _sealed(read_hashes),
    HISTORY_FILE: _history_fault,
    EVALUATION_LOG: _lines_fault,
    STATE_FILE: _sealed(lambda path: read_json(path, kind="prediction")),
    UNFINISHED_FILE: _sealed(lambda path: read_json(path, kind="prediction")),
}


def _redo(path: Path, dataset: Dataset | None) -> str:
    """Say how to make a file anew."""
    folder = path.parent
    if dataset is not None:
        return f"Run {_prepare_command(dataset.folder)}"
    if path.name in (HISTORY_FILE, EVALUATION_LOG):
        return "Remove the line that is named."
    run = next((one for one in (path, *path.parents) if one.parent.name == "runs"), None)
    if run is not None:
        return _redo_of_run(path, run)
    if path.name == DATASET_FILE:
        return f"Restore it from a copy, or run {_prepare_command(folder)}"
    if path.name == STUDY_FILE:
        return f"Remove it and run {_study_command(folder)}"
    home = folder.parent if folder.name == LATEX_FOLDER else folder
    if path.name.startswith("benchmark.") or (home / BENCHMARK_FILE).exists():
        return "Run levelground benchmark with the same studies again."
    figures = next((one for one in (folder, folder.parent) if one.name == "figures"), None)
    if path.name.startswith("report.") or figures is not None:
        return f"Run levelground report {_shown(folder if figures is None else figures.parent)}"
    if path.name.startswith("comparison.") or folder.name == LATEX_FOLDER:
        return f"Run levelground compare {_shown(home)}"
    if path.name == HASHES_FILE or path.name.endswith(f".{HASHES_FILE}"):
        return "Remove it, and run the command that wrote the files beside it."
    if path.name in (*BLOCK_FILES, STATE_FILE, UNFINISHED_FILE):
        return "Run the same levelground predict again: it predicts anew what is damaged."
    if _checker(path) is cache_fault:
        return "Remove it; levelground prepare decodes the scene anew."
    return "Run the command that wrote it again."


def _redo_of_run(path: Path, run: Path) -> str:
    """Say how to make a file of a run anew."""
    place, again = path.relative_to(run), f"remove {_shown(run)} and run {_training_command(run)}"
    if place.parts[0].startswith(("counts-", "preds-")):
        return f"Run {_evaluation_command(path, run)}"
    if place.parts[0] == "export":
        known = {"smp": "smp", "openvino": "openvino", "openvino-int8": "openvino-int8"}
        known |= {"model-int8.onnx": "onnx-int8", "item.json": "stac"}
        to = next((known[part] for part in reversed(place.parts) if part in known), "onnx")
        return f"Run levelground export {_shown(run)} --to {to} --overwrite"
    if place.parts == ("model", HASHES_FILE):
        return f"Remove it and run levelground evaluate {_shown(run)}"
    if place.parts[0] == "model" and path.name in ("README.md", "levelground.json"):
        return f"Run levelground evaluate {_shown(run)}"
    if path.name.startswith("state."):
        return f"Remove it and run levelground train --resume {_shown(run)}"
    return f"Restore it from a copy, or {again}"


def _evaluation_command(path: Path, run: Path) -> str:
    """Return the command that counts the scenes of a run anew."""
    with suppress(LevelgroundError):
        card = read_run(run).card
        if card.folds:
            return _study_command(run.parent.parent)
        if not card.outputs:
            masks = card.adopted_from.masks if card.adopted_from and card.adopted_from.masks else "FOLDER"
            study = _shown(run.parent.parent)
            return (
                f"levelground adopt --predictions {shlex.quote(masks)} --study {study} --name {shlex.quote(run.name)}"
            )
    split = " --split val" if any(part.startswith(("counts-val", "preds-val")) for part in path.parts) else ""
    return f"levelground evaluate {_shown(run)}{split}"


def _training_command(run: Path) -> str:
    """Return the command that trains or adopts a run: as the study's log has it, else as its card tells."""
    logged = [command for name, command in _logged(run.parent.parent) if name == run.name]
    made = [command for command in logged if re.match(r"levelground (study|demo|adopt) ", command)]
    if made:
        return made[-1]
    with suppress(LevelgroundError):
        card = read_run(run).card
        if card.seed is not None and card.status != "adopted":
            study = _shown(run.parent.parent)
            return f"levelground train {study} --arch {shlex.quote(card.arch)} --seed {card.seed} with its other flags"
    return "the command that made it"


def _study_command(study: Path) -> str:
    """Return the command that ran a study, as its log has it."""
    made = [command for _, command in _logged(study) if re.match(r"levelground (study|demo) ", command)]
    return made[-1] if made else "levelground study with the same flags"


def _prepare_command(study: Path) -> str:
    """Return the command that prepares the data of a study anew."""
    made = [command for _, command in _logged(study) if re.match(r"levelground (study|demo) ", command)]
    if made:
        return made[-1]
    data = "DATA"
    with suppress(OSError, ValueError, AttributeError):
        data = str(parse_json(read_text(study / DATASET_FILE)).get("data", data))
    return f"levelground prepare --data {shlex.quote(data)} --out {_shown(study)} with its other flags"


def _logged(study: Path) -> list[tuple[str, str]]:
    """Return run and command of each line of a study's log that can be read."""
    found = []
    with suppress(OSError, ValueError):
        for line in read_text(study / EVALUATION_LOG).splitlines():
            with suppress(ValueError):
                content = parse_json(line)
                if isinstance(content, dict) and "run" in content:
                    found.append((str(content["run"]), str(content.get("command", ""))))
    return found


def _shown(path: Path) -> str:
    return shlex.quote(str(path))
