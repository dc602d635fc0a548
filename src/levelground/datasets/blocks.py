"""Spatial blocks: scenes are cut into squares that go to train, val and test whole, with a buffer between the sets.

Pixels that lie near each other resemble each other, so a random part of a scene says little of ground farther away.
Squares are laid over a plane: the map, which scenes of one coordinate system share, or else an image's own pixels.
All that lies in one square is one group, whichever scenes show it. Between squares of unlike sets the weaker set gives
way: training pixels nearer than the buffer to a square that validates or tests lose their labels, and validation pixels
near one that tests do. Test pixels are all counted, so folds and other buffers are judged on the same pixels.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.console import say
from levelground.datasets.dataset import SceneRecord
from levelground.datasets.fingerprints import Fingerprint
from levelground.datasets.groups import (
    Grouping,
    NamedLink,
    equal_file_links,
    footprint_links,
    footprints,
    join_groups,
    pixel_links,
)
from levelground.datasets.splits import SPLIT_NAMES, Split
from levelground.errors import ConfigError, SplitError
from levelground.imagery.data_folder import FoundScenes
from levelground.imagery.geotiff import Window
from levelground.imagery.grids import is_on_earth, metres_per_pixel
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.legend import Legend
from levelground.imagery.scene_pixels import Rectangle, SceneFile, labelled_blocks

LEAST_PX = 32
"""Smallest side of a block, px: the smallest tile of a network."""
BUFFER_SHARE = 8
"""A block's side divided by this is the buffer where none is asked for."""
_LIKE = 0.01  # scales and sizes that differ by less are one
_ROUNDING = 1e-9

Unit = Literal["m", "px"]
Edges = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The plane that an image's squares are laid over: down and across, in units of the map or in the image's pixels.

    ``origin`` is the image's upper left corner, ``step`` what a pixel goes down and across; ``key`` names the plane.
    """

    key: str
    origin: tuple[float, float]
    step: tuple[float, float]

    def extent(self, header: ImageHeader) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return where an image begins and ends, down and across."""
        sides = zip(self.origin, self.step, (header.height, header.width), strict=True)
        (top, bottom), (left, right) = (sorted((start, start + step * n)) for start, step, n in sides)
        return (top, bottom), (left, right)

    def place(self, window: Window) -> Rectangle:
        """Return where a window of the image lies on the plane."""
        ends = [
            sorted((start + step * first, start + step * (first + n)))
            for start, step, first, n in zip(self.origin, self.step, window[:2], window[2:], strict=True)
        ]
        return ends[0][0], ends[1][0], ends[0][1] - ends[0][0], ends[1][1] - ends[1][0]

    def on_image(self, place: Rectangle) -> Rectangle:
        """Return a rectangle of the plane on the image's grid."""
        ends = [
            sorted(((first - start) / step, (first + n - start) / step))
            for start, step, first, n in zip(self.origin, self.step, place[:2], place[2:], strict=True)
        ]
        return ends[0][0], ends[1][0], ends[0][1] - ends[0][0], ends[1][1] - ends[1][0]


@dataclass(frozen=True)
class Image:
    """A scene that is cut: its files, the header of its image, and its plane."""

    scene: SceneFile
    header: ImageHeader
    plane: Plane


@dataclass(frozen=True)
class Block:
    """A block of a scene: its plane, the square that it belongs to, its place on the plane and the buffer, px."""

    plane: Plane
    square: str
    place: Rectangle
    buffer_px: tuple[float, float]


@dataclass(frozen=True)
class Blocks:
    """A data folder's scenes, cut into blocks: the blocks by id, and the rule in words."""

    found: FoundScenes
    blocks: Mapping[str, Block]
    text: str


def check_block_options(options: PrepareOptions) -> None:
    """Refuse options of blocks that contradict each other or are missing.

    Raises:
        ConfigError: They do.
    """
    given = {
        f"--{name.replace('_', '-')}": value
        for name in ("block_m", "block_px", "buffer_m", "buffer_px")
        if (value := getattr(options, name)) is not None
    }
    first = next(iter(given), None)
    if options.split != "blocks":
        if first:
            raise ConfigError(f"{first} {given[first]:g}: given for --split {options.split}. Add --split blocks.")
        return
    for kind in ("--block", "--buffer"):
        if {f"{kind}-m", f"{kind}-px"} <= {*given}:
            raise ConfigError(f"{kind}-px {given[f'{kind}-px']:g}: given with {kind}-m. Drop one.")
    if not {"--block-m", "--block-px"} & {*given}:
        raise ConfigError("--split blocks: no size is given. Pass --block-m METRES, or --block-px PIXELS.")
    if options.block != PrepareOptions().block:
        raise ConfigError(f"--block {options.block}: is of strips. Pass --block-px {options.block} for --split blocks.")
    if options.groups not in ("auto", "none"):
        raise ConfigError(f"--groups {options.groups}: the groups of --split blocks are the blocks. Leave it away.")


def cut_blocks(found: FoundScenes, options: PrepareOptions) -> Blocks:
    """Cut the labelled scenes of a folder into blocks; those without a label are left out.

    Args:
        found: The scenes, whole.
        options: Side and buffer, checked by :func:`check_block_options`.
    Returns:
        The blocks; a scene that lies in one square stays whole. Strips of a scene of fewer than 32 px that reach into
        another square are left out.
    Raises:
        ConfigError: A scene has no place where metres are asked for, or side and buffer do not go together.
        SplitError: There are too few blocks, or scenes share ground that squares cannot be laid over.
    """
    images = [_image(scene) for scene in found.scenes if scene.labels is not None]
    _check_planes(images)
    for image in images:
        _check_sizes(image, options)
    cut, left_out, strips = _cut(images, found.legend, options)
    n_squares, needed = len({block.square for _, block in cut}), max(3, options.folds or 0)
    if n_squares < needed:
        raise SplitError(_too_few(n_squares, needed, images, found.legend, options))
    text = describe_blocks(options)
    say(
        "%(rule)s: %(blocks)s blocks in %(squares)s squares of the map (scenes cut: %(n)s)",
        rule=text,
        n=len(images),
        blocks=len(cut),
        squares=n_squares,
    )
    if left_out:
        say("blocks without a valid label pixel, left out: %(n)s", n=left_out)
    if strips:
        say("strips of fewer than %(least)s px, left out: %(n)s", n=strips, least=LEAST_PX)
    bare = tuple(scene for scene in found.scenes if scene.labels is None)
    return Blocks(
        replace(found, scenes=(*(scene for scene, _ in cut), *bare)),
        {scene.id: block for scene, block in cut},
        text,
    )


def describe_blocks(options: PrepareOptions) -> str:
    """Return side and buffer in words; nothing where no blocks are asked for.

    Example:
        >>> describe_blocks(PrepareOptions(split="blocks", block_m=1000))
        'blocks of 1000 m, buffer 125 m'
    """
    if options.split != "blocks":
        return ""
    (side, unit), (buffer, other) = _side(options), _buffer(options)
    return f"blocks of {side:g} {unit}, buffer {buffer:g} {other}"


def _side(options: PrepareOptions) -> tuple[float, Unit]:
    """Return the side of a block and its unit."""
    return (options.block_m, "m") if options.block_m is not None else (options.block_px or 0, "px")


def _buffer(options: PrepareOptions) -> tuple[float, Unit]:
    """Return the buffer and its unit, asked for or by default."""
    if options.buffer_m is not None:
        return options.buffer_m, "m"
    if options.buffer_px is not None:
        return options.buffer_px, "px"
    side, unit = _side(options)
    return (side / BUFFER_SHARE, "m") if unit == "m" else (side // BUFFER_SHARE, "px")


def _image(scene: SceneFile) -> Image:
    """Find the plane of an image: the map where its rows and columns run along it, else its own pixels."""
    header = read_header(scene.image)
    own = Plane(scene.id, (0.0, 0.0), (1.0, 1.0))
    if header.transform is None or header.crs is None or not is_on_earth(header.crs):
        return Image(scene, header, own)
    a, b, x, d, e, y = header.transform
    return Image(scene, header, own if b or d else Plane(header.crs, (-y, x), (-e, a)))  # down is south


def _check_planes(images: Sequence[Image]) -> None:
    """Refuse scenes that share ground but no plane: a block of one would lie beside or on a block of the other."""
    by_id = {image.scene.id: image for image in images}
    if len({image.plane.key for image in images}) < 2:
        return
    for link in footprint_links(footprints([image.scene for image in images])):
        first, second = by_id[link.a], by_id[link.b]
        if first.plane.key != second.plane.key:
            path, other = second.scene.image, first.scene.image
            raise SplitError(
                f"--split blocks: {link.text}, and blocks need one map. Write {path} and its labels onto the grid of "
                f"the other (rio warp {path} OUT.tif --like {other}; labels with --resampling nearest), or leave one "
                "out."
            )


def _in_pixels(length: tuple[float, Unit], image: Image, row: float, col: float, flag: str) -> tuple[float, float]:
    """Return a length at a place of an image along its rows and columns, px.

    Raises:
        ConfigError: It is in metres, and the image has no place.
    """
    value, unit = length
    if unit == "px":
        return value, value
    scale = metres_per_pixel(image.header, row, col)
    if scale is None:
        remedy = f"Pass {flag}-px PIXELS" + (" and --buffer-px PIXELS" if flag == "--block" else "")
        raise ConfigError(f"{flag}-m {value:g}: scene {image.scene.id!r} has no place on the ground. {remedy}.")
    return value / scale[0], value / scale[1]


def _check_sizes(image: Image, options: PrepareOptions) -> None:
    """Refuse blocks that are too small on an image, and buffers that would leave nothing of them."""
    side, buffer = _side(options), _buffer(options)
    middle = image.header.height / 2, image.header.width / 2
    side_px = _in_pixels(side, image, *middle, "--block")
    buffer_px = _in_pixels(buffer, image, *middle, "--buffer")
    asked = f"--block-{side[1]}"
    if min(side_px) < LEAST_PX:
        least = math.ceil(side[0] * LEAST_PX / min(side_px))
        size = f" is {min(side_px):.0f} px on {image.scene.id!r}," if side[1] == "m" else ""
        raise ConfigError(f"{asked} {side[0]:g}:{size} expected at least {LEAST_PX} px. Pass {asked} {least}.")
    most = max(b / s for b, s in zip(buffer_px, side_px, strict=True))
    if most >= 0.5:
        raise ConfigError(
            f"--buffer-{buffer[1]} {buffer[0]:g}: is half of a block's side of {side[0]:g} {side[1]} or more, so that "
            f"nothing would be left of a block between two others. Pass {asked} {math.ceil(4 * most * side[0])}, or a "
            "smaller buffer."
        )


def _cut(
    images: Sequence[Image], legend: Legend, options: PrepareOptions
) -> tuple[list[tuple[SceneFile, Block]], int, int]:
    """Cut images plane by plane: the blocks, how many hold no label, and how many strips are too narrow."""
    cut: list[tuple[SceneFile, Block]] = []
    empty = strips = 0
    for key in dict.fromkeys(image.plane.key for image in images):
        mine = [image for image in images if image.plane.key == key]
        lines = _squares(mine, options)
        for image in mine:
            windows, left_out, narrow = _windows(image, lines, legend)
            empty, strips = empty + left_out, strips + narrow
            for window, (down, across) in windows.items():
                whole = window[2:] == (image.header.height, image.header.width)
                name = image.scene.id if whole else f"{image.scene.id}/r{window[0]:05d}-c{window[1]:05d}"
                square = name if len(mine) == 1 else f"{key}/r{down:03d}-c{across:03d}"
                middle = window[0] + window[2] / 2, window[1] + window[3] / 2
                buffer_px = _in_pixels(_buffer(options), image, *middle, "--buffer")
                part = replace(image.scene, id=name, window=None if whole else window, group=square)
                cut.append((part, Block(image.plane, square, image.plane.place(window), buffer_px)))
    return cut, empty, strips


Lines = Sequence[tuple[float, float, Edges]]
"""Where each line of squares begins and ends down a plane, and the edges of its squares across."""


def _squares(images: Sequence[Image], options: PrepareOptions) -> Lines:
    """Lay squares over a plane, from its upper left corner; the last takes what is left over if it is less than half.

    Where the ground that a unit of the map covers changes by more than a hundredth, as in degrees, each line of squares
    has its own.
    """
    first, plane = images[0], images[0].plane
    steps = np.abs([image.plane.step for image in images])
    if options.block_m is None and (np.abs(steps / steps[0] - 1) > _LIKE).any():
        raise ConfigError(
            f"--block-px {options.block_px}: scenes of one map have pixels of unlike size ({steps.min():g} to "
            f"{steps.max():g} in its units). Pass --block-m METRES."
        )
    extents = np.array([image.plane.extent(image.header) for image in images])
    (top, left), (bottom, right) = extents[:, :, 0].min(0).tolist(), extents[:, :, 1].max(0).tolist()
    middle = ((left + right) / 2 - plane.origin[1]) / plane.step[1]

    def sides(down: float) -> tuple[float, float]:
        px = _in_pixels(_side(options), first, (down - plane.origin[0]) / plane.step[0], middle, "--block")
        return px[0] * abs(plane.step[0]), px[1] * abs(plane.step[1])

    ends, constant = (sides(top), sides(bottom)), sides((top + bottom) / 2)
    alike = all(abs(a / b - 1) < _LIKE for a, b in zip(*ends, strict=True))
    edges = [top]
    while bottom - edges[-1] >= (1.5 - _ROUNDING) * (height := (constant if alike else sides(edges[-1]))[0]):
        edges.append(edges[-1] + height)
    lines = []
    for start, end in pairwise([*edges, bottom]):
        width = (constant if alike else sides((start + end) / 2))[1]
        n = max(1, math.floor((right - left) / width + 0.5 + _ROUNDING))
        lines.append((start, end, np.append(left + width * np.arange(n), right)))
    return lines


def _windows(image: Image, lines: Lines, legend: Legend) -> tuple[dict[Window, tuple[int, int]], int, int]:
    """Find the windows of an image in the squares that hold a label, with the square's line and place in it.

    Returns:
        They, how many others hold no label, and how many are too narrow.
    """
    height, width = image.header.height, image.header.width
    found: dict[Window, tuple[int, int]] = {}
    empty = narrow = 0
    for down, (start, end, edges) in enumerate(lines):
        row, n_rows = _pixels_between(start, end, image.plane.origin[0], image.plane.step[0], height)
        if not n_rows:
            continue
        across: dict[tuple[int, int], int] = {}
        for number, (left, right) in enumerate(pairwise(edges.tolist())):
            col, n_cols = _pixels_between(left, right, image.plane.origin[1], image.plane.step[1], width)
            if n_cols and (n_rows < min(LEAST_PX, height) or n_cols < min(LEAST_PX, width)):
                narrow += 1
            elif n_cols:
                across[col, n_cols] = number
        windows, left_out = labelled_blocks(image.scene, [(row, n_rows)], sorted(across), legend)
        found |= {window: (down, across[window[1], window[3]]) for window in windows}
        empty += left_out
    return found, empty, narrow


def _pixels_between(start: float, end: float, origin: float, step: float, length: int) -> tuple[int, int]:
    """Return the first pixel of an image, and the number of pixels, between two places on a side of its plane."""
    first, last = sorted(min(max(round((place - origin) / step), 0), length) for place in (start, end))
    return first, last - first


def _too_few(n: int, needed: int, images: Sequence[Image], legend: Legend, options: PrepareOptions) -> str:
    """Say that there are too few blocks, and the side that gives enough."""
    value, unit = _side(options)
    what = f"{describe_blocks(options)}: {n} hold labels, expected at least {needed}."
    trial = value
    while True:
        trial = float(f"{trial / 1.5:.3g}") if unit == "m" else trial // 1.5
        tried = replace(options, buffer_m=None, buffer_px=None)
        tried = replace(tried, block_m=trial) if unit == "m" else replace(tried, block_px=int(trial))
        try:
            for image in images:
                _check_sizes(image, tried)
        except ConfigError:
            return f"{what} Smaller ones would have fewer than {LEAST_PX} px: add scenes."
        if len({block.square for _, block in _cut(images, legend, tried)[0]}) >= needed:
            buffer = " without a buffer of your own" if options.buffer_m or options.buffer_px else ""
            return f"{what} Pass --block-{unit} {trial:g}{buffer}."


def block_groups(blocks: Blocks, scenes: Sequence[SceneRecord], fingerprints: Mapping[str, Fingerprint]) -> Grouping:
    """Group blocks by square; blocks of unlike planes that repeat or touch each other by their pixels are joined.

    Args:
        blocks: The blocks.
        scenes: Their records.
        fingerprints: Their fingerprints, by id.
    Returns:
        The groups. Blocks of one plane that touch are not joined: the buffer keeps their sets apart.
    """
    squares = {scene.id: blocks.blocks[scene.id].square for scene in scenes}
    planes = {scene.id: blocks.blocks[scene.id].plane.key for scene in scenes}
    links: dict[tuple[str, str], NamedLink] = {}
    if len({*planes.values()}) > 1:
        for link in (*equal_file_links(scenes), *pixel_links(fingerprints)):
            if planes[link.a] != planes[link.b]:
                links.setdefault((min(link.a, link.b), max(link.a, link.b)), link)
    return Grouping(squares, join_groups(squares, squares, [*links.values()]), "blocks", tuple(links.values()))


def labels_apart(blocks: Blocks, split: Split) -> dict[str, SceneFile]:
    """Find the blocks whose labels near blocks of a stronger set are left out: train gives way to val, both to test.

    Args:
        blocks: The blocks.
        split: Their sets.
    Returns:
        The files of those blocks, with what they are kept apart from, by id.
    """
    files = {scene.id: scene for scene in blocks.found.scenes}
    rank = {scene: n for n, ids in enumerate((split.train, split.val, split.test)) for scene in ids}
    found = {}
    for key in dict.fromkeys(blocks.blocks[scene].plane.key for scene in rank):
        ids = np.array([scene for scene in rank if blocks.blocks[scene].plane.key == key])
        ranks = np.array([rank[scene] for scene in ids])
        places = np.array([blocks.blocks[scene].place for scene in ids])
        for scene, own, place in zip(ids.tolist(), ranks, places, strict=True):
            block = blocks.blocks[scene]
            apart = np.maximum(places[:, :2] - (place[:2] + place[2:]), place[:2] - (places[:, :2] + places[:, 2:]))
            reach = np.multiply(block.buffer_px, np.abs(block.plane.step))
            scaled = np.where(apart < 0, 0.0, np.where(reach > 0, apart / np.maximum(reach, 1e-300), np.inf))
            near = np.flatnonzero((ranks > own) & ((scaled**2).sum(axis=1) < 1))
            if len(near):
                on_image = [block.plane.on_image(blocks.blocks[ids[n]].place) for n in near]
                rectangles = tuple((round(a, 6), round(b, 6), round(c, 6), round(d, 6)) for a, b, c, d in on_image)
                found[scene] = replace(files[scene], apart=rectangles, buffer_px=block.buffer_px)
    return found


def drop_emptied(split: Split, emptied: Collection[str], text: str) -> Split:
    """Move blocks of which the buffer left no label out of the sets.

    Args:
        split: The split.
        emptied: Their ids.
        text: Side and buffer in words.
    Raises:
        SplitError: Nothing is left of a set.
    """
    kept = {name: tuple(scene for scene in split.ids(name) if scene not in emptied) for name in SPLIT_NAMES}
    lacking = [name for name, ids in kept.items() if not ids]
    if lacking:
        raise SplitError(f"{text}: the buffer leaves no labelled pixel in {lacking[0]}. Pass a smaller buffer.")
    left_out = tuple(sorted((*split.left_out, *emptied)))
    return replace(split, train=kept["train"], val=kept["val"], test=kept["test"], left_out=left_out)
