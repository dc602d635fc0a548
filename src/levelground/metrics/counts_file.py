"""``counts-<split>.npz``: the confusion counts of one run, scene by scene, which a comparison is computed from.

Letters: S scenes, K classes of the legend, B bins of confidence.
"""

from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.errors import RecordError
from levelground.records import DAMAGED, SCHEMAS, atomic_path, check_schema

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Words = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class SceneCounts:
    """One run's evaluation of one split, scene by scene; where something was not measured its pixels are 0.

    Attributes:
        scenes: Ids, ``(S,)``.
        groups: The group of each scene, the resampling unit, ``(S,)``.
        labels_sha256: Hash of each scene's labels, ``(S,)``.
        legend_sha256: Hash of the legend.
        split_sha256: Hash of the split.
        counts: ``(S, K, K)``, true by predicted class, in pixels.
        boundary: ``(S, K, 3)``: intersection, predicted and true boundary pixels.
        boundary_px: The distance that makes a pixel a boundary pixel.
        conf_n: Pixels by predicted class and bin of confidence, ``(S, K, B)``.
        conf_sum: Sum of their confidences, ``(S, K, B)``.
        conf_correct: Those of them that are right, ``(S, K, B)``.
        loss_sum: Sum over counted pixels of −log p(true class), ``(S,)``.
        loss_pixels: Their number, ``(S,)``.
        forward_s: Seconds that the model took, ``(S,)``.
        megapixels: Size of each scene, ``(S,)``.
    Raises:
        RecordError: An array has another type or shape than these, or holds a negative number.
    """

    scenes: Words
    groups: Words
    labels_sha256: Words
    legend_sha256: str
    split_sha256: str
    counts: Ints
    boundary: Ints
    boundary_px: int
    conf_n: Ints
    conf_sum: Floats
    conf_correct: Ints
    loss_sum: Floats
    loss_pixels: Ints
    forward_s: Floats
    megapixels: Floats

    def __post_init__(self) -> None:
        _check_arrays(self)

    @property
    def n_classes(self) -> int:
        """The number of classes K, uncounted ones included."""
        return int(self.counts.shape[-1])


_KINDS = {
    "scenes": "U", "groups": "U", "labels_sha256": "U", "counts": "i", "boundary": "i", "conf_n": "i",
    "conf_sum": "f", "conf_correct": "i", "loss_sum": "f", "loss_pixels": "i", "forward_s": "f", "megapixels": "f",
}  # fmt: skip


def write_counts(path: Path, counts: SceneCounts) -> None:
    """Write a record of counts atomically.

    Args:
        path: The file, ``counts-<split>.npz`` in a run folder.
        counts: The record.
    Raises:
        DiskError: The file cannot be written.
    """
    arrays = {field.name: np.asarray(getattr(counts, field.name)) for field in fields(counts)}
    arrays |= {"schema": np.array(SCHEMAS["counts"]), "kind": np.array("counts")}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_counts(path: str | PathLike[str]) -> SceneCounts:
    """Read a record of counts and check it.

    Args:
        path: A file that :func:`write_counts` wrote.
    Returns:
        The record.
    Raises:
        RecordError: The file is missing or damaged, of another kind or schema, or its arrays do not fit together.
    """
    path = Path(path)
    arrays = _load(path)
    if str(arrays.get("kind")) != "counts":
        raise RecordError(
            f"{path}: is not a counts record. Give a counts-<split>.npz that `levelground evaluate` wrote."
        )
    schema = arrays.get("schema", np.array(0))
    check_schema(path, int(schema) if schema.shape == () and schema.dtype.kind in "iu" else str(schema), kind="counts")
    missing = [field.name for field in fields(SceneCounts) if field.name not in arrays]
    if missing:
        raise RecordError(f"{path}: {', '.join(missing)} missing. Run `levelground evaluate` again.")
    values: dict[str, object] = {field.name: arrays[field.name] for field in fields(SceneCounts)}
    for name in ("legend_sha256", "split_sha256"):
        values[name] = str(arrays[name])
    try:
        values["boundary_px"] = int(arrays["boundary_px"])
        return SceneCounts(**values)  # type: ignore[arg-type]  # every array was checked by name just above
    except (RecordError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, NDArray[np.generic]]:
    """Load all arrays of an npz file; refuse objects (pickles)."""
    try:
        # The file is opened here, since np.load leaves open what it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such counts. Run `levelground evaluate` on this run first.") from error
    except DAMAGED as error:
        raise RecordError(f"{path}: unreadable counts ({error}). Run `levelground evaluate` again.") from error


def _check_arrays(record: SceneCounts) -> None:
    """Refuse a record whose arrays do not fit together."""
    if record.counts.ndim != 3 or record.conf_n.ndim != 3:
        raise RecordError(
            f"counts have shape {record.counts.shape} and conf_n {record.conf_n.shape}, expected (S, K, K) and "
            "(S, K, B). Evaluate the run again."
        )
    n_scenes, n_classes, bins = record.counts.shape[0], record.counts.shape[-1], record.conf_n.shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        "counts": (n_scenes, n_classes, n_classes),
        "boundary": (n_scenes, n_classes, 3),
        **dict.fromkeys(("conf_n", "conf_sum", "conf_correct"), (n_scenes, n_classes, bins)),
    }
    for name, kind in _KINDS.items():
        array, shape = getattr(record, name), shapes.get(name, (n_scenes,))
        if array.shape != shape:
            raise RecordError(f"{name} have shape {array.shape}, expected {shape}. Evaluate the run again.")
        if array.dtype.kind != kind or (kind != "U" and array.dtype.itemsize != 8):
            expected = {"U": "text", "i": "int64", "f": "float64"}[kind]
            raise RecordError(f"{name} have type {array.dtype}, expected {expected}. Evaluate the run again.")
        if kind != "U" and not (array >= 0).all():
            raise RecordError(f"{name} hold a negative number or none at all. Evaluate the run again.")
    if len(set(record.scenes.tolist())) != n_scenes:
        raise RecordError("a scene is listed twice. Evaluate the run again.")
