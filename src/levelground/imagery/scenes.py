"""Find the scenes of a data folder: which layout it has, which legend, and which scenes are sound."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levelground.errors import ConfigError, SceneError
from levelground.imagery.geotiff import read_info
from levelground.imagery.headers import ImageHeader, check_type, read_header
from levelground.imagery.layouts import Finding, FindingCode, Naming, Pair, Pairs, find_pairs, list_files
from levelground.imagery.legend import DEEPGLOBE, Legend, default_legend
from levelground.imagery.mask_coding import cut_blocks, given_legend, largest_index, refuse_colours, tell_coding
from levelground.imagery.scene_reader import Coding, SceneFile, check_partners, read_labels, read_pixels, read_scene

__all__ = ["Finding", "Found", "Layout", "SceneFile", "find_scenes", "read_labels", "read_pixels", "read_scene"]

Layout = Literal["kaggle", "folders", "index", "geotiff", "raster"]

MIN_SIDE = 4
"""The least height and width of a scene, px: one cell of what decoders put out. Smaller files are placeholders."""

_SHOWN = 3
_NAMINGS: dict[Layout | None, tuple[Naming, ...]] = {
    None: ("kaggle", "folders", "suffix"),
    "kaggle": ("kaggle",),
    "folders": ("folders",),
    "index": ("folders", "kaggle", "suffix"),
    "geotiff": ("folders", "suffix", "kaggle"),
    "raster": ("suffix", "folders", "kaggle"),
}


@dataclass(frozen=True)
class Found:
    """What a data folder holds.

    ``lines`` say it for a person; ``findings`` of severity ``error`` name scenes that are not among ``scenes``.
    Scenes without a mask are among ``scenes``, with ``labels`` None.
    """

    layout: Layout
    scenes: tuple[SceneFile, ...]
    legend: Legend
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]
    gsd_m: float | None = None


def find_scenes(data: Path, *, layout: Layout | None = None, legend: Path | None = None, block: int = 256) -> Found:
    """Find the scenes of a folder and check their headers; no scene is decoded but index masks without a legend.

    Args:
        data: The folder.
        layout: Its layout; ``None`` looks.
        legend: A legend file; ``None`` takes ``legend.toml`` in ``data``, then what the layout implies.
        block: Side in pixels of the blocks that a large raster is cut into.
    Returns:
        The scenes in the order of their files' paths, the legend, and what there is to say.
    Raises:
        SceneError: The folder is missing, cannot be listed, or holds no scene with a mask.
        LegendError: The legend is wrong, or masks hold colours and there is none.
        ConfigError: ``block`` is below 1.
    """
    if block < 1:
        raise ConfigError(f"--block {block}: expected a side in pixels, at least 1 (default 256).")
    pairs, findings = _find_pairs(data, layout)
    headers, bad = _read_headers(pairs.pairs)
    findings += bad
    sound = tuple(pair for pair in pairs.pairs if pair.image in headers)
    masks = {pair.mask: headers[pair.mask] for pair in sound if pair.mask}
    if not masks:
        raise SceneError(_no_scene(data, findings))
    chosen = given_legend(data, legend)
    coding = _coding(layout, masks, chosen[0] if chosen else None)
    if chosen:
        classes, told = chosen[0], f"from {chosen[1]}"
    elif coding == "colour" and pairs.naming == "kaggle":
        classes, told = DEEPGLOBE, "built in"
    elif coding == "colour":
        raise refuse_colours(data, masks)
    else:
        classes, sound, bad = _default_legend(sound, headers)
        findings += bad
        told = "no legend file: the classes are numbered, 255 = no data"
    seen = layout or _look(pairs, sound, headers, coding)
    if seen == "raster":
        scenes, findings, line = _cut(sound, headers, coding, classes, block, findings)
    else:
        scenes = tuple(SceneFile(p.id, p.image, p.mask, None, p.group, coding) for p in sound)
        line = _count(sound)
    if not any(scene.labels for scene in scenes):
        raise SceneError(_no_scene(data, findings))
    lines = (
        f"layout {seen}{'' if layout else ' (found by looking; --layout overrides)'}: {line}; masks hold "
        f"{'colours' if coding == 'colour' else 'class indices'}",
        f"legend {classes.name}, {classes.n_classes} classes, {int(classes.counted.sum())} counted ({told})",
    )
    return Found(seen, scenes, classes, lines, findings + _notes(sound, headers), _gsd(sound, headers))


def _find_pairs(data: Path, layout: Layout | None) -> tuple[Pairs, tuple[Finding, ...]]:
    """Try the namings in turn; the first that pairs anything is taken."""
    files, findings = list_files(data)
    tried = [find_pairs(data, files, naming) for naming in _NAMINGS[layout]]
    found = next((pairs for pairs in tried if pairs.labelled), tried[0])
    return found, findings + found.findings


def _read_headers(pairs: Iterable[Pair]) -> tuple[dict[Path, ImageHeader], tuple[Finding, ...]]:
    """Read and check all headers; a scene with an error has none in the result."""
    headers: dict[Path, ImageHeader] = {}
    findings: list[Finding] = []
    for pair in pairs:
        try:
            image = read_header(pair.image)
            check_type(pair.image, image)
            _check_side(pair.image, image)
            if pair.mask:
                mask = read_header(pair.mask)
                check_partners(pair.image, image, pair.mask, mask)
                headers[pair.mask] = mask
            headers[pair.image] = image
        except SceneError as error:
            findings.append(Finding("error", "unreadable", str(error), pair.id))
    kinds = Counter((headers[p.image].image_bands, headers[p.image].dtype) for p in pairs if p.image in headers)
    if len(kinds) > 1:
        (bands, dtype), _ = kinds.most_common(1)[0]
        for pair in pairs:
            header = headers.get(pair.image)
            if header and (header.image_bands, header.dtype) != (bands, dtype):
                del headers[pair.image]
                text = (
                    f"{pair.image}: has {header.image_bands} bands of {header.dtype}, most scenes have {bands} of "
                    f"{dtype}. Give all scenes the same bands and type."
                )
                findings.append(Finding("error", "unlike-bands", text, pair.id))
    return headers, tuple(findings)


def _check_side(path: Path, header: ImageHeader) -> None:
    """Refuse scenes of next to no pixels."""
    if min(header.height, header.width) < MIN_SIDE:
        raise SceneError(
            f"{path}: has {header.width} × {header.height} pixels, expected at least {MIN_SIDE} each way. "
            "Replace or remove the scene."
        )


def _coding(layout: Layout | None, masks: dict[Path, ImageHeader], legend: Legend | None) -> Coding:
    """What the masks hold: as the layout says, else by looking."""
    if layout == "index":
        return "index"
    return "colour" if layout in ("kaggle", "folders") else tell_coding(masks, legend)


def _default_legend(
    pairs: tuple[Pair, ...], headers: dict[Path, ImageHeader]
) -> tuple[Legend, tuple[Pair, ...], tuple[Finding, ...]]:
    """Number the classes from 0 to the largest index of all masks; drop scenes whose mask is no index mask."""
    largest = 1  # a legend of one class leaves nothing to tell apart
    sound: list[Pair] = []
    findings: list[Finding] = []
    for pair in pairs:
        try:
            largest = max(largest, largest_index(pair.mask, headers[pair.mask]) if pair.mask else -1)
            sound.append(pair)
        except SceneError as error:
            findings.append(Finding("error", "unreadable", str(error), pair.id))
    return default_legend(largest + 1), tuple(sound), tuple(findings)


def _look(pairs: Pairs, sound: tuple[Pair, ...], headers: dict[Path, ImageHeader], coding: Coding) -> Layout:
    """Name the layout by what was found."""
    labelled = [pair for pair in sound if pair.mask]
    if all(headers[pair.image].format == "tiff" for pair in labelled):
        return "raster" if len(labelled) == 1 else "geotiff"
    if coding == "index":
        return "index"
    return "kaggle" if pairs.naming == "kaggle" else "folders"


def _cut(
    pairs: tuple[Pair, ...],
    headers: dict[Path, ImageHeader],
    coding: Coding,
    legend: Legend,
    block: int,
    findings: tuple[Finding, ...],
) -> tuple[tuple[SceneFile, ...], tuple[Finding, ...], str]:
    """Cut rasters into blocks; blocks of one raster alone are each their own group."""
    scenes: list[SceneFile] = []
    empty = 0
    labelled = [(pair, pair.mask) for pair in pairs if pair.mask]
    for pair, mask in labelled:
        if headers[pair.image].format != "tiff" or headers[mask].format != "tiff":
            text = (
                f"{pair.image}: layout raster reads through windows, which needs TIFF. Save image and mask as GeoTIFF."
            )
            raise SceneError(text)
        try:
            windows, left_out = cut_blocks(mask, headers[mask], block=block, coding=coding, legend=legend)
        except SceneError as error:
            findings += (Finding("error", "unreadable", str(error), pair.id),)
            continue
        empty += left_out
        for window in windows:
            name = f"{pair.id}/r{window[0]:05d}-c{window[1]:05d}"
            group = pair.id if len(labelled) > 1 else name
            scenes.append(SceneFile(name, pair.image, mask, window, group, coding))
    line = f"{len(labelled)} raster{'s' * (len(labelled) != 1)} cut into blocks of {block} px: {len(scenes)} blocks"
    if empty:
        line += f", {empty} more without a valid label pixel left out"
        findings += (Finding("note", "empty-blocks", f"{empty} blocks have no valid label pixel and are left out."),)
    return tuple(scenes), findings, line


def _count(pairs: tuple[Pair, ...]) -> str:
    """How many scenes, with and without masks."""
    bare = [pair.id for pair in pairs if pair.mask is None]
    return f"{len(pairs) - len(bare)} scenes with a mask" + (f", {len(bare)} without" if bare else "")


def _notes(pairs: tuple[Pair, ...], headers: dict[Path, ImageHeader]) -> tuple[Finding, ...]:
    """What is done to some images, and which scenes have no mask: one note each, with a few names."""
    bare = [pair for pair in pairs if pair.mask is None]
    turned = [pair for pair in pairs if headers[pair.image].orientation > 1]
    alpha = [pair for pair in pairs if headers[pair.image].alpha]
    palette = [pair for pair in pairs if headers[pair.image].palette]
    cases: tuple[tuple[FindingCode, str, list[Pair]], ...] = (
        ("no-mask", "without a mask: neither trained nor tested on", bare),
        ("turned", "turned upright by their EXIF orientation", turned),
        ("alpha", "with an alpha band: it is dropped, and pixels of alpha 0 become no data", alpha),
        ("palette", "with a palette, read as colours", palette),
    )
    notes = []
    for code, text, found in cases:
        if found:
            names = ", ".join(pair.id for pair in found[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
            notes.append(Finding("note", code, f"{len(found)} of {len(pairs)} images {text} ({names})."))
    return tuple(notes)


def _gsd(pairs: tuple[Pair, ...], headers: dict[Path, ImageHeader]) -> float | None:
    """The ground sampling distance of the first image, where it is georeferenced in metres."""
    return next((read_info(p.image).gsd_m for p in pairs if headers[p.image].format == "tiff"), None)


def _no_scene(data: Path, findings: tuple[Finding, ...]) -> str:
    """Say why there is nothing to read: the first error, else the layouts that are known."""
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        return errors[0] + (f" ({len(errors)} problems in all, and no scene is left.)" if len(errors) > 1 else "")
    return (
        f"{data}: holds no scene with a mask. Expected <id>_sat.jpg with <id>_mask.png, folders images/ and masks/, or "
        "NAME.tif with NAME_label.tif; see docs/layouts.md."
    )
