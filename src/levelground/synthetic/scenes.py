"""Generate land-cover scenes in the DeepGlobe layout, for demonstrations and tests without real data.

A scene is a pure function of ``(seed, index, size)``. Its ground is laid out (:mod:`~levelground.synthetic.terrain`),
painted (:mod:`~levelground.synthetic.textures`), and built and planted (roads, houses, trees and their shadows); then
atmosphere and sensor change the picture, and labels are drawn with the errors of a human annotator. A pixel stands for
about 1.2 m.
"""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from levelground.console import Bar, progress_bar
from levelground.errors import ConfigError, SceneError
from levelground.imagery.legend import DEEPGLOBE, LabelMap, encode_colours
from levelground.records import DAMAGED, atomic_path
from levelground.synthetic.noise import (
    Field,
    Flags,
    Indices,
    blurred,
    floats,
    fractal_noise,
    jittered_grid,
    nearest_point,
    shifted,
    smooth_noise,
    smoothstep,
    stream,
)
from levelground.synthetic.terrain import (
    AGRICULTURE,
    BARREN,
    FOREST,
    RANGELAND,
    URBAN,
    WATER,
    Ground,
    Parcels,
    draw_labels,
    lay_ground,
)
from levelground.synthetic.textures import STAGES, Colours, Palette, Picture, draw_palette, draw_stages, paint_ground
from levelground.wording import gettext

SMALLEST: Final = 64
LARGEST: Final = 8192
GENERATOR: Final = 1
"""Raised whenever the same numbers give other pixels, so that files of an older generator are made anew."""

_STAMP_KEY: Final = "levelground"
_PIXELS_AT_ONCE: Final = 2**22  # of all scenes that are generated at a time: each takes some hundred bytes

_LOTS: Final = 16  # house lots along and across one parcel, at most
_ROOFS: Final = floats(
    [[168, 162, 148], [208, 202, 190], [136, 127, 112], [146, 92, 74], [112, 110, 108], [92, 112, 150], [176, 150, 122]]
)
_ROOF_WEIGHTS: Final = (3.0, 2.0, 2.0, 0.7, 0.7, 0.15, 0.8)  # of a Dirichlet distribution: each town has its mixture


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


def add_roads(seed: int, index: int, picture: Picture, ground: Ground, palette: Palette) -> None:
    """Draw tracks between fields, streets in towns and main roads, in place."""
    rng = stream(seed, index, 30)
    parcels, size = ground.parcels, picture.shape[0]
    dust = 0.55 * palette.soil + floats([84, 76, 58])
    asphalt = floats([104, 102, 98]) * rng.uniform(0.85, 1.15)
    wobble = smooth_noise(rng, size, 40)
    side = np.minimum(parcels.across, 1 - parcels.across) * parcels.width_px[parcels.parcel]
    used = (rng.random(parcels.n) < 0.3)[parcels.parcel] & (parcels.across < 0.5)
    track = used * smoothstep(side, 1.9, 0.6) + smoothstep(parcels.estate_edge, 2.6, 1.2)
    track = np.clip(track, 0, 1) * np.isin(ground.cover, [AGRICULTURE, RANGELAND]) * smoothstep(wobble, -1.2, -0.6)
    _blend(picture, dust, 0.75 * track)
    half = rng.uniform(1.4, 3.0, len(parcels.angle)).astype(np.float32)[parcels.estate_of][parcels.parcel]
    street = smoothstep(parcels.edge - half, 0.8, -0.6) * (ground.cover == URBAN)
    _blend(picture, 0.35 * dust + 0.65 * asphalt, 0.85 * street)
    if ground.kind.roads:
        open_sea = ground.depth < (3 if ground.kind.water == "coast" else 45)
        verge = smoothstep(ground.road, ground.road_px + 3.5, ground.road_px + 1.0) * open_sea
        _blend(picture, dust, 0.7 * verge * (ground.cover != WATER))
        paved = dust if rng.random() < 0.3 else asphalt
        _blend(picture, paved, smoothstep(ground.road, ground.road_px + 0.6, ground.road_px - 0.6) * open_sea)


def add_houses(seed: int, index: int, picture: Picture, ground: Ground, palette: Palette) -> Flags:
    """Build houses on lots inside the parcels of towns, with gable or flat roofs and shadows, in place.

    Returns:
        True on houses, ``(H, W)``.
    """
    rng = stream(seed, index, 31)
    parcels = ground.parcels
    rough = smooth_noise(rng, picture.shape[0], 1.7)
    plot = (ground.cover == URBAN) & (parcels.edge > 2.5) & (ground.road > ground.road_px + 3)
    where = np.flatnonzero(plot)
    lots = _lots(rng, parcels, where)
    n = parcels.n * _LOTS * _LOTS
    density = rng.uniform(0.5, 1.1, len(parcels.angle))[parcels.estate_of] * rng.uniform(0.6, 1.1, parcels.n)
    built = rng.random(n) < np.repeat(density, _LOTS * _LOTS)
    half = rng.uniform(0.28, 0.5, (2, n)).astype(np.float32)
    centre = (0.5 + rng.uniform(-1, 1, (2, n)) * (0.48 - half)).astype(np.float32)
    dx, dy = lots.x - centre[0, lots.lot], lots.y - centre[1, lots.lot]
    wing = (rng.random(n) < 0.35)[lots.lot] & (dx > 0)
    body = (np.abs(dx) < half[0, lots.lot]) & (np.abs(dy) < half[1, lots.lot] * np.where(wing, 0.5, 1))
    body &= built[lots.lot]
    angle = parcels.angle[parcels.estate_of][parcels.parcel.ravel()[where]]
    towards_x = palette.sun[0] * np.sin(angle) + palette.sun[1] * np.cos(angle)
    towards_y = palette.sun[0] * np.cos(angle) - palette.sun[1] * np.sin(angle)
    lit = np.where((half[0] > half[1])[lots.lot], np.sign(dy) * towards_y, np.sign(dx) * towards_x)
    gable = (rng.random(n) < rng.choice([0.2, 0.5, 0.8]))[lots.lot]
    inset = np.minimum((half[0, lots.lot] - np.abs(dx)) * lots.long, (half[1, lots.lot] - np.abs(dy)) * lots.wide)
    tone = np.where(gable, 1 + 0.24 * lit, np.where(inset < 1, 0.84, 1)) * (1 + 0.07 * rough.ravel()[where])
    roofs = _ROOFS[rng.choice(len(_ROOFS), n, p=rng.dirichlet(_ROOF_WEIGHTS))]
    roofs *= rng.lognormal(0, 0.16, (n, 1)).astype(np.float32)
    house = np.zeros(plot.shape, np.bool_)
    house.ravel()[where[body]] = True
    _shade(picture, house.astype(np.float32), palette, rng.uniform(2.5, 5.5), 0.5)
    picture.reshape(-1, 3)[where[body]] = roofs[lots.lot[body]] * tone[body, None]
    return house


@dataclass(frozen=True)
class _Lots:
    """House lots under ``N`` pixels: number, position in the lot (0…1), the lot's sides in pixels; each ``(N,)``."""

    lot: Indices
    x: Field
    y: Field
    long: Field
    wide: Field


def _lots(rng: np.random.Generator, parcels: Parcels, where: NDArray[np.intp]) -> _Lots:
    """Cut the parcels into lots, as many as fit."""
    side = rng.choice([7.5, 9.0, 12.0, 15.0, 34.0], len(parcels.angle), p=[0.3, 0.3, 0.2, 0.13, 0.07])
    side = (side * rng.uniform(0.85, 1.15, len(side))).astype(np.float32)[parcels.estate_of]
    along = np.clip(np.round(parcels.length_px / (side * np.float32(1.25))), 1, _LOTS).astype(np.float32)
    across = np.clip(np.round(parcels.width_px / side), 1, _LOTS).astype(np.float32)
    parcel = parcels.parcel.ravel()[where]
    x = parcels.along.ravel()[where] * along[parcel]
    y = parcels.across.ravel()[where] * across[parcel]
    col, row = np.minimum(x.astype(np.int32), _LOTS - 1), np.minimum(y.astype(np.int32), _LOTS - 1)
    lot = (parcel * _LOTS + row) * _LOTS + col
    return _Lots(lot, x - col, y - row, (parcels.length_px / along)[parcel], (parcels.width_px / across)[parcel])


def add_trees(
    seed: int, index: int, picture: Picture, ground: Ground, palette: Palette, stages: Indices, house: Flags
) -> None:
    """Plant crowns with a lit and a dark side and throw their shadows, in place."""
    rng = stream(seed, index, 32)
    size = picture.shape[0]
    spacing = rng.uniform(3.6, 5.2)
    points = _plant(rng, ground, stages, house, spacing)
    if not len(points):
        return
    wood = ground.cover[points.astype(np.int32)[:, 0], points.astype(np.int32)[:, 1]] == FOREST
    spread = np.where(wood, 0.22, 0.42)
    radius = (spacing * np.exp(rng.normal(-0.48, spread))).astype(np.float32)
    radius *= np.where(wood, 1.2, rng.choice([0.8, 1.0, 1.2]))
    nearest = nearest_point(points, size)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    reach = radius[nearest]
    dy, dx = (rows - points[nearest, 0]) / reach, (cols - points[nearest, 1]) / reach
    ragged = 1 + 0.16 * smooth_noise(rng, size, 2.2)
    far = (dx * dx + dy * dy) * ragged
    crown = smoothstep(far, 1.15, 0.75)
    dome = np.sqrt(np.clip(1 - far, 0, 1))
    light = 0.66 + 0.34 * dome + 0.30 * (dy * palette.sun[0] + dx * palette.sun[1])
    light *= 1 + 0.10 * smooth_noise(rng, size, 1.6)
    _shade(picture, crown, palette, rng.uniform(2.0, 4.5), 0.55)
    leaves = _leaves(rng, palette, len(points))
    picture += crown[..., None] * (np.take(leaves, nearest, axis=0) * np.clip(light, 0.25, 1.5)[..., None] - picture)


def _leaves(rng: np.random.Generator, palette: Palette, n: int) -> Colours:
    """Draw the colour of each crown: the scene's green, darker, some trees yellowish or bare."""
    base = 0.62 * palette.green + 0.12 * palette.dry + 0.08 * palette.soil
    factors = np.exp(rng.normal(0, 0.13, (n, 1)) + rng.normal(0, 0.05, (n, 3)))
    turned = (rng.random((n, 1)) < 0.06) * 0.45
    return np.asarray((base * factors) * (1 - turned) + palette.dry * turned, np.float32)


def _plant(rng: np.random.Generator, ground: Ground, stages: Indices, house: Flags, spacing: float) -> Field:
    """Draw the places of trees, ``(N, 2)``: woods, hedges, banks, gardens, lone trees; orchards in rows."""
    parcels, size = ground.parcels, ground.cover.shape[0]
    chance = floats([0.10, 0.004, 0.03, 0.93, 0.0, 0.006, 0.0])
    chance[URBAN] *= rng.uniform(0.3, 2.5)
    chance[RANGELAND] *= rng.uniform(0.2, 3.0)
    chance[AGRICULTURE] *= rng.choice([0.3, 1.0, 6.0])
    density = chance[ground.cover]
    clumps = fractal_noise(rng, size, 70, 3)
    open_land = np.isin(ground.cover, [AGRICULTURE, RANGELAND, URBAN, BARREN])
    density *= np.where(open_land, np.exp(1.7 * clumps - 0.7), 1 - 0.5 * smoothstep(clumps, 1.0, 1.8))
    density += (ground.cover == RANGELAND) * smoothstep(clumps, 1.6, 2.0) * 0.7
    hedges = (rng.random(parcels.n) < rng.choice([0.05, 0.2, 0.5]))[parcels.parcel] & (parcels.edge < 2.5)
    density += hedges * (ground.cover == AGRICULTURE) * 0.30
    if ground.kind.roads:
        density += ((ground.road > ground.road_px + 2) & (ground.road < ground.road_px + 6)) * rng.uniform(0, 0.25)
    density *= (ground.road > ground.road_px + 1.5) & ~house & (ground.cover != WATER)
    points = jittered_grid(rng, size, spacing, margin=0)
    points = points[(points < size).all(axis=1)]
    rows, cols = points.astype(np.int32).T
    free = points[rng.random(len(points)) < density[rows, cols]]
    return np.concatenate([free, _orchards(rng, ground, stages)])


def _orchards(rng: np.random.Generator, ground: Ground, stages: Indices) -> Field:
    """Place trees in rows, on the lattice of each orchard's own estate."""
    parcels = ground.parcels
    orchard = (stages == STAGES.index("orchard"))[parcels.parcel] & (ground.cover == AGRICULTURE) & (parcels.edge > 2)
    pitch = np.float32(rng.uniform(6.5, 10))
    u, v = parcels.u / pitch, parcels.v / pitch
    middle = (np.abs(u - np.round(u)) < 0.5 / pitch) & (np.abs(v - np.round(v)) < 0.5 / pitch)
    points = np.argwhere(orchard & middle).astype(np.float32)
    return points[rng.random(len(points)) < 0.93] + rng.uniform(-0.6, 0.6, 2).astype(np.float32)


def _blend(picture: Picture, colour: Colours, share: Field) -> None:
    """Cover the picture with one colour, in place, where ``share`` is above 0."""
    where = np.flatnonzero(share.ravel() > 0)
    pixels = picture.reshape(-1, 3)
    pixels[where] += share.ravel()[where, None] * (colour - pixels[where])


def _shade(picture: Picture, mass: Field, palette: Palette, length: float, darkness: float) -> None:
    """Darken the shadow of ``mass``, in place; the mass itself stays lit."""
    shadow = mass
    for part in (0.4, 0.7, 1.0):
        moved = shifted(mass, -palette.sun[0] * length * part, -palette.sun[1] * length * part)
        shadow = np.maximum(shadow, moved)
    shadow = blurred((shadow - mass) * (1 - mass), 0.6)
    picture *= (1 - np.float32(darkness) * np.clip(shadow, 0, 1))[..., None]


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
        with progress_bar(gettext("generate scenes"), len(todo)) as bar:
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
    """Write scenes in threads, where a few fit into memory: NumPy releases the lock."""
    at_once = max(1, _PIXELS_AT_ONCE // size**2)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1, at_once))
    try:
        tasks = [pool.submit(_write_scene, folder, name, seed=seed, index=index, size=size) for name, index in todo]
        for task in as_completed(tasks):
            task.result()
            bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_scene(folder: Path, name: str, *, seed: int, index: int, size: int) -> None:
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


def _stamp(seed: int, index: int, size: int) -> str:
    return f"levelground generated scene, generator {GENERATOR}, seed {seed}, index {index}, size {size}"


def _read_stamp(path: Path) -> str | None:
    """Return the numbers that a file was made from, or ``None`` where it is not a generated scene."""
    try:
        with Image.open(path) as image:
            stamp = image.info.get(_STAMP_KEY) or image.info.get("comment")
    except (*DAMAGED, Image.DecompressionBombError):
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
