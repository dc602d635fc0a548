"""Draw roads and tracks, houses, trees and their shadows on the ground of generated scenes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
from levelground.synthetic.parcels import Parcels
from levelground.synthetic.terrain import AGRICULTURE, BARREN, FOREST, RANGELAND, URBAN, WATER, Ground
from levelground.synthetic.textures import STAGES, Colours, Palette, Picture

_LOTS: Final = 16  # house lots along and across one parcel, at most
_ROOFS: Final = floats(
    [[168, 162, 148], [208, 202, 190], [136, 127, 112], [146, 92, 74], [112, 110, 108], [92, 112, 150], [176, 150, 122]]
)
_ROOF_WEIGHTS: Final = (3.0, 2.0, 2.0, 0.7, 0.7, 0.15, 0.8)  # of a Dirichlet distribution: each town has its mixture


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
