"""Of which places a comparison speaks, and how their groups weigh: few regions, one raster, groups of unlike size.

Each kind is a type of fact and a function that finds it; :mod:`levelground.comparison.caveat_sentences` writes them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.comparison.conditions import SceneRow
from levelground.comparison.facts import Fact
from levelground.comparison.record import Comparison

HEAVY_SHARE = 0.5
"""A group with a larger share of the counted pixels carries most of any score that sums pixels."""

ALIKE_GROUPS, ALIKE_SHARE = 12, 0.6
"""Groups that weigh as fewer alike ones than both of these (the second as a share of the groups) are unlike."""

TAIL_GROUPS, TAIL_INDEX, POWER_INDEX, POWER_SKEWNESS = 20, 0.7, 1.5, 0.7
"""From as many groups on: a tail index below the first is heavy, one below the second where log sizes are as skewed.

Log sizes are normal where sizes are log-normal, and skewed (by 2) where they follow a power law, of which the largest
scene at hand tells little about the largest there is (docs/experiments.md).
"""

MOST_REGIONS = 20
"""With as many regions, intervals over the groups in them cover .87 or more for other regions (docs/experiments.md)."""

FEWEST_GROUPS = 6
APART = 3.0
"""Regions lie apart by this many times the widest gap inside one."""

LEAST_GAP_KM = 0.01
"""Smaller gaps count as this one: copies of one place are no region."""


@dataclass(frozen=True)
class HeavyGroup(Fact):
    """One group that holds most of the scored pixels."""

    code = "heavy_group"
    severity = "warning"
    kept = ("group", "share")
    group: str
    share: float


@dataclass(frozen=True)
class UnlikeGroups(Fact):
    """Groups of very unlike size, of which none holds most of the scored pixels.

    Attributes:
        groups: Number of groups G.
        alike: As how many groups of one size they weigh: (Σ n)² / Σ n², n the scored pixels of a group.
    """

    code = "unlike_groups"
    severity = "warning"
    kept = ("groups", "alike")
    groups: int
    alike: float


@dataclass(frozen=True)
class FewRegions(Fact):
    """Groups that lie in few regions.

    Attributes:
        groups: Number of groups.
        regions: Names of the regions, or of a scene of each.
        gap_km: Distance that joins the scenes of a region and none of two; ``None`` where names tell the regions.
    """

    code = "few_regions"
    severity = "warning"
    kept = ("groups", "regions", "gap_km")
    groups: int
    regions: tuple[str, ...]
    gap_km: float | None


@dataclass(frozen=True)
class UnknownPlaces(Fact):
    """Nothing says which groups lie together."""

    code = "unknown_places"
    kept = ("scenes",)
    scenes: int
    split: str


@dataclass(frozen=True)
class NamedPlaces(Fact):
    """Groups that somebody named, or places on the map that are spread: verdicts speak of places like these."""

    code = "places"
    kept = ("groups",)
    groups: int


@dataclass(frozen=True)
class OneRaster(Fact):
    """All scenes are blocks of one raster."""

    code = "one_raster"
    severity = "warning"


def find_sizes(comparison: Comparison) -> list[Fact]:
    """Find a group with more than half of the counted pixels, else groups of very unlike size."""
    pixels: dict[str, int] = {}
    for scene in comparison.scenes:
        of_counted = zip(comparison.legend.classes, scene.class_pixels, strict=True)
        n = sum(n for entry, n in of_counted if entry.counted)
        pixels[scene.group] = pixels.get(scene.group, 0) + n
    total, heaviest = sum(pixels.values()), max(pixels, key=lambda group: pixels[group])
    if len(pixels) < 2 or not total:
        return []
    if pixels[heaviest] > HEAVY_SHARE * total:
        return [HeavyGroup(heaviest, pixels[heaviest] / total)]
    sizes = list(pixels.values())
    return [UnlikeGroups(len(sizes), alike_groups(sizes))] if unlike_sizes(sizes) else []


def alike_groups(pixels: Sequence[float]) -> float:
    """Return as how many groups of one size some groups weigh, after Kish 1965.

    Example:
        >>> alike_groups([5, 5, 5, 5]), round(alike_groups([97, 1, 1, 1]), 2)
        (4.0, 1.06)
    """
    return sum(pixels) ** 2 / sum(n * n for n in pixels)


def unlike_sizes(pixels: Sequence[float]) -> bool:
    """Tell whether groups are so unlike that intervals over them may be too narrow.

    They weigh as few alike ones, or their sizes have a heavy tail: by the index of a power law above the median
    (Hill 1975) and the skewness of log sizes.

    Args:
        pixels: Scored pixels of each group; groups without any do not count.
    Example:
        >>> even, power_law = [90 + rank for rank in range(40)], [(1 + rank) ** -0.9 for rank in range(40)]
        >>> unlike_sizes(even), unlike_sizes([*even, 5000]), unlike_sizes(power_law)
        (False, True, True)
    """
    sizes = np.sort([n for n in pixels if n > 0])
    groups = len(sizes)
    if alike_groups(sizes.tolist()) < min(ALIKE_GROUPS, ALIKE_SHARE * groups):
        return True
    if groups < TAIL_GROUPS:
        return False
    logs = np.log(sizes)
    excess, spread = float((logs[groups // 2 :] - np.median(logs)).mean()), float(logs.std())
    if excess * POWER_INDEX <= 1:  # the index is 1/excess
        return False
    skewness = float(((logs - logs.mean()) ** 3).mean()) / spread**3
    return excess * TAIL_INDEX > 1 or skewness > POWER_SKEWNESS


def find_places(comparison: Comparison) -> list[Fact]:
    """Find of which places the verdicts speak: exactly one fact where there are two scenes or more."""
    scenes, groups = comparison.scenes, comparison.n_groups
    if comparison.dataset.layout == "raster":
        return [OneRaster()]
    if len(scenes) < 2:
        return []
    regions = few_regions(scenes)
    if regions is not None:
        return [regions]
    grouped = comparison.dataset.groups_from
    named = len({scene.group for scene in scenes}) < len(scenes) if grouped is None else grouped in _NAMED
    if named or (grouped or "").startswith("places") or all(scene.place for scene in scenes):
        return [NamedPlaces(groups)]
    return [UnknownPlaces(len(scenes), comparison.split)]


_NAMED = ("groups.csv", "folders", "folders and pixels", "rasters")
"""Where groups come from that somebody named."""


def few_regions(scenes: Sequence[SceneRow]) -> FewRegions | None:
    """Find whether many groups lie in few regions: by their places on the map, else by the words that names begin with.

    Args:
        scenes: The scenes, with groups, and places where they are known.
    Returns:
        The regions; ``None`` where there are fewer than six groups, or more than twenty regions or half as many
        regions as groups, or one alone.
    """
    groups = len({scene.group for scene in scenes})
    gap_km, names = None, [_first_words(scene.id) for scene in scenes]
    known = [scene.place for scene in scenes if scene.place]
    if len(known) == len(scenes):
        region, gap_km = map_regions(np.array(known))
        names = [scenes[int(np.flatnonzero(region == number)[0])].id for number in region]
    if groups < FEWEST_GROUPS or not all(names):
        return None
    regions = tuple(dict.fromkeys(names))
    held = [len({scene.group for scene, own in zip(scenes, names, strict=True) if own == name}) for name in regions]
    few = 1 < len(regions) <= min(MOST_REGIONS, (groups - 1) // 2) and sum(held) == groups and min(held) > 1
    return FewRegions(groups, regions, gap_km) if few else None


def _first_words(scene: str) -> str:
    """Return the words that a scene's name begins with, before its first number; empty without any.

    Example:
        >>> [_first_words(name) for name in ("aachen_12", "new_york_3_1", "104_sat", "north/tile7")]
        ['aachen', 'new_york', '', 'north/tile']
    """
    return re.split(r"[\W_]*\d", scene, maxsplit=1)[0].rstrip("/_-. ") if re.search(r"\d", scene) else ""


def map_regions(places: NDArray[np.float64]) -> tuple[NDArray[np.intp], float | None]:
    """Find few regions of places: parts that lie three times as far from each other as any gap inside, or farther.

    The gaps are those of the minimum spanning tree (Prim 1957), which is cut where two of its sorted gaps differ most.

    Args:
        places: Longitude and latitude, degrees, ``(n, 2)``.
    Returns:
        The number of each place's region ``(n,)``, and a distance between the widest gap inside and the narrowest one
        outside, km; one region and ``None`` where no gap stands out.
    Example:
        >>> places = np.array([[7.0, 50.0], [7.0, 50.01], [7.01, 50.0], [9.0, 50.0], [9.01, 50.0]])
        >>> region, gap_km = map_regions(places)
        >>> region.tolist(), 1 < gap_km < 142
        ([0, 0, 0, 3, 3], True)
    """
    longitude, latitude = np.radians(places).T
    flat = np.cos(latitude)
    points = 6371.0 * np.stack((flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)), axis=1)
    n = len(points)
    parent, gap = np.zeros(n, np.intp), np.full(n, np.inf)
    order, current, left = [0], 0, np.ones(n, bool)
    left[0] = False
    for _ in range(n - 1):
        distance = np.linalg.norm(points - points[current], axis=1)
        nearer = left & (distance < gap)
        parent[nearer], gap[nearer] = current, distance[nearer]
        current = int(np.argmin(np.where(left, gap, np.inf)))
        left[current] = False
        order.append(current)
    region, cuts = np.zeros(n, np.intp), min(MOST_REGIONS, n // 2) - 1
    lengths = np.maximum(np.sort(gap[1:]), LEAST_GAP_KM)[-cuts - 1 :]
    ratios = lengths[1:] / lengths[:-1]
    if cuts < 1 or ratios.max() < APART:
        return region, None
    widest = int(np.argmax(ratios))
    between = math.sqrt(lengths[widest] * lengths[widest + 1])
    for number in order[1:]:
        region[number] = number if gap[number] > between else region[parent[number]]
    return region, between
