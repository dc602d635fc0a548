"""Find the scenes of a data folder: tell its layout, legend and coding of masks, check headers, cut large rasters.

Files are paired by name in :mod:`~levelground.imagery.layouts`; pixels are decoded later, by
:mod:`~levelground.imagery.scene_pixels`. Here, headers are checked, and masks are opened only to tell whether they hold
colours or class indices, which indices, and which blocks of a label raster have labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.config import Layout, PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.imagery.band_stack import find_stacks, source_files
from levelground.imagery.geotiff import Pixels, Window, raster_writer
from levelground.imagery.grids import read_onto
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import read_indices
from levelground.imagery.layouts import (
    NAMINGS,
    SUFFIXES,
    VECTOR_SUFFIXES,
    Finding,
    FindingCode,
    Pair,
    Pairs,
    find_pairs,
    list_files,
)
from levelground.imagery.legend import DEEPGLOBE, IGNORE, Legend
from levelground.imagery.legend_sources import given_legend, read_legend, with_nodata
from levelground.imagery.name_patterns import (
    describe_files,
    describe_no_scene,
    exclusion_layers,
    find_known_set,
    find_pairs_by_pattern,
    list_kinds,
)
from levelground.imagery.scene_pixels import (
    SceneFile,
    block_sides,
    check_partners,
    check_side,
    labelled_blocks,
    needs_alignment,
)
from levelground.imagery.stored_values import (
    Coding,
    colours_without_legend,
    legend_of_masks,
    occurring_values,
    tell_coding,
)
from levelground.imagery.vector_labels import (
    draw_shapes,
    draw_vectors,
    file_sums,
    grid_of,
    is_vector,
    raster_info,
    read_features,
    strips_of,
)
from levelground.records import sha256_json

_ANY_FILES = PrepareOptions()
_SHIPPED = "shipped, told by the names of the files; --legend overrides"
_SHOWN = 3  # names in a note


@dataclass(frozen=True)
class FoundScenes:
    """The scenes of a data folder, its layout and its legend.

    ``lines`` say it for a person; ``findings`` of severity ``error`` name scenes that are not among ``scenes``.
    Scenes without a mask are among ``scenes``, with ``labels`` None.
    """

    layout: Layout
    scenes: tuple[SceneFile, ...]
    legend: Legend
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]
    gsd_m: float | None = None


def find_scenes(
    data: Path,
    *,
    layout: Layout | None = None,
    legend: Path | None = None,
    block: int = 256,
    align: bool = False,
    options: PrepareOptions = _ANY_FILES,
) -> FoundScenes:
    """Find the scenes of a folder and check their headers; only index masks without a legend are decoded.

    Args:
        data: The folder.
        layout: Its layout; ``None`` tells it from the files.
        legend: A legend file; ``None`` takes ``legend.toml`` in ``data``, then what the layout implies.
        block: Side in pixels of the blocks that a large raster is cut into.
        align: Bring masks that lie on another grid onto their image's, by nearest neighbour.
        options: Which files are images and labels, and how labels are read.
    Returns:
        The scenes in the order of their files' paths, the legend, and what there is to say.
    Raises:
        SceneError: The folder is missing, cannot be listed, or holds no scene with a mask.
        LegendError: The legend is wrong, or masks hold colours and there is none.
        ConfigError: ``block`` is below 1.
    """
    if block < 1:
        raise ConfigError(f"--block {block}: expected a side in pixels, at least 1 (default 256).")
    pairs, given, findings = _labelled_pairs(data, layout, legend, options)
    headers, bad = _read_headers(pairs.pairs, align=align)
    findings += bad
    sound = tuple(pair for pair in pairs.pairs if pair.image in headers)
    masks = {pair.mask: headers[pair.mask] for pair in sound if pair.mask}
    if not masks:
        raise SceneError(describe_no_scene(data, findings))
    layers = exclusion_layers(data, sound, options)
    left_out = {pair.id: _draw_exclusion(layers[pair.id], pair.image, options.cache or data) for pair in sound}
    chosen = _choose_legend(data, replace(pairs, pairs=sound), headers, layout, given, options)
    classes, coding, findings = chosen.legend, chosen.coding, findings + chosen.findings
    unread = {finding.scene for finding in chosen.findings if finding.severity == "error"}
    sound = tuple(pair for pair in sound if pair.id not in unread)
    told_layout = layout or _tell_layout(pairs, sound, headers, coding)
    if told_layout == "raster" and options.split != "blocks":
        scenes, more, line = _cut_rasters(sound, headers, coding, classes, block, align=align)
        findings += more
    else:
        scenes = tuple(SceneFile(p.id, p.image, p.mask, None, p.group, coding, align=align) for p in sound)
        line = _count_scenes(sound)
    of_files = {(pair.image, pair.mask): pair for pair in sound}
    scenes = tuple(_with_sources(scene, of_files, left_out) for scene in scenes)
    if not any(scene.labels for scene in scenes):
        raise SceneError(describe_no_scene(data, findings))
    lines = (
        f"layout {told_layout}{'' if layout else ' (detected; --layout overrides)'}: {line}; masks hold "
        f"{'colours' if coding == 'colour' else 'class indices'}",
        f"legend {classes.name}, {classes.n_classes} classes, {int(classes.counted.sum())} counted ({chosen.told})",
        *_told_alignment(scenes),
        *_told_unplaced(sound, headers),
        *_told_unused(data, pairs.pairs, options),
    )
    return FoundScenes(told_layout, scenes, classes, lines, findings + _notes(sound, headers), _gsd(sound, headers))


def _told_alignment(scenes: Iterable[SceneFile]) -> list[str]:
    """Say how many scenes have labels that are brought onto their image's grid."""
    moved = sum(needs_alignment(scene) for scene in scenes)
    return [f"labels of {moved} scenes lie on another grid: nearest neighbour on their image's"] if moved else []


def _told_unplaced(pairs: Iterable[Pair], headers: Mapping[Path, ImageHeader]) -> list[str]:
    """Say how many masks name no place where their images do."""
    masks = [pair.mask for pair in pairs if pair.mask and headers[pair.image].transform]
    bare = [mask.name for mask in masks if not headers[mask].transform]
    return [f"{len(bare)} masks have no place on the ground (first {bare[0]}): row upon row"] if bare else []


def _told_unused(data: Path, pairs: Iterable[Pair], options: PrepareOptions) -> list[str]:
    """Say which image files are neither image nor mask."""
    if options.bands or options.exclude or options.within or options.images:
        return []
    used = {path.resolve() for pair in pairs for path in (pair.image, pair.mask) if path}
    used |= {source.resolve() for path in used for source in source_files(path)}
    rest = [path for path in list_files(data)[0] if (data / path).resolve() not in used]
    return [f"not used: {list_kinds(rest)}; --exclude leaves out what such files mark"] if rest else []


def _labelled_pairs(
    data: Path, layout: Layout | None, legend: Path | None, options: PrepareOptions
) -> tuple[Pairs, tuple[Legend, str] | None, tuple[Finding, ...]]:
    """Find the pairs, polygons drawn as masks; the legend given, or that of the polygons' names; and findings."""
    pairs, findings = _find_pairs(data, layout, options)
    given = given_legend(data, legend)
    pairs, polygons, told = draw_vectors(pairs, options, given[0] if given else None, options.cache or data)
    findings += tuple(Finding("error" if bad else "warning", "polygons", text, scene) for scene, text, bad in told)
    if polygons and polygons.legend and not given:
        given = polygons.legend, f"the field {polygons.field!r} of the polygons"
    return pairs, given, findings


def _with_sources(
    scene: SceneFile, pairs: Mapping[tuple[Path, Path | None], Pair], left_out: Mapping[str, Path | None]
) -> SceneFile:
    """Name in a scene the files that image and labels were made of, and what is left out of it."""
    pair = pairs[scene.image, scene.labels]
    return replace(scene, image_source=pair.image_source, labels_source=pair.mask_source, exclude=left_out[pair.id])


def _find_pairs(data: Path, layout: Layout | None, options: PrepareOptions) -> tuple[Pairs, tuple[Finding, ...]]:
    """Pair files by the patterns given; else try the namings of the layout, then the names of public data sets."""
    if options.bands:
        found = find_stacks(data, options, options.cache or data)
        return found, found.findings
    files, findings = list_files(data)
    if options.images is not None and options.labels is not None:
        every = list_files(data, SUFFIXES + VECTOR_SUFFIXES)[0]
        found = find_pairs_by_pattern(data, every, options.images, options.labels)
        return found, findings + found.findings
    tried = [find_pairs(data, files, naming) for naming in NAMINGS[layout]]
    found = next((pairs for pairs in tried if pairs.labelled), tried[0])
    if not found.labelled or layout is None:
        public = find_known_set(data, files)
        if public and public.labelled >= found.labelled:
            found = public
    if not found.labelled:
        every = list_files(data, SUFFIXES + VECTOR_SUFFIXES)[0]
        drawn = find_pairs(data, every, "vector") if len(every) > len(files) else found
        found = drawn if drawn.labelled else found
    if not found.labelled and not found.findings and not findings and files:
        texts = [finding.text for pairs in tried for finding in pairs.findings]
        read = texts[0] if texts else "no file is named like a mask (see docs/layouts.md)."
        raise SceneError(f"{data}: holds no scene with a mask: {read} {describe_files(data, files)}")
    return found, findings + found.findings


def _read_headers(pairs: Iterable[Pair], *, align: bool) -> tuple[dict[Path, ImageHeader], tuple[Finding, ...]]:
    """Read and check all headers; a scene with an error has none in the result."""
    headers: dict[Path, ImageHeader] = {}
    findings: list[Finding] = []
    for pair in pairs:
        try:
            image = read_header(pair.image)
            check_side(pair.image, image)
            if pair.mask:
                mask = read_header(pair.mask)
                check_partners(pair.image, image, pair.mask, mask, align=align)
                headers[pair.mask] = mask
            headers[pair.image] = image
        except SceneError as error:
            findings.append(Finding("error", "unreadable", str(error), pair.id))
    kinds = Counter(headers[p.image].kind for p in pairs if p.image in headers)
    if len(kinds) > 1:
        (bands, dtype), _ = kinds.most_common(1)[0]
        for pair in pairs:
            header = headers.get(pair.image)
            if header and header.kind != (bands, dtype):
                del headers[pair.image]
                convert = f", on one scale: rio convert {pair.image} FLOAT.tif --dtype float32"
                text = (
                    f"{pair.image}: has {header.image_bands} bands of {header.dtype}, most scenes have {bands} of "
                    f"{dtype}. Give all scenes the same bands and type{convert * (header.image_bands == bands)}."
                )
                findings.append(Finding("error", "unlike-bands", text, pair.id))
    return headers, tuple(findings)


@dataclass(frozen=True)
class _ChosenLegend:
    """A legend, how it came about, what the masks hold, and what there is to say."""

    legend: Legend
    told: str
    coding: Coding
    findings: tuple[Finding, ...] = ()


def _choose_legend(
    data: Path,
    pairs: Pairs,
    headers: dict[Path, ImageHeader],
    layout: Layout | None,
    given: tuple[Legend, str] | None,
    options: PrepareOptions,
) -> _ChosenLegend:
    """Take the legend given, that of the public data set, or one made from the masks' values."""
    masks = {pair.mask: headers[pair.mask] for pair in pairs.pairs if pair.mask}
    public = None if given or pairs.legend is None else read_legend(pairs.legend)
    colours = pairs.naming == "kaggle" and any(one.image_bands >= 3 and not one.palette for one in masks.values())
    implied = DEEPGLOBE if colours else public
    coding = tell_coding(masks, given[0] if given else implied, layout)
    if options.label_nodata and coding == "colour":
        raise ConfigError("--label-nodata: masks hold colours. Name colours without data as ignored in the legend.")
    if given:
        return _ChosenLegend(with_nodata(given[0], options.label_nodata), f"from {given[1]}", coding)
    if coding == "colour":
        if public is None and pairs.naming != "kaggle":
            raise colours_without_legend(data, masks)
        told = "built in" if public is None else _SHIPPED
        return _ChosenLegend(public or DEEPGLOBE, told, coding)
    values, bad = _values_of(pairs, headers, options.label_nodata)
    unread = {finding.scene for finding in bad}
    masks = {pair.mask: headers[pair.mask] for pair in pairs.pairs if pair.mask and pair.id not in unread}
    if public is not None:
        public = with_nodata(public, options.label_nodata)
        foreign = values - {value for value, _ in public.stored} - {IGNORE}
        if not foreign:
            return _ChosenLegend(public, _SHIPPED, coding, bad)
    legend, told, warning = legend_of_masks(masks, values, options.label_nodata)
    if public is not None:
        told += f"; the files are named as those of {public.name}, which has no value {min(foreign)}"
    warned = (Finding("warning", "dropped-values", warning),) if warning else ()
    return _ChosenLegend(legend, told, coding, bad + warned)


def _values_of(
    pairs: Pairs, headers: dict[Path, ImageHeader], nodata: tuple[int, ...]
) -> tuple[set[int], tuple[Finding, ...]]:
    """Find the values of all masks, and the scenes whose mask holds no class indices."""
    values: set[int] = set()
    findings: list[Finding] = []
    for pair in pairs.pairs:
        try:
            values |= occurring_values(pair.mask, headers[pair.mask], nodata) if pair.mask else set()
        except SceneError as error:
            findings.append(Finding("error", "unreadable", str(error), pair.id))
    return values, tuple(findings)


def _tell_layout(pairs: Pairs, sound: tuple[Pair, ...], headers: dict[Path, ImageHeader], coding: Coding) -> Layout:
    """Tell the layout from the naming, the file formats and what the masks hold."""
    labelled = [pair for pair in sound if pair.mask]
    if all(headers[pair.image].format == "tiff" for pair in labelled):
        return "raster" if len(labelled) == 1 else "geotiff"
    if coding == "index":
        return "index"
    return "kaggle" if pairs.naming == "kaggle" else "folders"


def _cut_rasters(
    pairs: tuple[Pair, ...],
    headers: dict[Path, ImageHeader],
    coding: Coding,
    legend: Legend,
    block: int,
    *,
    align: bool,
) -> tuple[tuple[SceneFile, ...], tuple[Finding, ...], str]:
    """Make a scene of each labelled block of each raster; blocks of a single raster are each their own group.

    Returns:
        The scenes, what there is to say about rasters and blocks without a label, and a line for a person.
    """
    scenes: list[SceneFile] = []
    findings: list[Finding] = []
    empty = 0
    labelled = [(pair, pair.mask) for pair in pairs if pair.mask]
    for pair, mask in labelled:
        if headers[pair.image].format != "tiff" or headers[mask].format != "tiff":
            text = (
                f"{pair.image}: layout raster reads through windows, which needs TIFF. Save image and mask as GeoTIFF."
            )
            raise SceneError(text)
        try:
            whole = SceneFile(pair.id, pair.image, mask, coding=coding, align=align)
            image = headers[pair.image]
            sides = list(block_sides(image.height, block)), list(block_sides(image.width, block))
            windows, left_out = labelled_blocks(whole, *sides, legend)
        except SceneError as error:
            findings.append(Finding("error", "unreadable", str(error), pair.id))
            continue
        empty += left_out
        for window in windows:
            name = f"{pair.id}/r{window[0]:05d}-c{window[1]:05d}"
            group = pair.id if len(labelled) > 1 else name
            scenes.append(replace(whole, id=name, window=window, group=group))
    line = f"{len(labelled)} raster{'s' * (len(labelled) != 1)} cut into blocks of {block} px: {len(scenes)} blocks"
    if empty:
        line += f", {empty} more without a valid label pixel left out"
        findings.append(Finding("note", "empty-blocks", f"blocks without a valid label pixel, left out: {empty}."))
    return tuple(scenes), tuple(findings), line


def _count_scenes(pairs: tuple[Pair, ...]) -> str:
    """Say how many scenes there are, with and without masks."""
    bare = [pair.id for pair in pairs if pair.mask is None]
    return f"{len(pairs) - len(bare)} scenes with a mask" + (f", {len(bare)} without" if bare else "")


def _notes(pairs: tuple[Pair, ...], headers: dict[Path, ImageHeader]) -> tuple[Finding, ...]:
    """Note what is done to some images and which scenes have no mask, with a few names each."""
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
    """Return the ground sampling distance of the first image, where it is georeferenced in metres."""
    return next((headers[p.image].gsd_m for p in pairs if headers[p.image].format == "tiff"), None)


def _draw_exclusion(layers: Sequence[tuple[Path, frozenset[int], bool]], image: Path, cache: Path) -> Path | None:
    """Draw which pixels of an image are left out, 1 where they are, once; ``None`` without layers.

    A layer is a raster or vector, the values of the raster that are meant (none: all but 0), and whether the pixels
    that are *not* meant are left out: an area of interest.
    """
    if not layers:
        return None
    header = read_header(image)
    told = [[file_sums(path), sorted(values), inverted] for path, values, inverted in layers]
    target = cache / "vectors" / f"{sha256_json(['exclude', 1, told, grid_of(header)])}.tif"
    if target.exists():
        return target
    left_out = np.zeros((header.height, header.width), np.bool_)
    for path, values, inverted in layers:
        if is_vector(path):
            shapes = [(shape, 1) for shape in read_features(path, image, header, None).shapes]
            meant = np.zeros_like(left_out)
            for row, height in strips_of(header):
                meant[row : row + height] = (
                    draw_shapes(shapes, header, (row, height), 0, False) == 1 if shapes else False
                )
        else:
            meant = _raster_layer(path, image, header, values)
        left_out |= ~meant if inverted else meant
    with raster_writer(target, raster_info(header, "uint8", None)) as writer:
        writer.write(0, 0, left_out.astype(np.uint8))
    return target


def _raster_layer(path: Path, image: Path, header: ImageHeader, values: frozenset[int]) -> NDArray[np.bool_]:
    """Read where a raster holds one of some values, on the grid of an image."""
    own = read_header(path)
    if own.transform and header.transform:

        def read(window: Window) -> Pixels:
            return read_indices(path, window if own.format == "tiff" else None)

        stored, outside = read_onto(read, own, header, None)
    elif (own.height, own.width) == (header.height, header.width):
        stored, outside = read_indices(path), np.zeros((header.height, header.width), np.bool_)
    else:
        raise SceneError(
            f"{path}: has {own.width} × {own.height} pixels and no place, its image {image.name} {header.width} × "
            f"{header.height}. Give it a place, or the same size."
        )
    meant = np.isin(stored, list(values)) if values else np.asarray((stored != 0) & (stored != own.nodata))
    return np.asarray(meant & ~outside)
