"""Find images and their masks below a folder by name and place only; no pixel is read here."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

from levelground.config import Layout
from levelground.errors import SceneError
from levelground.records import describe_fields
from levelground.wording import gettext, translated

Naming = Literal["kaggle", "folders", "suffix", "vector", "bands", "pattern"]
"""How masks are told from images: by ``_sat`` and ``_mask``, by folder, by ``_label`` behind a raster's name; vector
files by folder or name; or by two patterns."""

NAMINGS: Mapping[Layout | None, tuple[Naming, ...]] = {
    None: ("kaggle", "folders", "suffix"),
    "kaggle": ("kaggle",),
    "folders": ("folders",),
    "index": ("folders", "kaggle", "suffix"),
    "geotiff": ("folders", "suffix", "kaggle"),
    "raster": ("suffix", "folders", "kaggle"),
}
"""The namings that are tried for each layout, in this order; ``None`` where the layout is told from the files."""

Severity = Literal["note", "warning", "error"]

FindingCode = Literal[
    "name", "link", "ambiguous", "missing-image", "missing-mask", "unreadable", "unlike-bands",
    "no-mask", "turned", "alpha", "palette", "empty-blocks",
    "duplicate", "touches", "overlaps", "repeats", "no-overlap-search", "no-labels", "impure-colours", "dropped-values",
    "far-value", "zero-pixels", "unlike-band-names", "unlike-scales", "unlike-gsd", "polygons",
    "absent-class", "untrained-class", "untested-class", "unvalidated-class",
    "separated-group", "few-test-groups", "one-raster", "left-out",
]  # fmt: skip
"""Kinds of findings: of files, of how images are read, of scenes that repeat, of classes, of the split."""


IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label")
SPLIT_FOLDERS: Mapping[str, Literal["train", "val", "test"]] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folders that are named after a set of a split, and that set."""


SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".jp2", ".vrt", ".img")
"""Endings of image files."""

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".shp")
"""Endings of vector files."""

_KAGGLE = re.compile(r"(?P<id>.+)_(?P<part>sat|mask)", re.IGNORECASE)
_LABEL = re.compile(r"(?P<base>.+?)[_-](labels?|masks?|gt)", re.IGNORECASE)


Keyed = dict[PurePosixPath, list[PurePosixPath]]
"""Files by what makes their scene's id."""


@pydantic_dataclass(frozen=True, config=ConfigDict(json_schema_extra=describe_fields))
class Finding:
    """Something worth saying about the data."""

    severity: Severity
    """An ``error`` keeps its scene from being used."""
    code: FindingCode
    """What kind of finding it is."""
    text: str
    """The finding in words."""
    scene: str | None = None
    """The scene that it is about, where there is one."""

    def described(self) -> str:
        """Return it in the current language, with how much it matters."""
        words = {"error": gettext("error"), "warning": gettext("warning"), "note": gettext("note")}
        return f"{words[self.severity]}: {translated(self.text)}"


@dataclass(frozen=True)
class Pair:
    """An image with its mask, if it has one; ``group`` names the folder that it shares with others.

    ``mask_source`` and ``image_source`` are the files that these were made of, where they were made here.
    """

    id: str
    image: Path
    mask: Path | None
    group: str
    mask_source: Path | None = None
    image_source: Path | None = None


@dataclass(frozen=True)
class Pairs:
    """All pairs that one naming finds, and findings about the other files."""

    naming: Naming
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    legend: str | None = None
    """Shipped legend of the public data set that the names are those of."""

    @property
    def labelled(self) -> int:
        """Number of images with a mask."""
        return sum(pair.mask is not None for pair in self.pairs)


def list_files(
    data: Path, suffixes: tuple[str, ...] = SUFFIXES
) -> tuple[tuple[PurePosixPath, ...], tuple[Finding, ...]]:
    """List the image files below a folder, by path below it, in order.

    Args:
        data: The folder. Names that begin with a dot are passed over.
        suffixes: Endings of the files.
    Returns:
        Paths below ``data``; findings for names with control characters and links that leave the folder.
    Raises:
        SceneError: ``data`` or a folder below it is missing or cannot be listed.
    """
    if not data.is_dir():
        raise SceneError(f"{data}: is not a folder. Give the folder with the scenes as --data.")
    root = data.resolve()
    files: list[PurePosixPath] = []
    findings: list[Finding] = []
    for folder, folders, names in os.walk(data, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*names, *(name for name in folders if Path(folder, name).is_symlink())):
            path = Path(folder, name)
            below = PurePosixPath(path.relative_to(data).as_posix())
            if name.startswith(".") or (path.suffix.lower() not in suffixes and not path.is_dir()):
                continue
            finding = _check_name(below) or _check_link(path, below, root)
            if finding:
                findings.append(finding)
            elif not path.is_dir():
                files.append(below)
    return tuple(sorted(files)), tuple(findings)


def find_pairs(data: Path, files: Iterable[PurePosixPath], naming: Naming) -> Pairs:
    """Pair images with masks under one naming.

    Args:
        data: The folder.
        files: Paths below it, from :func:`list_files`.
        naming: The naming to try.
    Returns:
        The pairs in the order of their images' paths; findings for masks without an image, and for images whose mask
        is missing or ambiguous.
    """
    images, masks = _PAIRINGS[naming](tuple(files))
    ids = _short_ids(images) if naming == "kaggle" else {key: str(key) for key in images}
    return make_pairs(data, naming, images, masks, ids)


def make_pairs(data: Path, naming: Naming, images: Keyed, masks: Keyed, ids: Mapping[PurePosixPath, str]) -> Pairs:
    """Make pairs of images and masks that have the same key."""
    findings: list[Finding] = []
    parents = {_group(key): None for key in images}
    pairs: list[Pair] = []
    for key, candidates in sorted(images.items(), key=lambda item: item[1]):
        mine = masks.get(key, [])
        problem = _ambiguous(candidates, mine)
        if problem:
            findings.append(Finding("error", "ambiguous", f"{data / candidates[0]}: {problem}", ids[key]))
            continue
        group = _group(key) if len(parents) > 1 and _group(key) else ids[key]
        pairs.append(Pair(ids[key], data / candidates[0], data / mine[0] if mine else None, group))
    for key in sorted(masks.keys() - images.keys()):
        text = f"{data / masks[key][0]}: mask without an image. Add the image or remove the mask."
        findings.append(Finding("error", "missing-image", text, str(key)))
    return Pairs(naming, tuple(pairs), tuple(findings))


def _pair_by_id(files: tuple[PurePosixPath, ...]) -> tuple[Keyed, Keyed]:
    """Find ``119_sat.jpg`` and ``119_mask.png`` in one folder."""
    parts: dict[str, Keyed] = {"sat": defaultdict(list), "mask": defaultdict(list)}
    for path in files:
        match = _KAGGLE.fullmatch(path.stem)
        if match:
            parts[match["part"].lower()][path.parent / match["id"]].append(path)
    return parts["sat"], parts["mask"]


def _pair_by_folder(files: tuple[PurePosixPath, ...]) -> tuple[Keyed, Keyed]:
    """Find ``images/a.jpg`` and ``masks/a.png`` below one parent; the mask may end in ``_mask`` or ``_label``."""
    images: Keyed = defaultdict(list)
    masks: Keyed = defaultdict(list)
    for path in files:
        for depth, part in enumerate(path.parts[:-1]):
            kind = images if part.lower() in IMAGE_FOLDERS else masks if part.lower() in MASK_FOLDERS else None
            if kind is not None:
                kind[PurePosixPath(*path.parts[:depth], *path.parts[depth + 1 : -1], path.stem)].append(path)
                break
    for key in [key for key in masks if key not in images]:
        match = _LABEL.fullmatch(key.name)
        if match and (base := key.parent / match["base"]) in images and base not in masks:
            masks[base] = masks.pop(key)
    return images, masks


def _pair_by_suffix(files: tuple[PurePosixPath, ...]) -> tuple[Keyed, Keyed]:
    """Find ``area_label.tif`` beside ``area.tif`` or ``area_rgbn.tif``."""
    rasters = [path for path in files if path.suffix.lower() in (".tif", ".tiff", ".jp2", ".vrt", ".img")]
    labels = {path: match["base"] for path in rasters if (match := _LABEL.fullmatch(path.stem))}
    images: Keyed = defaultdict(list)
    masks: Keyed = defaultdict(list)
    for path in rasters:
        if path not in labels:
            images[path.parent / path.stem].append(path)
    for path, base in labels.items():
        siblings = [key for key in images if key.parent == path.parent]
        keys = [key for key in siblings if key.name == base]
        keys = keys or [key for key in siblings if key.name.startswith((f"{base}_", f"{base}-"))]
        for key in keys[1:]:
            images[keys[0]] += images.pop(key)
        masks[keys[0] if keys else path.parent / base].append(path)
    return images, masks


def bare_name(stem: str) -> str:
    """Return a mask's name without its ending ``_label``, ``_mask`` or ``_gt``."""
    match = _LABEL.fullmatch(stem)
    return match["base"] if match else stem


def _pair_vectors(files: tuple[PurePosixPath, ...]) -> tuple[Keyed, Keyed]:
    """Find ``labels/a.shp`` for ``images/a.tif``, ``a_label.gpkg`` or ``a.shp`` beside ``a.tif``, or one for all."""
    vectors = [path for path in files if path.suffix.lower() in VECTOR_SUFFIXES]
    rasters = [path for path in files if path.suffix.lower() not in VECTOR_SUFFIXES]
    images, masks = _pair_by_folder(files)
    if images and masks:
        return {key: [p for p in paths if p in rasters] for key, paths in images.items()}, masks
    images = {path.with_suffix(""): [path] for path in rasters}
    masks = defaultdict(list)
    for path in vectors:
        match = _LABEL.fullmatch(path.stem)
        names = {path.stem, match["base"] if match else path.stem}
        keys = [key for key in images if key.parent == path.parent and key.name in names]
        for key in keys or (images if len(vectors) == 1 else [path.with_suffix("")]):
            masks[key].append(path)
    return images, masks


_PAIRINGS: Mapping[Naming, Callable[[tuple[PurePosixPath, ...]], tuple[Keyed, Keyed]]] = {
    "kaggle": _pair_by_id,
    "folders": _pair_by_folder,
    "suffix": _pair_by_suffix,
    "vector": _pair_vectors,
}


def _short_ids(images: Keyed) -> dict[PurePosixPath, str]:
    """Name scenes by their numbers alone where no two share one, else with their folders."""
    names = Counter(key.name for key in images)
    unique = all(count == 1 for count in names.values())
    return {key: key.name if unique else str(key) for key in images}


def _group(key: PurePosixPath) -> str:
    """Return the folder that a scene shares with others, without folders that are named after a split."""
    parts = [part for part in key.parent.parts if part.lower() not in SPLIT_FOLDERS]
    return "/".join(parts)


def _ambiguous(images: list[PurePosixPath], masks: list[PurePosixPath]) -> str | None:
    """Say which files there are twice, if any."""
    for kind, paths in (("images", images), ("masks", masks)):
        if len(paths) > 1:
            return f"{len(paths)} {kind} fit each other ({', '.join(map(str, paths))}). Keep one of them."
    return None


def _check_name(below: PurePosixPath) -> Finding | None:
    """Refuse names that no list and no one-line message can hold; spaces and any script are welcome."""
    for end, part in enumerate(below.parts, start=1):
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in part):
            named = str(PurePosixPath(*below.parts[:end]))
            text = f"{named!a}: the name has a line break or another control character. Rename the file."
            if end < len(below.parts):
                text = f"{named!a}: the name has a line break or another control character. Rename the folder."
            return Finding("error", "name", text, ascii(below.stem))
    return None


def _check_link(path: Path, below: PurePosixPath, root: Path) -> Finding | None:
    """Refuse links that lead out of the data folder or nowhere."""
    if not path.is_symlink():
        return None
    try:
        target, there = path.resolve(strict=True), True
    except FileNotFoundError:
        target, there = path.resolve(strict=False), False
    except (OSError, RuntimeError):  # links that lead in a circle: the error is another in Python 3.13
        return Finding("error", "link", f"{path}: is a link that leads to itself. Mend or remove it.", below.stem)
    if not there:
        text = f"{path}: is a link to {target}, which does not exist. Mend or remove it."
    elif not target.is_relative_to(root):
        text = (
            f"{path}: is a link that leaves the data folder (to {target}). Copy what it points to, or give that folder."
        )
    else:
        return None
    return Finding("error", "link", text, below.stem)


def _refuse(error: OSError) -> None:
    """Turn a folder that cannot be listed into our error."""
    raise SceneError(
        f"{error.filename}: folder cannot be listed ({error.strerror}). Give yourself permission to read it."
    ) from error


def scenes_of_path(word: str, by_name: Mapping[str, list[str]]) -> list[str]:
    """Find the scenes of an id, a file name or a path, which may begin above the data folder: the longest end counts.

    Example:
        >>> scenes_of_path("/home/me/data/train/119_sat.jpg", {"119": ["train/119"]})
        ['train/119']
    """
    parts = PurePosixPath(word.replace("\\", "/")).parts
    for first in range(len(parts)):
        path = "/".join(parts[first:])
        stem = path.rsplit(".", 1)[0]
        for name in (path, stem, stem.removesuffix("_sat").removesuffix("_mask")):
            if name in by_name:
                return by_name[name]
    return []
