"""The record of a prepared data set: which scenes, what they hold by hash, how they are split, what was found.

``dataset.json`` is read by every later command. Nothing in it is believed before it is checked: hashes must fit, and no
path leaves its folder.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from levelground.datasets.splits import SPLIT_NAMES, Split, SplitName, Window
from levelground.errors import LegendError, RecordError, SplitError, one_line
from levelground.imagery.cache import Cache, CachedScene
from levelground.imagery.legend import Legend
from levelground.imagery.scenes import Finding, Layout
from levelground.records import Record, read_json, sha256_json, write_json

DATASET_FILE = "dataset.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class SceneRecord:
    """One labelled scene: where it lies below the data folder, its size, group, hashes and pixels of each class."""

    id: str
    image: str
    labels: str
    height: Size
    width: Size
    group: str
    image_sha256: Digest
    labels_sha256: Digest
    image_key: Digest
    labels_key: Digest
    class_pixels: tuple[Count, ...]
    ignored_pixels: Count
    window: Window | None = None


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    ``folder`` holds the record; ``data`` and ``cache`` are absolute. ``mean`` and ``std`` are those of the training
    scenes' labelled pixels, by band, in stored units.
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
    findings: tuple[Finding, ...] = field(default=())

    @cached_property
    def _by_id(self) -> Mapping[str, SceneRecord]:
        return {scene.id: scene for scene in self.scenes}

    def scene(self, scene_id: str) -> SceneRecord:
        """The record of one scene.

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
        """Scene ids of one set."""
        return self.split.ids(split_name)

    def open(self, scene_id: str) -> CachedScene:
        """Pixels and labels of one scene as memory maps, from the cache."""
        scene = self.scene(scene_id)
        return Cache(self.cache).open(scene.image_key, scene.labels_key)

    def digest(self, split_names: Sequence[SplitName] = ("train", "val")) -> str:
        """SHA-256 over ids, image and label hashes of some sets and over the legend; order plays no part."""
        content = {
            name: [[one.id, one.image_sha256, one.labels_sha256] for one in map(self.scene, sorted(self.ids(name)))]
            for name in split_names
        }
        return sha256_json([self.legend.digest(), content])

    @property
    def train_sha256(self) -> str:
        """What a run learnt from: training and validation scenes."""
        return self.digest()

    @property
    def test_sha256(self) -> str:
        """What a run is judged on: the test scenes."""
        return self.digest(("test",))

    @property
    def split_sha256(self) -> str:
        """The split, by ids alone."""
        return self.split.digest()


def write_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write ``dataset.json``.

    Args:
        dataset: The record; its own ``folder`` plays no part.
        folder: Where to write.
    Returns:
        The file.
    Raises:
        DiskError: It cannot be written.
    """
    split = dataset.split
    content = {
        "data": dataset.data,
        "cache": dataset.cache,
        "layout": dataset.layout,
        "legend": dataset.legend.to_json(),
        "legend_sha256": dataset.legend.digest(),
        "bands": dataset.bands,
        "dtype": dataset.dtype,
        "gsd_m": dataset.gsd_m,
        "mean": dataset.mean,
        "std": dataset.std,
        "groups_from": dataset.groups_from,
        "split": {name: split.ids(name) for name in SPLIT_NAMES},
        "split_rule": {"kind": split.rule, "seed": split.seed, "left_out": split.left_out, "text": split.text},
        "split_sha256": split.digest(),
        "findings": [asdict(finding) for finding in dataset.findings],
        "scenes": [asdict(scene) for scene in dataset.scenes],
    }
    path = folder / DATASET_FILE
    write_json(path, content, kind="dataset")
    return path


@dataclass(frozen=True)
class _Rule:
    """``split_rule`` as it stands in the file."""

    kind: str
    seed: int | None
    left_out: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class _Content:
    """``dataset.json`` as it stands, for the checks of types."""

    data: str
    cache: str
    layout: Layout
    legend: dict[str, Any]
    legend_sha256: Digest
    bands: Size
    dtype: Annotated[str, Field(pattern=r"^(uint8|uint16|int16|float32)$")]
    gsd_m: Annotated[float, Field(gt=0)] | None
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    groups_from: str
    split: dict[SplitName, tuple[str, ...]]
    split_rule: _Rule
    split_sha256: Digest
    findings: tuple[Finding, ...]
    scenes: tuple[SceneRecord, ...]


_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)


def read_dataset(folder: Path) -> Dataset:
    """Read and check ``dataset.json``.

    Args:
        folder: The folder that holds it, or the file itself.
    Raises:
        RecordError: It is missing, damaged, of another schema, contradicts itself, or a path in it leaves its folder.
    """
    path = folder if folder.suffix == ".json" else folder / DATASET_FILE
    record = read_json(path, kind="dataset")
    content = _typed(path, record)
    try:
        legend = Legend.from_json(content.legend)
        rule = content.split_rule
        train, val, test = (content.split.get(name, ()) for name in SPLIT_NAMES)
        split = Split(train, val, test, rule.kind, rule.left_out, rule.seed, rule.text)
    except (LegendError, SplitError) as error:
        raise RecordError(f"{path}: {error}") from error
    problem = _contradiction(content, legend, split)
    if problem:
        raise RecordError(f"{path}: {problem}. Run prepare again.")
    return Dataset(
        path.parent,
        Path(content.data),
        Path(content.cache),
        content.layout,
        legend,
        content.bands,
        content.dtype,
        content.gsd_m,
        content.scenes,
        split,
        content.groups_from,
        content.mean,
        content.std,
        content.findings,
    )


def _typed(path: Path, record: Record) -> _Content:
    """The record with its types checked; the first wrong one is named."""
    try:
        return _CONTENT.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"])) or "the record"
        raise RecordError(f"{path}: {where}: {first['msg']}. Run prepare again.") from error


def _contradiction(content: _Content, legend: Legend, split: Split) -> str | None:
    """What contradicts itself in a record, if anything."""
    if legend.digest() != content.legend_sha256:
        return "the legend was changed after it was written"
    if split.digest() != content.split_sha256:
        return "the split was changed after it was written"
    if not (len(content.mean) == len(content.std) == content.bands and all(map(math.isfinite, content.mean))):
        return f"mean and std are no {content.bands} finite numbers"
    for name, value in (("data", content.data), ("cache", content.cache)):
        if not Path(value).is_absolute() or ".." in Path(value).parts:
            return f"{name} is {value!r}, expected an absolute path"
    known: set[str] = set()
    for scene in content.scenes:
        if scene.id in known:
            return f"scene {scene.id!r} stands there twice"
        known.add(scene.id)
        for what, value in (("id", scene.id), ("image", scene.image), ("labels", scene.labels)):
            if not stays_inside(value):
                return f"scene {scene.id!r}: {what} {value!r} leaves its folder, expected a path inside"
        if len(scene.class_pixels) != legend.n_classes:
            return f"scene {scene.id!r} counts {len(scene.class_pixels)} classes, the legend has {legend.n_classes}"
    for scene_id in (*split.train, *split.val, *split.test, *split.left_out):
        if scene_id not in known:
            return f"the split names scene {scene_id!r}, which is none of its scenes"
    return None


def stays_inside(path: str) -> bool:
    """Whether a path can be joined to a folder without leaving it, and names something.

    Example:
        >>> [stays_inside(path) for path in ("a/b.jpg", "../a.jpg", "/a.jpg", "a/..", "")]
        [True, False, False, False, False]
    """
    pure = PurePosixPath(path)
    inside = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
    return inside and not re.search(r"[\x00-\x1f]", path)
