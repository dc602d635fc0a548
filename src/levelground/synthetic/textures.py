"""Paint the ground of generated scenes: crops, grass, soil and water, without roads, houses and trees."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from levelground.synthetic.noise import Field, Indices, floats, fractal_noise, smooth_noise, smoothstep, stream
from levelground.synthetic.terrain import AGRICULTURE, BARREN, FOREST, RANGELAND, URBAN, WATER, Ground

Picture = NDArray[np.float32]  # (H, W, 3), red first, 0..255
Colours = NDArray[np.float32]  # (N, 3)

_SOILS: Final = floats([[148, 98, 70], [150, 126, 92], [122, 109, 88], [166, 152, 124], [104, 90, 70]])
_GREENS: Final = floats([[54, 74, 46], [70, 94, 52], [92, 114, 62], [78, 92, 62]])
_STRAW: Final = floats([162, 144, 98])
_WATERS: Final = floats([[44, 62, 56], [70, 92, 84], [112, 104, 82], [134, 112, 88], [58, 76, 48]])

STAGES: Final = ("ploughed", "seedlings", "green", "dense", "ripe", "stubble", "fallow", "paddy", "orchard")
_COVER: Final = floats([0.04, 0.35, 0.70, 0.95, 0.85, 0.30, 0.50, 0.55, 0.25])  # share of soil hidden
_RELIEF: Final = floats([0.16, 0.24, 0.22, 0.10, 0.12, 0.12, 0.00, 0.05, 0.05])  # depth of furrows
_PATCHES: Final = floats([0.06, 0.12, 0.12, 0.06, 0.08, 0.10, 0.26, 0.20, 0.10])  # uneven growth
_ORCHARD: Final = STAGES.index("orchard")
_PADDY: Final = STAGES.index("paddy")


@dataclass(frozen=True)
class Palette:
    """The colours of one scene: its soil, its season. Rangeland, crops and bare ground share them on purpose."""

    soil: Colours  # (3,)
    green: Colours  # (3,)
    dry: Colours  # (3,) dry grass and straw
    water: Colours  # (2, 3) two ends of a mixture
    season: Colours  # (len(STAGES),) how often each stage of growth occurs
    wetness: float  # 0 dry season, 1 green everywhere
    sun: tuple[float, float]  # row and column of the unit vector towards the sun


def draw_palette(seed: int, index: int) -> Palette:
    """Draw the colours of one scene."""
    rng = stream(seed, index, 20)
    wetness = float(rng.random())
    soil = rng.dirichlet(np.full(len(_SOILS), 0.5)) @ _SOILS
    green = rng.dirichlet(np.full(len(_GREENS), 0.8)) @ _GREENS
    weights = np.array([1.6 - wetness, 1.0, 1.0 + wetness, 0.4 + 1.2 * wetness, 0.7, 1.2 - wetness, 0.7, 0.3, 0.5])
    azimuth = rng.uniform(0.55, 0.95) * np.pi  # the morning pass of a sun-synchronous satellite, either hemisphere
    azimuth += np.pi * (rng.random() < 0.15)
    return Palette(
        soil=floats(soil),
        green=floats(green),
        dry=floats(0.45 * _STRAW + 0.55 * soil + 0.12 * wetness * (green - soil)),
        water=floats(_WATERS[rng.choice(len(_WATERS), 2, p=(0.3, 0.15, 0.2, 0.2, 0.15))]),
        season=floats(rng.dirichlet(1.4 * weights)),
        wetness=wetness,
        sun=(-float(np.sin(azimuth)), float(np.cos(azimuth))),
    )


def draw_stages(seed: int, index: int, ground: Ground, palette: Palette) -> Indices:
    """Draw the stage of growth of each parcel, ``(P,)``; neighbours of one estate often grow the same."""
    rng = stream(seed, index, 21)
    weights = palette.season.astype(np.float64)
    weights /= weights.sum()
    stage = rng.choice(len(STAGES), ground.parcels.n, p=weights)
    estate = rng.choice(len(STAGES), len(ground.parcels.angle), p=weights)[ground.parcels.estate_of]
    return np.where(rng.random(ground.parcels.n) < 0.4, estate, stage).astype(np.int32)


def paint_ground(seed: int, index: int, ground: Ground, palette: Palette, stages: Indices) -> Picture:
    """Paint the cover of each pixel: fields from tables of parcels, the rest class by class."""
    size = ground.cover.shape[0]
    rng = stream(seed, index, 22)
    mottle = fractal_noise(rng, size, 26, 4, gain=0.7)
    broad = fractal_noise(rng, size, 170, 3)
    grain = rng.standard_normal((size, size), np.float32)
    low, high, share, shade = _field_maps(rng, ground, palette, stages, mottle, broad)
    for cover, painter in _PAINTERS.items():
        where = np.flatnonzero(ground.cover.ravel() == cover)
        if len(where):
            ends, mix, light = painter(rng, ground, palette, mottle, broad)
            low.reshape(-1, 3)[where] = ends[0]
            high.reshape(-1, 3)[where] = ends[1]
            share.ravel()[where] = mix.ravel()[where]
            shade.ravel()[where] = light.ravel()[where]
    shade *= 1 + np.float32(0.035) * grain
    picture = high
    picture -= low
    picture *= np.clip(share, 0, 1)[..., None]
    picture += low
    picture *= shade[..., None]
    return picture


def _field_maps(
    rng: np.random.Generator, ground: Ground, palette: Palette, stages: Indices, mottle: Field, broad: Field
) -> tuple[Picture, Picture, Field, Field]:
    """Map soil colour, crop colour, share of crop and brightness of each pixel, as if all were fields."""
    parcels = ground.parcels
    n = parcels.n
    soil = palette.soil * _spread(rng, n, 0.10, 0.02)
    crop = palette.green * _spread(rng, n, 0.16, 0.035)
    straw = np.isin(stages, [STAGES.index("ripe"), STAGES.index("stubble"), STAGES.index("fallow")])
    crop[straw] = (palette.dry * _spread(rng, n, 0.10, 0.03))[straw]
    soil[stages == _PADDY] = 0.6 * palette.water[0] + 0.3 * palette.soil
    soil[stages == STAGES.index("ploughed")] *= 0.88
    cover = np.clip(_COVER[stages] + rng.normal(0, 0.10, n).astype(np.float32), 0, 1)
    parcel = parcels.parcel
    lengthwise = rng.random(n) < 0.85
    coordinate = np.where(lengthwise[parcel], parcels.v, parcels.u)
    period = rng.choice(floats([3.2, 4.0, 4.8, 6.0, 7.5]), n)
    relief = _RELIEF[stages] * rng.uniform(0.3, 1.3, n).astype(np.float32)
    beds = np.cos(coordinate * np.float32(2 * np.pi) / (period * 4.3)[parcel] + mottle * 0.25)
    rows = np.cos(coordinate * np.float32(2 * np.pi) / period[parcel] + mottle * 0.35) + 0.35 * beds
    rows *= relief[parcel] * smoothstep(parcels.edge, 1.5, 5.0)
    share = cover[parcel] + 1.1 * rows + _PATCHES[stages][parcel] * (0.8 * mottle + broad)
    shade = 1 + 0.45 * rows + 0.03 * mottle
    bund = smoothstep(parcels.edge, 2.2, 0.8) * rng.random(n, np.float32)[parcel]
    share += bund * (0.35 - share)
    shade += bund * np.float32(0.10)
    return np.take(soil, parcel, axis=0), np.take(crop, parcel, axis=0), share, shade


def _spread(rng: np.random.Generator, n: int, brightness: float, hue: float) -> Colours:
    """Draw factors ``(n, 3)`` around 1 that vary brightness together and hue by channel."""
    both = rng.normal(0, brightness, (n, 1)) + rng.normal(0, hue, (n, 3))
    return np.exp(both).astype(np.float32)


Layer = tuple[tuple[Colours, Colours], Field, Field]  # two ends of a mixture, the share of the second, brightness


def _rangeland(rng: np.random.Generator, ground: Ground, palette: Palette, mottle: Field, broad: Field) -> Layer:
    """Paint grass in tufts and patches over soil, traces of old fields, cattle paths."""
    parcels, size = ground.parcels, ground.cover.shape[0]
    grass = palette.dry + (0.15 + 0.6 * palette.wetness) * (palette.green - palette.dry)
    share = 0.62 + 0.20 * mottle + 0.22 * broad + 0.10 * smooth_noise(rng, size, 2.5)
    old = ground.old_fields[parcels.parcel]
    share += old * (0.28 * (rng.random(parcels.n, np.float32)[parcels.parcel] - 0.5))
    share += old * 0.10 * np.cos(parcels.v * np.float32(2 * np.pi / 5.3))
    paths = smoothstep(np.abs(smooth_noise(rng, size, 75) + 0.12 * mottle), 0.035, 0.0)
    share *= 1 - 0.8 * paths
    shade = 0.97 + 0.05 * smooth_noise(rng, size, 2.0) + 0.12 * paths
    return (palette.soil, grass), share, shade


def _forest_floor(rng: np.random.Generator, ground: Ground, palette: Palette, mottle: Field, broad: Field) -> Layer:
    """Paint the ground between the crowns of trees."""
    share = 0.55 + 0.25 * mottle + 0.15 * broad
    return (0.75 * palette.soil, 0.7 * palette.green), share, np.full_like(share, 0.8)


def _bare(rng: np.random.Generator, ground: Ground, palette: Palette, mottle: Field, broad: Field) -> Layer:
    """Paint soil and rock with relief, gullies, terraces of a pit, tracks; smooth sand by the sea."""
    size = ground.cover.shape[0]
    height = 9 * ground.natural + 22 * broad
    steps = np.float32(rng.uniform(7, 12))
    pit = smoothstep(smooth_noise(rng, size, 160), 0.6, 0.9)
    terraces = steps * (np.floor(height / steps) + smoothstep(height / steps - np.floor(height / steps), 0.7, 1.0))
    height += pit * (1.6 * terraces - height)
    gullies = smoothstep(np.abs(fractal_noise(rng, size, 48, 3)), 0.16, 0.0)
    height -= 2.2 * gullies
    slope = palette.sun[0] * np.gradient(height, axis=0) + palette.sun[1] * np.gradient(height, axis=1)
    sand = smoothstep(ground.shore, 45, 20) if ground.kind.water == "coast" else np.float32(0)
    shade = 1.06 - (1 - 0.85 * sand) * np.clip(0.16 * slope.astype(np.float32), -0.35, 0.35) + 0.25 * sand
    share = 0.45 + 0.28 * broad + 0.16 * mottle + 0.3 * pit
    old = ground.old_fields[ground.parcels.parcel]
    share += 0.4 * old * (rng.random(ground.parcels.n, np.float32)[ground.parcels.parcel] - 0.5)
    pale = 0.62 * palette.soil + 0.42 * _SOILS[3]
    dull = 0.94 * palette.soil + 0.06 * palette.dry
    return (dull, pale), share, shade


def _yard(rng: np.random.Generator, ground: Ground, palette: Palette, mottle: Field, broad: Field) -> Layer:
    """Paint trodden ground, gardens and waste between houses."""
    size = ground.cover.shape[0]
    garden = palette.dry + (0.2 + 0.7 * palette.wetness) * (palette.green - palette.dry)
    share = 0.35 + 0.35 * mottle + 0.25 * broad
    return (0.9 * palette.soil + 12, garden), share, 1 + 0.10 * smooth_noise(rng, size, 3)


def _water(rng: np.random.Generator, ground: Ground, palette: Palette, mottle: Field, broad: Field) -> Layer:
    """Paint water, deep or muddy, smooth; the shallows take the colour of the ground."""
    size = ground.cover.shape[0]
    share = smoothstep(0.35 * broad + smooth_noise(rng, size, 0.6 * size), -1.5, 1.5)
    shallow = smoothstep(ground.depth, 9, 1)
    shade = 1 + 0.18 * shallow + 0.012 * smooth_noise(rng, size, 2)
    return (palette.water[0], palette.water[1]), share, shade


_PAINTERS: Final = {
    RANGELAND: _rangeland,
    FOREST: _forest_floor,
    BARREN: _bare,
    URBAN: _yard,
    WATER: _water,
}
assert AGRICULTURE not in _PAINTERS  # fields are painted from tables of parcels
