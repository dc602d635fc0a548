"""Pictures of the scenes in the report: image, true classes, and each run's prediction and errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.console import track
from levelground.errors import LevelgroundError
from levelground.imagery.legend import LabelMap, Legend
from levelground.imagery.thumbnails import (
    ERROR_COLOURS,
    error_map,
    labels_uri,
    palette_uri,
    photo_uri,
    reduce_labels,
    reduced_scene,
    reduced_size,
)

SIDES = (1024, 768, 640, 512, 448, 384, 320, 256, 192, 128)
"""Longer side of a picture in px, from the largest."""

THUMB = 192
"""Longer side of an error map in px; the slider computes errors at the size of the pictures."""

BUDGET_BYTES = 20_000_000
"""Size limit of all pictures of the page together."""


class OpenScene(Protocol):
    """An open scene: ``pixels`` ``(H, W, C)`` and ``labels`` ``(H, W)`` or ``None``."""

    @property
    def pixels(self) -> NDArray[np.generic]:
        """Return the image."""

    @property
    def labels(self) -> LabelMap | None:
        """Return the true classes."""


class SceneSource(Protocol):
    """Anything that opens scenes by id, such as a :class:`levelground.datasets.dataset.Dataset`."""

    def open(self, scene_id: str, /) -> OpenScene:
        """Open the scene of that id."""


@dataclass(frozen=True)
class ScenePictures:
    """One scene's pictures as data URIs; a run without a prediction has none."""

    id: str
    height: int
    width: int
    image: str
    truth: str
    preds: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Size on the page."""
        return sum(map(len, (self.image, self.truth, *self.preds.values(), *self.errors.values())))


@dataclass(frozen=True)
class Gallery:
    """Pictures of all scenes that could be opened, their longer side in px, and the ids that could not be opened."""

    scenes: tuple[ScenePictures, ...]
    side: int
    missing: tuple[str, ...]


def make_gallery(
    scene_ids: Sequence[str],
    run_folders: Sequence[Path],
    legend: Legend,
    source: SceneSource,
    *,
    budget_bytes: int = BUDGET_BYTES,
    split: str = "test",
) -> Gallery:
    """Make the pictures of every scene, as large as the size limit allows.

    Args:
        scene_ids: The scenes.
        run_folders: Folder of each run; its predictions lie in ``preds-<split>/<id>.png``.
        legend: Classes and colours.
        source: Opens images and labels.
        budget_bytes: Size limit of all pictures together.
        split: The split of the scenes.
    """
    folders = [folder / f"preds-{split}" for folder in run_folders]
    side = _fitting_side(scene_ids, folders, legend, source, budget_bytes)
    scenes, missing = [], []
    for scene_id in track(scene_ids, "pictures of scenes", len(scene_ids)):
        made = _pictures(scene_id, folders, legend, source, side)
        if made is None:
            missing.append(scene_id)
        else:
            scenes.append(made)
    return Gallery(tuple(scenes), side, tuple(missing))


def study_scenes(study_folder: Path, run_folders: Sequence[Path]) -> SceneSource | None:
    """Open the data set of a study, or of the study that the runs belong to; ``None`` where there is none."""
    from levelground.datasets.dataset import read_dataset

    for folder in dict.fromkeys([study_folder, *(run.parent.parent for run in run_folders)]):
        try:
            return read_dataset(folder)
        except (LevelgroundError, OSError):
            continue
    return None


def read_preds(folder: Path, scene_id: str, shape: tuple[int, int]) -> LabelMap | None:
    """Read a run's prediction of a scene.

    Args:
        folder: Folder of the run's predictions.
        scene_id: The scene; an id that would lead out of the folder has no prediction.
        shape: The scene's height and width; a prediction of another size is left out.
    """
    path = folder / f"{scene_id}.png"
    if "\0" in scene_id or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            preds = np.asarray(image, np.uint8) if image.mode in ("P", "L") else None
    except (OSError, Image.DecompressionBombError):
        return None
    return preds if preds is not None and preds.shape == shape else None


def open_scene(source: SceneSource, scene_id: str) -> OpenScene | None:
    """Open a scene; ``None`` where image, labels or cache are missing."""
    try:
        opened = source.open(scene_id)
    except (LevelgroundError, OSError, KeyError, ValueError):
        return None
    return None if opened.labels is None else opened


def _fitting_side(
    scene_ids: Sequence[str], folders: Sequence[Path], legend: Legend, source: SceneSource, budget_bytes: int
) -> int:
    """Return the largest side at which all pictures fit the size limit, estimated from up to three scenes."""
    probes = list(dict.fromkeys(scene_ids[n] for n in (0, len(scene_ids) // 2, -1))) if scene_ids else []
    for side in SIDES:
        pictures = (_pictures(scene_id, folders, legend, source, side) for scene_id in probes)
        sizes = [made.n_bytes for made in pictures if made is not None]
        if not sizes or len(scene_ids) * sum(sizes) / len(sizes) <= budget_bytes:
            return side
    return SIDES[-1]


def _pictures(
    scene_id: str, folders: Sequence[Path], legend: Legend, source: SceneSource, side: int
) -> ScenePictures | None:
    """Make the pictures of one scene; ``None`` where it cannot be opened."""
    opened = open_scene(source, scene_id)
    if opened is None or opened.labels is None:
        return None
    labels = np.asarray(opened.labels)
    shape = (labels.shape[0], labels.shape[1])
    picture, truth = reduced_scene(opened.pixels, labels, side)
    size, thumb = (truth.shape[0], truth.shape[1]), reduced_size(*shape, min(side, THUMB))
    counted = legend.counted.tolist()
    preds, errors = {}, {}
    for number, folder in enumerate(folders):
        found = read_preds(folder, scene_id, shape)
        if found is not None:
            preds[number] = labels_uri(reduce_labels(found, size), legend)
            wrong = error_map(reduce_labels(found, thumb), reduce_labels(labels, thumb), counted)
            errors[number] = palette_uri(wrong, ERROR_COLOURS)
    return ScenePictures(
        id=scene_id,
        height=size[0],
        width=size[1],
        image=photo_uri(picture),
        truth=labels_uri(truth, legend),
        preds=preds,
        errors=errors,
    )
