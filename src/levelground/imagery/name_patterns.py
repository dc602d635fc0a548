"""Pair images with masks by patterns of paths, the user's own or those of public data sets."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from levelground.config import PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.imagery.layouts import SUFFIXES, VECTOR_SUFFIXES, Finding, Keyed, Pair, Pairs, list_files, make_pairs
from levelground.reading import is_whole_number

_KINDS = 8  # kinds of files in a message
_UNREAD_VECTORS = (".fgb", ".kml", ".kmz", ".gml", ".gpx", ".tab", ".mif", ".dxf", ".zip")
_FEW_BANDS = 3  # fewer files are taken for scenes
_LIKE_LABELS = re.compile(r"label|mask|msk|truth|[_./-](gt|lc|ref|annot)", re.IGNORECASE)
_UNLIKE_IMAGES = re.compile(r"[_./-]n?(dem|dsm|dtm|dhm|elev|height|slope|scl|cloud|qa)", re.IGNORECASE)
_BAND = re.compile(r"(?<![A-Za-z0-9])(SR_)?B\d{1,2}A?(?![A-Za-z0-9])")
_LIKE_IMAGES = re.compile(r"ima?ge?|sat|rgb|ortho|naip|s2|l8|scene", re.IGNORECASE)


@dataclass(frozen=True)
class KnownSet:
    """A public data set whose file names are like no other's: patterns of its images and labels, and its legend."""

    images: str
    labels: str
    legend: str | None = None


KNOWN_SETS = (
    KnownSet("**/images_png/*.png", "**/masks_png/*.png", "loveda"),
    KnownSet("**/IMG_{id}.tif", "**/MSK_{id}.tif", "flair"),
    KnownSet("**/S2Hand/{id}_S2Hand.tif", "**/LabelHand/{id}_LabelHand.tif", "sen1floods11"),
    KnownSet("**/{id}_merged.tif", "**/{id}.mask.tif", "hls-burn-scars"),
    KnownSet("**/top_potsdam_{id}_RGB.tif", "**/top_potsdam_{id}_label.tif", "isprs-potsdam"),
    KnownSet("**/top_potsdam_{id}_IRRG.tif", "**/top_potsdam_{id}_label.tif", "isprs-potsdam"),
    KnownSet("**/top/{id}.tif", "**/gts_for_participants/{id}.tif", "isprs-vaihingen"),
    KnownSet("**/image_RGB/{id}.tif", "**/label_15classes/{id}_15label.tif", "gid-15"),
    KnownSet("**/{id}_naip-new.tif", "**/{id}_lc.tif"),
)
"""Data sets that are told by the names of their files, in the order tried."""


def find_pairs_by_pattern(data: Path, files: Iterable[PurePosixPath], images: str, labels: str) -> Pairs:
    """Pair images with masks by two patterns of paths.

    Args:
        data: The folder.
        files: Paths below it, from :func:`list_files`.
        images: Pattern of the images' paths below ``data``, such as ``S2Hand/{id}_S2Hand.tif``.
        labels: Pattern of the masks' paths. A mask belongs to the image whose names in braces are the same; without
            braces, to the image for which the wildcards ``*`` and ``**/`` stand for the same.
    Returns:
        As :func:`find_pairs`.
    Raises:
        ConfigError: The two patterns capture different names, or a pattern fits no file.
    Example:
        >>> files = [PurePosixPath("a/x_1.tif"), PurePosixPath("b/y_1.tif")]
        >>> pairs = find_pairs_by_pattern(Path("d"), files, "a/x_*.tif", "b/y_*.tif").pairs
        >>> [(pair.id, pair.mask.as_posix()) for pair in pairs]
        [('1', 'd/b/y_1.tif')]
    """
    files = tuple(files)
    first, second = _compile("--images", images), _compile("--labels", labels)
    if {*first.groupindex} != {*second.groupindex} and second.groupindex:
        told = [_captured(pattern) for pattern in (first, second)]
        raise ConfigError(
            f"--images '{images}' --labels '{labels}': the first captures {told[0]}, the second {told[1]}. Capture the "
            "same in both, such as --images 'images/{id}.tif' --labels 'labels/{id}_label.tif'."
        )
    found = [_matches(pattern, files) for pattern in (first, second)]
    if not second.groupindex and len(found[1]) == 1:  # one mask for all images
        found[1] = dict.fromkeys(found[0], next(iter(found[1].values())))
    for flag, pattern, keyed in zip(("--images", "--labels"), (images, labels), found, strict=True):
        if not keyed:
            raise ConfigError(f"{flag} '{pattern}': fits no file. {describe_files(data, files)}")
    both = {*found[0]} & {*found[1]}
    if not both:
        shown = [f"{next(iter(sorted(keyed)))}" for keyed in found]
        raise ConfigError(
            f"--images '{images}' --labels '{labels}': no image and mask belong together: the images are read as "
            f"{shown[0]} …, the masks as {shown[1]} …. Put the part that both share in braces as {{id}}."
        )
    return make_pairs(data, "pattern", found[0], found[1], {key: str(key) for key in found[0]})


def files_by_pattern(flag: str, data: Path, pattern: str) -> dict[str, Path]:
    """Find the rasters and vector files below a folder that a pattern names, by what it captures.

    Args:
        flag: The flag that the pattern was given with, for errors.
        data: The folder.
        pattern: As in :func:`find_pairs_by_pattern`; without wildcards one file, under the name "".
    Raises:
        ConfigError: It fits no file, or two for the same name.
    """
    files = list_files(data, SUFFIXES + VECTOR_SUFFIXES)[0]
    compiled = _compile(flag, pattern)
    found = _matches(compiled, files)
    if not found or any(len(paths) > 1 for paths in found.values()):
        why = "fits two files of one name" if found else f"fits no file. {describe_files(data, files)}"
        raise ConfigError(f"{flag} '{pattern}': {why}")
    return {str(key) if compiled.groupindex else "": data / paths[0] for key, paths in found.items()}


def exclusion_layers(
    data: Path, pairs: Sequence[Pair], options: PrepareOptions
) -> dict[str, list[tuple[Path, frozenset[int], bool]]]:
    """Find the layers that ``--exclude`` and ``--within`` name, by the id of the scene that they belong to.

    A pattern without wildcards is one file for all scenes. Otherwise what it captures is a scene's id or the name of
    its image.

    Raises:
        ConfigError: A pattern fits no file, or a value is not a whole number.
        SceneError: A scene has no file of a pattern.
    """
    layers: dict[str, list[tuple[Path, frozenset[int], bool]]] = {pair.id: [] for pair in pairs}
    for flag, texts in (("--exclude", options.exclude), ("--within", options.within)):
        for text in texts:
            pattern, equals, listed = text.partition("=")
            if equals and not all(is_whole_number(part.strip()) for part in listed.split(",")):
                raise ConfigError(f"{flag} {text!r}: expected PATTERN=VALUES, such as 'scl/*.tif=3,8,9,10'.")
            values = frozenset(int(part) for part in listed.split(",")) if equals else frozenset()
            files = files_by_pattern(flag, data, pattern)
            for pair in pairs:
                file = files.get("") or files.get(pair.id) or files.get(pair.image.stem)
                if file is None:
                    found = ", ".join(sorted(files)[:4])
                    raise SceneError(f"{flag} {pattern!r}: has no file for scene {pair.id} (found {found} …). Add it.")
                layers[pair.id].append((file, values, flag == "--within"))
    return layers


def find_known_set(data: Path, files: Iterable[PurePosixPath]) -> Pairs | None:
    """Find the public data set whose names the files have; ``None`` where they have no such names."""
    files = tuple(files)
    for known in KNOWN_SETS:
        keyed = [_matches(_compile("", pattern), files) for pattern in (known.images, known.labels)]
        if {*keyed[0]} & {*keyed[1]}:
            pairs = make_pairs(data, "pattern", keyed[0], keyed[1], {key: str(key) for key in keyed[0]})
            # The folders of these sets are sets of a split and kinds of land, not places.
            alone = tuple(replace(pair, group=pair.id) for pair in pairs.pairs)
            return replace(pairs, pairs=alone, legend=known.legend)
    return None


def _kinds_of_files(files: Iterable[PurePosixPath]) -> dict[str, list[PurePosixPath]]:
    """Sort files by folder and ending, as patterns name them."""
    kinds: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in files:
        ending = re.search(r"[._-][A-Za-z][A-Za-z0-9-]*$", path.stem)
        start = "" if ending else (re.match(r"[A-Za-z]+_", path.stem) or [""])[0]
        kinds[(path.parent / f"{start}*{ending[0] if ending else ''}{path.suffix}").as_posix()].append(path)
    return kinds


def list_kinds(files: Iterable[PurePosixPath]) -> str:
    """List the kinds of some files, with their numbers.

    Example:
        >>> list_kinds([PurePosixPath("scl/a.tif"), PurePosixPath("scl/b.tif")])
        'scl/*.tif (2)'
    """
    kinds = _kinds_of_files(files)
    shown = ", ".join(f"{pattern} ({len(paths)})" for pattern, paths in sorted(kinds.items())[:_KINDS])
    return shown + (f", and {len(kinds) - _KINDS} more kinds" if len(kinds) > _KINDS else "")


def describe_files(data: Path, files: Iterable[PurePosixPath]) -> str:
    """Say which image files lie below a folder, by folder and ending, with an example of patterns that name them."""
    files = tuple(files)
    kinds = _kinds_of_files(files)
    if not kinds:
        return f"{data} holds no image file ({' '.join(SUFFIXES)})."
    shown = list_kinds(files)
    unread = [p for p in list_files(data, _UNREAD_VECTORS)[0] if p.suffix != ".zip" or _LIKE_LABELS.search(str(p))]
    if unread:
        source, target = data / unread[0], data / unread[0].with_suffix(".gpkg")
        how = f"unzip {source} -d {source.parent}" if source.suffix.lower() == ".zip" else f"ogr2ogr {target} {source}"
        return (
            f"Found: {shown}, {list_kinds(unread)}. Polygons are read from GeoPackage, GeoJSON and shapefiles: write "
            f"each as one of these, such as {how}"
        )
    bands = sorted({match[0] for path in files if (match := _BAND.search(path.stem))})
    bands, masks = (bands, "") if len(bands) > 1 else _parts_of_one_scene(files)
    if len(bands) > 1:
        return (
            f"Found: {shown}. If bands are files of their own, name those to be read: --bands "
            f'"{" ".join(bands)}"{masks}; else name images and masks by patterns, --images and --labels.'
        )
    common = sorted(kinds, key=lambda pattern: (-len(kinds[pattern]), pattern))
    label = next((one for one in common if _LIKE_LABELS.search(one)), common[-1] if len(common) > 1 else None)
    rest = [one for one in common if one != label and not _LIKE_LABELS.search(one)]
    rest = [one for one in rest if not _UNLIKE_IMAGES.search(one)] or rest
    image = next((one for one in rest if _LIKE_IMAGES.search(one)), rest[0] if rest else None)
    images, labels = (image, label) if image and label else ("images/*.tif", "labels/*_label.tif")
    return (
        f"Found: {shown}. Name images and masks by patterns, such as --images '{images}' --labels '{labels}', or "
        "with {id} for what both share."
    )


def describe_no_scene(data: Path, findings: tuple[Finding, ...]) -> str:
    """Say why there is no scene: the first error, else the layouts that are known."""
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        return errors[0] + (f" ({len(errors)} problems in all, and no scene is left.)" if len(errors) > 1 else "")
    return (
        f"{data}: holds no scene with a mask. Expected <id>_sat.jpg with <id>_mask.png, folders images/ and masks/, or "
        "NAME.tif with NAME_label.tif; see docs/layouts.md."
    )


def _parts_of_one_scene(files: Iterable[PurePosixPath]) -> tuple[list[str], str]:
    """Return the last parts of names that are alike but for these, beside at most one file of labels; and its flag."""
    labels = [path for path in files if _LIKE_LABELS.search(path.name)]
    split = [re.split(r"[_.-](?=[^_.-]+$)", path.stem) for path in files if path not in labels]
    if len(labels) > 1 or len(split) < _FEW_BANDS or len({(len(parts), parts[0]) for parts in split}) > 1:
        return [], ""
    return sorted(parts[-1] for parts in split), f" --labels '{labels[0]}'" if labels else ""


def _compile(flag: str, pattern: str) -> re.Pattern[str]:
    """Turn a pattern of paths into a regular expression: ``**/`` any folders, ``*``, ``?``, ``{name}``."""
    text, number, seen = "", 0, set()
    named = re.search(r"\{\w+\}", pattern) is not None
    for part in re.findall(r"\*\*/|\*+|\?|\{\w+\}|[^*?{]+|\{", pattern.removeprefix("./")):
        name = part[1:-1] if part.startswith("{") and len(part) > 1 else f"w{number}"
        if part.startswith("{") and len(part) > 1:
            if name in seen or name[0].isdigit():
                raise ConfigError(f"{flag} '{pattern}': {part} stands twice or begins with a digit. Name it once.")
            seen.add(name)
            text += f"(?P<{name}>[^/]+)"
        elif part in ("**/", "*", "**"):
            inner = {"**/": "(?:.+/)?", "*": "[^/]*", "**": ".*"}[part]
            text += f"(?:{inner})" if named else f"(?P<{name}>{inner})"
            number += 1
        else:
            text += "[^/]" if part == "?" else re.escape(part)
    return re.compile(text, re.IGNORECASE if not flag else 0)


def _captured(pattern: re.Pattern[str]) -> str:
    """Say what a pattern captures."""
    names = [name for name in pattern.groupindex if not re.fullmatch(r"w\d+", name)]
    if names:
        return ", ".join(f"{{{name}}}" for name in names)
    return f"{len(pattern.groupindex)} wildcard{'s' * (len(pattern.groupindex) != 1)}"


def _matches(pattern: re.Pattern[str], files: Iterable[PurePosixPath]) -> Keyed:
    """Find the files of a pattern by what it captures; one file without wildcards is named after itself."""
    keyed: Keyed = defaultdict(list)
    for path in files:
        match = pattern.fullmatch(str(path))
        if match:
            parts = [match[name] for name in sorted(pattern.groupindex)]
            keyed[PurePosixPath("/".join(part.strip("/") for part in parts if part) or "scene")].append(path)
    return keyed
