"""Record of a prepared data set: scenes with their hashes, split, groups and findings.

``dataset.json`` is read by every later command. :class:`DatasetRecord` is the file, field by field, with one reader
and one writer; :class:`Dataset` is what the commands work with. Nothing in the file is believed before it is checked:
hashes must fit, and no path leaves its folder.
"""

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from levelground.config import Layout
from levelground.console import say
from levelground.datasets.splits import SPLIT_NAMES, Split, SplitName
from levelground.errors import LegendError, RecordError, SplitError, one_line
from levelground.imagery.cache import Cache, CachedScene
from levelground.imagery.geotiff import NO_BAND_INFO, BandInfo, Window
from levelground.imagery.layouts import Finding
from levelground.imagery.legend import MAX_CLASSES, Legend
from levelground.records import SCHEMAS, SEAL_KEY, SEAL_SCHEMA, describe_fields, read_json, sha256_json, write_json


def _validate_legend(value: object) -> Legend:
    """Read a legend that is part of a record."""
    if isinstance(value, Legend):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("Input should be an object")
    try:
        return Legend.from_json(value)
    except LegendError as error:
        raise ValueError(str(error)) from error


_HEX = {"type": "string", "pattern": "^#?[0-9a-fA-F]{6}$"}
_VALUES = {"type": "array", "items": {"type": "integer"}}
_CLASS_KEYS = {
    "index": {"type": "integer", "minimum": 0, "maximum": MAX_CLASSES - 1},
    "name": {"type": "string"},
    "colour": _HEX,
    "counted": {"type": "boolean", "default": True},
    "name_ru": {"type": "string"},
    "value": _VALUES,
    "also": {"type": "array", "items": _HEX, "description": "Further colours in masks, of classes that were merged."},
}
_LEGEND_KEYS = {
    "name": {"type": "string"},
    "rule": {"enum": ["exact", "threshold"]},
    "ignored": {"type": "array", "items": _HEX, "description": "Colours of pixels without data."},
    "nodata": _VALUES | {"description": "Values of pixels without data in index masks."},
    "class": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "properties": _CLASS_KEYS, "required": ["index", "name", "colour"]},
    },
}
JsonLegend = Annotated[
    Legend,
    PlainValidator(_validate_legend),
    PlainSerializer(Legend.to_json),
    WithJsonSchema(
        {
            "type": "object",
            "description": "The classes, as a legend file holds them (docs/legends.md).",
            "properties": _LEGEND_KEYS,
            "required": ["class"],
        }
    ),
]
"""A legend as a field of a record, with its JSON form."""


DATASET_FILE = "dataset.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
_CONFIG = ConfigDict(json_schema_extra=describe_fields)


def _empty(value: object) -> bool:
    """Whether a list or value that most records lack is left out of the file."""
    return value is None or value == ()


@dataclass(frozen=True, config=_CONFIG)
class SceneRecord:
    """One labelled scene: where it lies below the data folder, its size, group, hashes and pixels of each class."""

    id: str
    """Name of the scene, unique in the data set."""
    image: str
    """Path of the image below the data folder."""
    labels: str
    """Path of the mask below the data folder."""
    height: Size
    """Height in pixels."""
    width: Size
    """Width in pixels."""
    group: str
    """Scenes of one group are not independent; intervals resample groups."""
    image_sha256: Digest
    """Hash of the image file, and of its window, the mask beside it and the reading of zeros, where there are any."""
    labels_sha256: Digest
    """Hash of the decoded labels."""
    image_key: Digest
    """Key of the decoded image in the cache."""
    labels_key: Digest
    """Key of the decoded labels in the cache."""
    class_pixels: tuple[Count, ...]
    """Pixels of each class."""
    ignored_pixels: Count
    """Pixels without data."""
    window: Window | None = None
    """Row, column, height and width of a block of a large raster."""
    place: Annotated[tuple[float, float] | None, Field(exclude_if=_empty)] = None
    """Longitude and latitude of its middle, degrees; ``None`` where they are not known."""
    file_sha256: Annotated[Digest | None, Field(exclude_if=_empty)] = None
    """Hash of the image file alone, where that is not ``image_sha256``; not in the earliest records."""

    @property
    def raster(self) -> str:
        """Hash of the image file, whatever of it the scene shows and however it is read."""
        return self.file_sha256 or self.image_sha256


@dataclass(frozen=True, config=_CONFIG)
class SplitDescription:
    """Rule of the split."""

    kind: str
    """Name of the rule."""
    seed: int | None
    """Seed of a random split."""
    left_out: tuple[str, ...]
    """Ids of scenes in no set."""
    text: str
    """The rule in words."""
    folds: Annotated[tuple[tuple[str, ...], ...], Field(exclude_if=_empty)] = ()
    """Ids of the test scenes of each fold, where every scene is a test scene once."""


@dataclass(frozen=True, config=_CONFIG)
class DatasetRecord:
    """The content of ``dataset.json``, in the order of the file; one that contradicts itself is a ``ValueError``."""

    data: str
    """Folder with the scenes, absolute."""
    cache: str
    """Folder with the decoded scenes, absolute."""
    layout: Layout
    """Layout of the data folder."""
    legend: JsonLegend
    """The classes."""
    legend_sha256: Digest
    """Hash of the legend."""
    bands: Size
    """Bands of every image."""
    dtype: Annotated[str, Field(pattern=r"^(u?int(8|16|32|64)|float32)$")]
    """Type of the stored values; float32 also where files hold float64."""
    gsd_m: Annotated[float, Field(gt=0)] | None
    """Ground sampling distance in metres, where it is known."""
    mean: tuple[float, ...]
    """Mean of each band over the labelled pixels of the training scenes, in stored units."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Standard deviation of each band over the labelled pixels of the training scenes, in stored units."""
    groups_from: str
    """Source of the groups."""
    split: dict[SplitName, tuple[str, ...]]
    """Ids of the scenes of each set."""
    split_rule: SplitDescription
    split_sha256: Digest
    """Hash of the three sets."""
    findings: tuple[Finding, ...]
    """Findings about the data."""
    scenes: tuple[SceneRecord, ...]
    """All labelled scenes."""
    band_info: BandInfo = NO_BAND_INFO
    """What most images say of their bands: names, scales and offsets; empty where they say nothing."""

    def __post_init__(self) -> None:
        """Refuse a record that contradicts itself."""
        problem = _contradiction(self)
        if problem:
            raise ValueError(problem)


@plain_dataclass(frozen=True, repr=False)
class Dataset:
    """A prepared data set: the record, and the folder that it was read from.

    ``folder`` holds the record; ``data`` and ``cache`` are absolute. ``mean`` and ``std`` are those of the training
    scenes' labelled pixels, by band, in stored units; of all scenes where the data set is in folds.
    """

    folder: Path
    data: Path
    cache: Path
    layout: Layout
    legend: Legend
    bands: int
    dtype: str
    gsd_m: float | None
    scenes: tuple[SceneRecord, ...]
    split: Split
    groups_from: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    findings: tuple[Finding, ...] = ()
    band_info: BandInfo = NO_BAND_INFO

    def __fspath__(self) -> str:
        """Return the folder, so that a data set is taken wherever its study's path is."""
        return str(self.folder)

    def __repr__(self) -> str:
        """Return folder, size and split on one line."""
        sizes = ", ".join(f"{len(self.split.ids(name))} {name}" for name in SPLIT_NAMES)
        return f"<Dataset {str(self.folder)!r}: {len(self.scenes)} scenes ({sizes}), {self.legend.name} legend>"

    @cached_property
    def _by_id(self) -> Mapping[str, SceneRecord]:
        return {scene.id: scene for scene in self.scenes}

    def scene(self, scene_id: str) -> SceneRecord:
        """Return the record of one scene.

        Raises:
            RecordError: No scene has this id.
        """
        try:
            return self._by_id[scene_id]
        except KeyError as error:
            raise RecordError(
                f"{self.folder / DATASET_FILE}: no scene {scene_id!r}, expected one of {len(self.scenes)}. "
                "Check the id or run prepare again."
            ) from error

    def ids(self, split_name: SplitName) -> tuple[str, ...]:
        """Return the scene ids of one set."""
        return self.split.ids(split_name)

    def open(self, scene_id: str) -> CachedScene:
        """Open pixels and labels of one scene from the cache, as read-only arrays, large ones mapped."""
        scene = self.scene(scene_id)
        return Cache(self.cache).open(scene.image_key, scene.labels_key)

    def digest(self, split_names: Sequence[SplitName] = ("train", "val")) -> str:
        """Hash ids, images and labels of some sets and the legend with SHA-256; order plays no part."""
        content = {
            name: [[one.id, one.image_sha256, one.labels_sha256] for one in map(self.scene, sorted(self.ids(name)))]
            for name in split_names
        }
        return sha256_json([self.legend.digest(), content])

    @property
    def train_sha256(self) -> str:
        """Hash of what a run learns from: training and validation scenes."""
        return self.digest()

    @property
    def test_sha256(self) -> str:
        """Hash of what a run is judged on: the test scenes."""
        return self.digest(("test",))

    @property
    def split_sha256(self) -> str:
        """Hash of the split, by ids alone."""
        return self.split.digest()


def warn_of_unlike(dataset: Dataset) -> None:
    """Repeat what `prepare` found that makes scenes unlike for a network, where one is trained or adopted."""
    for finding in dataset.findings:
        if finding.code in ("unlike-gsd", "unlike-band-names", "unlike-scales"):
            say("Warning: %(text)s", text=finding.text)


def write_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write ``dataset.json``.

    Args:
        dataset: The data set; its own ``folder`` plays no part.
        folder: Where to write.
    Returns:
        The file.
    Raises:
        DiskError: It cannot be written.
    """
    split = dataset.split
    record = DatasetRecord(
        data=str(dataset.data),
        cache=str(dataset.cache),
        layout=dataset.layout,
        legend=dataset.legend,
        legend_sha256=dataset.legend.digest(),
        bands=dataset.bands,
        dtype=dataset.dtype,
        gsd_m=dataset.gsd_m,
        mean=dataset.mean,
        std=dataset.std,
        groups_from=dataset.groups_from,
        split={name: split.ids(name) for name in SPLIT_NAMES},
        split_rule=SplitDescription(split.rule, split.seed, split.left_out, split.text, split.folds),
        split_sha256=split.digest(),
        findings=dataset.findings,
        scenes=dataset.scenes,
        band_info=dataset.band_info,
    )
    path = folder / DATASET_FILE
    write_json(path, _RECORD.dump_python(record, mode="json"), kind="dataset")
    return path


def write_if_changed(dataset: Dataset) -> None:
    """Write a record into its folder, unless the same one is there already, and say which.

    Raises:
        DiskError: It cannot be written.
    """
    with contextlib.suppress(RecordError):
        if read_dataset(dataset.folder) == dataset:
            say("%(path)s: unchanged", path=dataset.folder / DATASET_FILE)
            return
    say("%(path)s: written", path=write_dataset(dataset, dataset.folder))


_RECORD = TypeAdapter(DatasetRecord)


def read_dataset(folder: str | PathLike[str]) -> Dataset:
    """Read and check ``dataset.json``.

    Args:
        folder: The folder that holds it, or the file itself.
    Raises:
        RecordError: It is missing, damaged, of another schema, contradicts itself, or a path in it leaves its folder.
    """
    folder = Path(folder)
    path = folder if folder.suffix == ".json" else folder / DATASET_FILE
    content = read_json(path, kind="dataset")
    try:
        record = _RECORD.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line("".join(f"{part}." for part in first["loc"])).removesuffix(".")
        what = one_line(first["msg"].removeprefix("Value error, ").removesuffix("."))
        raise RecordError(f"{path}: {where}{': ' if where else ''}{what}. Run prepare again.") from error
    return Dataset(
        folder=path.parent,
        data=Path(record.data),
        cache=Path(record.cache),
        layout=record.layout,
        legend=record.legend,
        bands=record.bands,
        dtype=record.dtype,
        gsd_m=record.gsd_m,
        scenes=record.scenes,
        split=_split(record),
        groups_from=record.groups_from,
        mean=record.mean,
        std=record.std,
        findings=record.findings,
        band_info=record.band_info,
    )


def dataset_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of ``dataset.json``."""
    schema = _RECORD.json_schema(mode="serialization")
    head = {"schema": {"const": SCHEMAS["dataset"]}, "kind": {"const": "dataset"}}
    properties = head | schema["properties"] | {SEAL_KEY: SEAL_SCHEMA}
    return schema | {"properties": properties, "required": [*head, *schema["required"]]}


def _split(record: DatasetRecord) -> Split:
    """Put the sets of a record and their rule together.

    Raises:
        SplitError: A set is empty, or a scene is in two of them.
    """
    rule = record.split_rule
    train, val, test = (record.split.get(name, ()) for name in SPLIT_NAMES)
    return Split(train, val, test, rule.kind, rule.left_out, rule.seed, rule.text, rule.folds)


def _contradiction(content: DatasetRecord) -> str | None:
    """Say what contradicts itself in a record, if anything does."""
    try:
        split = _split(content)
    except SplitError as error:
        return str(error)
    legend = content.legend
    if legend.digest() != content.legend_sha256:
        return "the legend was changed after it was written"
    if split.digest() != content.split_sha256:
        return "the split was changed after it was written"
    if not (len(content.mean) == len(content.std) == content.bands and all(map(math.isfinite, content.mean))):
        return f"mean and std are not {content.bands} finite numbers"
    for name, value in (("data", content.data), ("cache", content.cache)):
        if not Path(value).is_absolute() or ".." in Path(value).parts:
            return f"{name} is {value!r}, expected an absolute path"
    known: set[str] = set()
    for scene in content.scenes:
        if scene.id in known:
            return f"scene {scene.id!r} is listed twice"
        known.add(scene.id)
        for what, value in (("id", scene.id), ("image", scene.image), ("labels", scene.labels)):
            if not stays_inside(value):
                return f"scene {scene.id!r}: {what} {value!r} leaves its folder, expected a path inside"
        if len(scene.class_pixels) != legend.n_classes:
            return f"scene {scene.id!r} counts {len(scene.class_pixels)} classes, the legend has {legend.n_classes}"
    for scene_id in (*split.train, *split.val, *split.test, *split.left_out):
        if scene_id not in known:
            return f"the split names scene {scene_id!r}, which is not one of its scenes"
    return None


def stays_inside(path: str) -> bool:
    """Check that a path names something and can be joined to a folder without leaving it.

    Example:
        >>> [stays_inside(path) for path in ("a/b.jpg", "../a.jpg", "/a.jpg", "a/..", "")]
        [True, False, False, False, False]
    """
    pure = PurePosixPath(path)
    inside = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
    return inside and not re.search(r"[\x00-\x1f]", path)
