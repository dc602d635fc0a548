"""Generate land-cover scenes in the DeepGlobe layout, for demonstrations and tests without real data.

A scene is a pure function of ``(seed, index, size)``. Its ground is laid out (:mod:`~levelground.synthetic.terrain`),
painted (:mod:`~levelground.synthetic.textures`), and built and planted (:mod:`~levelground.synthetic.objects`); then
atmosphere and sensor change the picture, and labels are drawn with the errors of a human annotator. A pixel stands for
about 1.2 m.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from levelground.console import Bar, progress_bar
from levelground.errors import ConfigError, SceneError
from levelground.imagery.legend import DEEPGLOBE, LabelMap, encode_colours
from levelground.records import atomic_path
from levelground.synthetic.noise import Field, blurred, floats, fractal_noise, shifted, smooth_noise, smoothstep, stream
from levelground.synthetic.objects import add_houses, add_roads, add_trees
from levelground.synthetic.terrain import UNKNOWN, URBAN, WATER, Ground, lay_ground
from levelground.synthetic.textures import Palette, Picture, draw_palette, draw_stages, paint_ground

SMALLEST: Final = 64
LARGEST: Final = 8192
GENERATOR: Final = 1
"""Raised whenever the same numbers give other pixels, so that files of an older generator are made anew."""

_STAMP_KEY: Final = "levelground"

_CLOUD: Final = 0.4  # a cloud thicker than this hides the ground from the annotator
_SLIP_PX: Final = 1.6  # how far a hand slips from a border, in pixels


def generate_scene(seed: int, index: int, size: int = 1024) -> tuple[NDArray[np.uint8], LabelMap]:
    """Generate one scene and its labels.

    Args:
        seed: Any number from 0 to 2⁶⁴ − 1; another seed gives other scenes.
        index: Number of the scene, from 0. Every twelve in a row hold each kind of landscape once.
        size: Side of the scene, in pixels, 64–8192.
    Returns:
        The image, ``(size, size, 3)`` uint8, red first, and its labels, ``(size, size)`` uint8, indices of the
        ``deepglobe`` legend.
    Raises:
        ConfigError: A number is out of its range.

    Example:
        >>> image, labels = generate_scene(seed=0, index=0, size=128)
        >>> image.shape, labels.shape, bool(labels.max() < DEEPGLOBE.n_classes)
        ((128, 128, 3), (128, 128), True)
    """
    _check(seed=seed, index=index, size=size)
    ground = lay_ground(seed, index, size)
    palette = draw_palette(seed, index)
    stages = draw_stages(seed, index, ground, palette)
    cloud = cloud_cover(seed, index, size) if ground.kind.cloud else None
    picture = paint_ground(seed, index, ground, palette, stages)
    add_roads(seed, index, picture, ground, palette)
    house = add_houses(seed, index, picture, ground, palette)
    add_trees(seed, index, picture, ground, palette, stages, house)
    add_atmosphere(seed, index, picture, palette, cloud)
    return apply_sensor(seed, index, picture), draw_labels(seed, index, ground, cloud)


def cloud_cover(seed: int, index: int, size: int) -> Field:
    """Draw one ragged cloud, thickness 0…1, ``(size, size)``."""
    rng = stream(seed, index, 40)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    row, col = rng.uniform(0.12, 0.88, 2) * size
    radius = size * rng.uniform(0.105, 0.14)
    flat, turn = rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    x = np.cos(turn) * (cols - col) + np.sin(turn) * (rows - row)
    y = np.cos(turn) * (rows - row) - np.sin(turn) * (cols - col)
    body = 1 - np.hypot(x * np.float32(flat), y) / np.float32(radius)
    return smoothstep(body + 0.28 * fractal_noise(rng, size, 0.22 * size, 6, gain=0.6), 0.0, 0.6)


def add_atmosphere(seed: int, index: int, picture: Picture, palette: Palette, cloud: Field | None) -> None:
    """Add uneven light, haze and a cloud with its shadow, in place."""
    rng = stream(seed, index, 41)
    size = picture.shape[0]
    light = 1 + 0.05 * smooth_noise(rng, size, 0.7 * size)
    if cloud is not None:
        far = rng.uniform(28, 55)
        light *= 1 - 0.5 * blurred(shifted(cloud, -palette.sun[0] * far, -palette.sun[1] * far), 3)
    picture *= light[..., None]
    air = floats([168, 172, 176]) * rng.uniform(0.8, 1.1)
    haze = rng.uniform(0.0, 0.22) + rng.uniform(0, 0.05) * smooth_noise(rng, size, 0.6 * size)
    picture += np.clip(haze, 0, 0.4)[..., None] * (air - picture)
    if cloud is not None:
        white = 226 + 14 * fractal_noise(rng, size, 30, 4)
        picture += (0.97 * cloud)[..., None] * (white[..., None] - picture)


def apply_sensor(seed: int, index: int, picture: Picture) -> NDArray[np.uint8]:
    """Apply blur, colour balance, contrast and noise of a sensor, and round to 8 bits."""
    rng = stream(seed, index, 42)
    size = picture.shape[0]
    sharp = blurred(picture, rng.uniform(0.55, 0.85))
    balance = np.exp(rng.normal(-0.04, 0.10) + rng.normal((0.02, 0.0, -0.06), 0.03)).astype(np.float32)
    sharp *= balance
    gamma = np.float32(rng.uniform(0.88, 1.18))
    np.clip(sharp, 0, 255, out=sharp)
    sharp = floats(255 * (sharp / 255) ** gamma)
    noise = rng.standard_normal((size, size, 3), np.float32)
    sharp += np.float32(rng.uniform(1.5, 3.5)) * noise
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


def draw_labels(seed: int, index: int, ground: Ground, cloud: Field | None) -> LabelMap:
    """Label one scene with the errors of a human annotator.

    Borders are a little off and rounded, narrow and small areas take the class around them, outlines are polygons,
    roads and lone trees are not drawn at all, and a cloud is unknown.

    Args:
        seed: The seed of the scene.
        index: The number of the scene.
        ground: The true cover.
        cloud: Thickness of the cloud, 0…1, or ``None``.
    Returns:
        ``(H, W)`` uint8, indices of the ``deepglobe`` legend.
    """
    rng = stream(seed, index, 50)
    size = ground.cover.shape[0]
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    for grid in (rows, cols):
        grid += np.float32(_SLIP_PX) * smooth_noise(rng, size, 45) + np.float32(rng.uniform(-1.5, 1.5))
        np.clip(np.rint(grid, out=grid), 0, size - 1, out=grid)
    slipped = ground.cover[rows.astype(np.int32), cols.astype(np.int32)]
    labels = _rounded(slipped, sigma=float(rng.uniform(2.0, 4.0)))
    labels = _without_small(rng, labels, smallest_px=float(rng.uniform(250, 700)))
    labels = _polygons(labels, tolerance_px=float(rng.uniform(1.2, 2.6)))
    if cloud is not None:
        hidden = (blurred(cloud, 5) > _CLOUD).astype(np.uint8)
        labels[_polygons(hidden, tolerance_px=2.5) == 1] = UNKNOWN
    return labels


def _rounded(cover: LabelMap, *, sigma: float) -> LabelMap:
    """Give each pixel the class that weighs most around it; water weighs more, so that canals stay whole."""
    best = np.zeros(cover.shape, np.float32)
    labels = cover.copy()
    for index in range(UNKNOWN):
        weight = 1.5 if index == WATER else 1.0
        spread = 0.6 * sigma if index == WATER else sigma
        score = np.float32(weight) * blurred((cover == index).astype(np.float32), spread)
        better = score > best
        labels[better] = index
        best[better] = score[better]
    return labels


def _without_small(rng: np.random.Generator, labels: LabelMap, *, smallest_px: float) -> LabelMap:
    """Give areas that are too small to be drawn the class of the nearest area; groups of houses are often forgotten."""
    drop = np.zeros(labels.shape, np.bool_)
    dice = rng.random(4099)
    for index in np.unique(labels):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8), connectivity=4)
        area = stats[:, cv2.CC_STAT_AREA]
        # By place, since the order of the parts may depend on OpenCV's threads.
        luck = dice[(31 * stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_TOP]) % len(dice)]
        small = area < smallest_px
        if index == URBAN:
            small |= (area < 6 * smallest_px) & (luck < 0.4)
        small[0] = False
        drop |= small[parts]
    if not drop.any() or drop.all():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(drop.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    kept = np.zeros(int(nearest.max()) + 1, np.uint8)
    kept[nearest[~drop]] = labels[~drop]
    return np.asarray(kept[nearest], np.uint8)


def _polygons(labels: LabelMap, *, tolerance_px: float) -> LabelMap:
    """Redraw every area as a polygon with few corners, the largest first, so that areas inside it stay on top."""
    outlines: list[tuple[float, int, NDArray[np.int32]]] = []
    for index in np.unique(labels):
        found, _ = cv2.findContours((labels == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlines += [(cv2.contourArea(line), int(index), np.asarray(line, np.int32)) for line in found]
    drawn = labels.copy()
    for area, index, line in sorted(outlines, key=lambda outline: -outline[0]):
        if area > 4 * tolerance_px**2:
            corners = cv2.approxPolyDP(line, tolerance_px, closed=True)
            cv2.fillPoly(drawn, [corners], index)
    return drawn


def write_scenes(folder: Path, *, n: int, size: int, seed: int, progress: Bar | None = None) -> int:
    """Write scenes ``000``, ``001`` … in the Kaggle layout: ``<id>_sat.jpg`` and ``<id>_mask.png``.

    Each file carries the numbers it was made from. Pairs that are there already are kept, pairs of other numbers are
    made anew, and further generated scenes are removed, so the folder always ends with exactly these ``n``. A file
    that is not a generated scene is never touched.

    Args:
        folder: Where to write; made where it is missing.
        n: Number of scenes, at least 1.
        size: Side of each scene, in pixels, 64–8192.
        seed: The seed of all of them.
        progress: A bar to move on, one step a scene; without it the function shows its own.
    Returns:
        How many scenes were generated; the others were there.
    Raises:
        ConfigError: A number is out of its range.
        SceneError: A file of that name exists and is not a generated scene.
        DiskError: The folder cannot be written.
    """
    _check(seed=seed, index=n - 1, size=size)
    wanted = {f"{index:03d}": index for index in range(n)}
    todo = [(name, index) for name, index in wanted.items() if not _is_there(folder, name, _stamp(seed, index, size))]
    _remove_others(folder, wanted)
    if progress is not None:
        progress.advance(n - len(todo))
        _write_all(folder, todo, seed=seed, size=size, bar=progress)
    elif todo:
        with progress_bar("generate scenes", len(todo)) as bar:
            _write_all(folder, todo, seed=seed, size=size, bar=bar)
    return len(todo)


def _check(*, seed: int, index: int, size: int) -> None:
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**64 - 1. Give another seed.")
    if index < 0:
        raise ConfigError(f"scene number {index} or a count of {index + 1} scenes is too small. Give at least 1 scene.")
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"a scene of {size} pixels a side, expected {SMALLEST} to {LARGEST}. Give another size.")


def _write_all(folder: Path, todo: list[tuple[str, int]], *, seed: int, size: int, bar: Bar) -> None:
    for name, index in todo:
        image, labels = generate_scene(seed, index, size)
        stamp = _stamp(seed, index, size)
        coded = simplejpeg.encode_jpeg(image, quality=92, colorspace="RGB", colorsubsampling="420")
        comment = stamp.encode("ascii")
        with atomic_path(folder / f"{name}_sat.jpg") as path:
            # A comment segment right behind the start-of-image marker (ITU-T T.81, B.2.4.5).
            path.write_bytes(coded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + coded[2:])
        text = PngImagePlugin.PngInfo()
        text.add_text(_STAMP_KEY, stamp)
        with atomic_path(folder / f"{name}_mask.png") as path:
            Image.fromarray(encode_colours(labels, DEEPGLOBE)).save(path, format="PNG", pnginfo=text, compress_level=4)
        bar.advance()


def _stamp(seed: int, index: int, size: int) -> str:
    return f"levelground generated scene, generator {GENERATOR}, seed {seed}, index {index}, size {size}"


def _read_stamp(path: Path) -> str | None:
    """Return the numbers that a file was made from, or ``None`` where it is not a generated scene."""
    try:
        with Image.open(path) as image:
            stamp = image.info.get(_STAMP_KEY) or image.info.get("comment")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    text = stamp.decode("ascii", "replace") if isinstance(stamp, bytes) else str(stamp)
    return text if text.startswith("levelground generated scene,") else None


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}_sat.jpg", folder / f"{name}_mask.png"


def _is_there(folder: Path, name: str, stamp: str) -> bool:
    """Check that both files of a scene carry ``stamp``."""
    stamps = []
    for path in _pair(folder, name):
        found = _read_stamp(path) if path.exists() else ""
        if found is None:
            raise SceneError(
                f"{path}: exists and is not a generated scene; it is not overwritten. Choose another folder."
            )
        stamps.append(found)
    return stamps == [stamp, stamp]


def _remove_others(folder: Path, wanted: dict[str, int]) -> None:
    """Remove generated scenes beyond the wanted ones, left by a longer run."""
    for mask in sorted(folder.glob("[0-9]*_mask.png")):
        name = mask.name.removesuffix("_mask.png")
        if name not in wanted:
            for path in _pair(folder, name):
                if path.exists() and _read_stamp(path) is not None:
                    path.unlink()
