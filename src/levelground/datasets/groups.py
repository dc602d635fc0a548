"""Group scenes that are not independent: by folders or ``groups.csv``, or by pixels and places on the map.

A group is the unit of splitting and of resampling: scenes of one group must not be split between training and test,
and an interval over them counts groups, not scenes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from levelground.config import GroupsFrom, Layout, group_distance_m
from levelground.datasets.dataset import SceneRecord
from levelground.datasets.fingerprints import Fingerprint
from levelground.datasets.near_duplicates import Kind, find_overlaps, find_recompressed, find_repeats, find_touching
from levelground.errors import DataError
from levelground.imagery.grids import in_degrees, is_on_earth, moved
from levelground.imagery.image_headers import read_header
from levelground.imagery.scene_pixels import SceneFile
from levelground.reading import parse_csv, read_text

GROUPS_FILE = "groups.csv"


@dataclass(frozen=True)
class NamedLink:
    """Two scenes that are not independent, and why."""

    a: str
    b: str
    kind: Kind
    text: str


@dataclass(frozen=True)
class Footprint:
    """Bounding box of a georeferenced scene in the units of ``crs``, and the size of a pixel."""

    crs: str
    left: float
    bottom: float
    right: float
    top: float
    pixel: float


@dataclass(frozen=True)
class Grouping:
    """The groups of all scenes.

    ``named`` is the group of each scene by folder or ``groups.csv`` alone, ``joined`` the group after linked scenes
    were joined; ``source`` says where groups come from.
    """

    named: Mapping[str, str]
    joined: Mapping[str, str]
    source: str
    links: tuple[NamedLink, ...] = ()


def find_groups(
    asked: GroupsFrom,
    data: Path,
    layout: Layout,
    files: Sequence[SceneFile],
    scenes: Sequence[SceneRecord],
    fingerprints: Mapping[str, Fingerprint],
) -> Grouping:
    """Group the scenes as asked.

    Args:
        asked: Where groups come from; ``auto`` takes ``groups.csv`` where there is one, else folders and pixels.
        data: The data folder.
        layout: Blocks of a raster touch by design and are not searched: each is a group, or each raster is.
        files: The scenes' files.
        scenes: Their records, in the same order.
        fingerprints: Their fingerprints, by id.
    Raises:
        DataError: ``groups.csv`` is wrong, or a distance is asked for and a scene has no place on the map.
    """
    alone = {scene.id: scene.id for scene in scenes}
    folders = {file.id: file.group or file.id for file in files}
    shared = folders != alone
    table = data / GROUPS_FILE
    if asked == "file" or (asked == "auto" and table.is_file()):
        named = read_groups(table, alone)
        return Grouping(named, named, GROUPS_FILE)
    if asked == "none":
        return Grouping(alone, alone, "none")
    distance_m = group_distance_m(asked)
    if distance_m is not None:
        links = (*equal_file_links(scenes), *pixel_links(fingerprints)) if layout != "raster" else ()
        near = distance_groups(footprints(files), alone, distance_m)
        return Grouping(near, join_groups(alone, near, links), f"places nearer than {distance_m / 1000:g} km", links)
    if layout == "raster":
        return Grouping(folders, folders, "rasters" if shared else "blocks of one raster")
    if asked == "folders":
        return Grouping(folders, folders, "folders")
    named = folders if asked == "auto" else alone
    links = (*equal_file_links(scenes), *pixel_links(fingerprints), *footprint_links(footprints(files)))
    first: dict[tuple[str, str], NamedLink] = {}
    for link in links:
        first.setdefault((min(link.a, link.b), max(link.a, link.b)), link)
    source = "folders and pixels" if asked == "auto" and shared else "pixels"
    return Grouping(named, join_groups(alone, named, links), source, tuple(first.values()))


def footprints(files: Sequence[SceneFile]) -> dict[str, Footprint]:
    """Read where georeferenced scenes lie, by id."""
    found = {}
    for file in files:
        info = read_header(file.image)
        if info.crs is None or info.transform is None:
            continue
        a, b, c, d, e, f = info.transform
        top, left, height, width = file.window or (0, 0, info.height, info.width)
        corners = [(column, row) for column in (left, left + width) for row in (top, top + height)]
        x = [c + a * column + b * row for column, row in corners]
        y = [f + d * column + e * row for column, row in corners]
        found[file.id] = Footprint(info.crs, min(x), min(y), max(x), max(y), abs(a * e - b * d) ** 0.5)
    return found


def middles(footprints: Mapping[str, Footprint]) -> dict[str, tuple[float, float]]:
    """Return longitude and latitude of the middle of each scene that has a place on earth, degrees, by id."""
    found = {}
    for crs in {one.crs for one in footprints.values()}:
        ids = [scene for scene, one in footprints.items() if one.crs == crs and is_on_earth(crs)]
        boxes = [footprints[scene] for scene in ids]
        centres = tuple(((one.left + one.right) / 2, (one.bottom + one.top) / 2) for one in boxes)
        for scene, place in zip(ids, moved(crs, "EPSG:4326", centres), strict=True):
            if np.isfinite(place).all():
                found[scene] = (round(place[0], 5), round(place[1], 5))
    return found


EARTH_M = 6_371_008.8
"""Mean radius of the WGS84 ellipsoid: it bends a chord between two of its points into an arc."""
SIDE_POINTS = 16
"""Points on each half of a scene's side, between which distances are measured."""


def distance_groups(footprints: Mapping[str, Footprint], ids: Iterable[str], distance_m: float) -> dict[str, str]:
    """Group scenes that lie less than a distance apart on the WGS84 ellipsoid, and those in between them.

    Distances are those of the nearest points of the outlines, to a 64th of a scene's side, or of the middles where
    these are nearer; scenes of different groups are farther apart.

    Args:
        footprints: Place of each scene on the map, by id.
        ids: All scenes.
        distance_m: The distance, in metres.
    Returns:
        The group of each scene, by id: the first id of the group.
    Raises:
        DataError: A scene has no place on the map.
    """
    ordered = sorted(ids)
    lost = [scene for scene in ordered if scene not in footprints or not is_on_earth(footprints[scene].crs)]
    outlines = {} if lost else _places([footprints[scene] for scene in ordered])
    lost += [ordered[n] for n, points in outlines.items() if not np.isfinite(points).all()]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise DataError(
            f"--groups km:{distance_m / 1000:g}: scene {lost[0]!r}{more} has no place on the map. Give GeoTIFFs with a "
            f"coordinate system, or write {GROUPS_FILE} with the columns id,group."
        )
    centre = np.array([points.mean(axis=0) for points in outlines.values()])
    radius = np.array([np.linalg.norm(points - points.mean(axis=0), axis=1).max() for points in outlines.values()])
    chord = 2 * EARTH_M * math.sin(min(distance_m / EARTH_M, math.pi) / 2)
    pairs = [
        NamedLink(ordered[i], ordered[j], "touches", "")
        for i, j, apart in _near_spheres(centre, radius, chord)
        if apart < chord or (apart - radius[j] - radius[i] < chord and _gap(outlines[i], outlines[j]) < chord)
    ]
    return join_groups(ordered, {}, pairs)


def _near_spheres(
    centre: NDArray[np.float64], radius: NDArray[np.float64], reach: float = 0.0
) -> Iterator[tuple[int, int, float]]:
    """Find spheres that come within a reach of each other, and may find some that do not quite.

    Args:
        centre: The middles, ``(n, 3)``; those that are not finite are passed over.
        radius: The radii, ``(n,)``.
        reach: The largest distance of their surfaces.
    Yields:
        Positions, the smaller first, in order, and the distance of the middles.
    """
    known = np.flatnonzero(np.isfinite(centre).all(axis=1))
    if len(known) < 2:
        return
    most = 1.01 * (reach + 2 * float(radius[known].max()))
    pairs = known[cKDTree(centre[known]).query_pairs(most, output_type="ndarray")]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    apart = np.linalg.norm(centre[pairs[:, 1]] - centre[pairs[:, 0]], axis=1)
    close = apart <= 1.01 * (reach + radius[pairs].sum(axis=1))
    yield from zip(*pairs[close].T.tolist(), apart[close].tolist(), strict=True)


def _places(boxes: Sequence[Footprint]) -> dict[int, NDArray[np.float64]]:
    """Return points of each outline on the WGS84 ellipsoid, metres from its middle, ``(points, 3)``."""
    semi_major, e2 = 6_378_137.0, 0.006_694_379_990_14
    found = {}
    for number, box in enumerate(boxes):
        corners = np.array(_outline(box))
        steps = np.linspace(0, 1, SIDE_POINTS, endpoint=False)[:, None, None]
        around = (corners + steps * (np.roll(corners, -1, axis=0) - corners)).reshape(-1, 2)
        longitude, latitude = np.radians(np.array(moved(box.crs, "EPSG:4326", tuple(map(tuple, around.tolist()))))).T
        normal = semi_major / np.sqrt(1 - e2 * np.sin(latitude) ** 2)
        x, y = normal * np.cos(latitude) * np.cos(longitude), normal * np.cos(latitude) * np.sin(longitude)
        found[number] = np.stack((x, y, normal * (1 - e2) * np.sin(latitude)), axis=1)
    return found


def _gap(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the smallest distance of two sets of points ``(n, 3)``."""
    return float(np.linalg.norm(own[:, None] - other[None], axis=2).min())


def read_groups(path: Path, ids: Iterable[str]) -> dict[str, str]:
    """Read a table of groups with the columns ``id`` and ``group``.

    Args:
        path: The CSV file, UTF-8.
        ids: The scenes at hand; each must be named. Names of other scenes are ignored.
    Returns:
        The group of each scene, by id.
    Raises:
        DataError: The file is missing or unreadable, lacks a column, names a scene twice or lacks one.
    """
    try:
        header, *lines = parse_csv(read_text(path, "utf-8-sig")) or [[]]
        named: dict[str, str] = {}
        for line in filter(None, lines):
            row = dict(zip(header, line, strict=False))
            scene, group = row.get("id", "").strip(), row.get("group", "").strip()
            if not scene or not group:
                raise DataError(f"{path}: a line lacks id or group, expected the columns id,group. Complete it.")
            if named.setdefault(scene, group) != group:
                raise DataError(f"{path}: scene {scene!r} is in two groups, expected one. Remove a line.")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: does not exist, expected columns id,group. Write it or choose other groups."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: unreadable table of groups ({error}). Expected UTF-8 with columns id,group."
        ) from error
    wanted = sorted(ids)
    missing = [scene for scene in wanted if scene not in named]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: no group for scene {missing[0]!r}{more}, expected every scene. Add lines id,group.")
    return {scene: named[scene] for scene in wanted}


def equal_file_links(scenes: Sequence[SceneRecord]) -> list[NamedLink]:
    """Link the first of equal image files to each of the others."""
    first: dict[object, str] = {}
    links = []
    for scene in scenes:
        other = first.setdefault((scene.raster, scene.window), scene.id)
        if other != scene.id:
            links.append(NamedLink(other, scene.id, "repeats", f"{other} and {scene.id} are the same image file"))
    return links


def pixel_links(fingerprints: Mapping[str, Fingerprint]) -> list[NamedLink]:
    """Link scenes that touch, overlap or repeat, told from pixels.

    Args:
        fingerprints: The scenes' fingerprints, by id.
    Returns:
        One link for each pair, with the strongest reason: repeats, then overlaps, then touches.
    """
    ids = sorted(fingerprints)
    ordered = [fingerprints[scene] for scene in ids]
    shapes = [one.size for one in ordered]
    detail = [one.detail for one in ordered]
    links: dict[tuple[str, str], NamedLink] = {}
    repeats = [*find_repeats(detail, shapes), *find_recompressed(ordered)]
    copies = {max(link.a, link.b) for link in repeats}
    for link in (*repeats, *find_overlaps(detail, shapes), *find_touching(ordered, copies)):
        a, b = ids[link.a], ids[link.b]
        text = {
            "repeats": f"{a} and {b} show the same scene, {link.where} (correlation {link.score:.2f})",
            "overlaps": f"{a} and {b} overlap (evidence {link.score:.0f})",
            "touches": f"{a} lies {link.where} {b} (evidence {link.score:.0f})",
        }[link.kind]
        pair = (min(a, b), max(a, b))
        links.setdefault(pair, NamedLink(a, b, link.kind, text))
    return [links[pair] for pair in sorted(links)]


def footprint_links(footprints: Mapping[str, Footprint]) -> list[NamedLink]:
    """Link georeferenced scenes whose boxes overlap or touch, to half a pixel.

    Args:
        footprints: Place of each scene on the map, by id. Boxes in unlike coordinate systems, such as two UTM zones,
            are brought into one of the two.
    """
    ids = sorted(footprints)
    if len(ids) < 2:
        return []
    box = np.array([[p.left, p.bottom, p.right, p.top, p.pixel] for p in (footprints[scene] for scene in ids)])
    _, system = np.unique([footprints[scene].crs for scene in ids], return_inverse=True)
    found = [pair for crs in range(system.max() + 1) for pair in _near_boxes(box, np.flatnonzero(system == crs))]
    links = []
    for i, j, shared, slack in sorted(found):
        kind: Kind = "overlaps" if shared > slack else "touches"
        verb = "overlap" if kind == "overlaps" else "touch"
        links.append(NamedLink(ids[i], ids[j], kind, f"{ids[i]} and {ids[j]} {verb} on the map"))
    return links + _links_across_systems(footprints, ids)


def _near_boxes(box: NDArray[np.float64], members: NDArray[np.int64]) -> Iterator[tuple[int, int, float, float]]:
    """Find boxes of one system that overlap or touch, by a sweep along the longer side of the ground they cover.

    Args:
        box: Left, bottom, right, top and size of a pixel, ``(n, 5)``.
        members: The boxes in question.
    Yields:
        Positions, the smaller first, the smaller of the shared widths, and half the smaller pixel.
    """
    along = int(np.ptp(box[members, 1]) > np.ptp(box[members, 0]))
    members = members[np.argsort(box[members, along], kind="stable")]
    start, end = box[members, along], box[members, along + 2]
    last = np.searchsorted(start, end + 0.5 * box[members, 4], side="right")
    for place, own in enumerate(members.tolist()):
        others = members[place + 1 : last[place]]
        rest = box[others]
        slack = 0.5 * np.minimum(rest[:, 4], box[own, 4])
        across = np.minimum(rest[:, 2], box[own, 2]) - np.maximum(rest[:, 0], box[own, 0])
        up = np.minimum(rest[:, 3], box[own, 3]) - np.maximum(rest[:, 1], box[own, 1])
        shared = np.minimum(across, up)
        for one in np.flatnonzero(shared >= -slack).tolist():
            yield *sorted((own, int(others[one]))), float(shared[one]), float(slack[one])


def _links_across_systems(footprints: Mapping[str, Footprint], ids: Sequence[str]) -> list[NamedLink]:
    """Link scenes in unlike coordinate systems: near ones by spheres around them, these by their outlines."""
    on_earth = {crs: is_on_earth(crs) for crs in {one.crs for one in footprints.values()}}
    ids = [scene for scene in ids if on_earth[footprints[scene].crs]]
    system = np.array([footprints[scene].crs for scene in ids])
    if len({*system.tolist()}) < 2:
        return []
    centre, radius = _spheres([footprints[scene] for scene in ids])
    links = []
    for i, j, _ in _near_spheres(centre, radius):
        if system[i] == system[j]:
            continue
        a, b = ids[i], ids[j]
        own, other = footprints[a], footprints[b]
        if in_degrees(own.crs):
            own, other = other, own
        shared = _shared_width(own, other)
        if shared >= -0.5 * own.pixel:
            kind: Kind = "overlaps" if shared > 0.5 * own.pixel else "touches"
            verb = "overlap" if kind == "overlaps" else "touch"
            links.append(NamedLink(a, b, kind, f"{a} and {b} {verb} on the ground, in unlike coordinate systems"))
    return links


def _outline(one: Footprint) -> list[tuple[float, float]]:
    """List corners and middles of the sides of a box, in order around it."""
    across, along = (one.left + one.right) / 2, (one.bottom + one.top) / 2
    left, right, bottom, top = one.left, one.right, one.bottom, one.top
    return [
        (left, bottom), (across, bottom), (right, bottom), (right, along),
        (right, top), (across, top), (left, top), (left, along),
    ]  # fmt: skip


def _spheres(boxes: Sequence[Footprint]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle of each box on the unit sphere, ``(n, 3)``, and the largest distance of its outline from it."""
    places: NDArray[np.float64] = np.empty((len(boxes), 8, 2))
    for crs in {one.crs for one in boxes}:
        mine = [n for n, one in enumerate(boxes) if one.crs == crs]
        around = tuple(place for n in mine for place in _outline(boxes[n]))
        places[mine] = np.array(moved(crs, "EPSG:4326", around)).reshape(len(mine), 8, 2)
    longitude, latitude = np.radians(places).transpose(2, 0, 1)
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=-1
    )
    centre = points.mean(axis=1)
    return centre, np.linalg.norm(points - centre[:, None], axis=2).max(axis=1)


def _shared_width(own: Footprint, other: Footprint) -> float:
    """Return how far two boxes reach into each other at the least, in units of the first's system; below 0: a gap.

    Two convex outlines are apart if they are so along a normal of one of their sides (separating axes).
    """
    rectangle = np.array(_outline(own))
    places = np.array(moved(other.crs, own.crs, tuple(_outline(other))))
    if not np.isfinite(places).all():
        return -math.inf
    if in_degrees(own.crs):
        places[:, 0] += 360 * np.round((rectangle[:, 0].mean() - places[:, 0].mean()) / 360)
    least = math.inf
    for outline in (rectangle, places):
        side = np.roll(outline, -1, axis=0) - outline
        normal = np.stack([side[:, 1], -side[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        first, second = rectangle @ normal.T, places @ normal.T
        shared = np.minimum(first.max(0), second.max(0)) - np.maximum(first.min(0), second.min(0))
        least = min(least, float(shared.min()))
    return least


def join_groups(ids: Iterable[str], named: Mapping[str, str], links: Sequence[NamedLink]) -> dict[str, str]:
    """Join named groups and linked scenes: all scenes that are connected make one group.

    Args:
        ids: All scenes.
        named: Group of the scenes that have one by name; each of the others is its own.
        links: Pairs that are not independent.
    Returns:
        The group of each scene: the name that its scenes carry, the first where there are several, or the first id.
    Example:
        >>> join_groups(["1", "2", "3"], {}, [NamedLink("2", "3", "touches", "")])
        {'1': '1', '2': '2', '3': '2'}
    """
    ordered = sorted(ids)
    above = {scene: scene for scene in ordered}

    def root(scene: str) -> str:
        while above[scene] != scene:
            above[scene] = above[above[scene]]
            scene = above[scene]
        return scene

    first_of: dict[str, str] = {}
    pairs = [(scene, first_of.setdefault(named[scene], scene)) for scene in ordered if scene in named]
    for a, b in (*pairs, *((link.a, link.b) for link in links)):
        low, high = sorted((root(a), root(b)))
        above[high] = low
    names: dict[str, str] = {}
    for scene in ordered:
        if scene in named:
            names[root(scene)] = min(names.get(root(scene), named[scene]), named[scene])
    return {scene: names.get(root(scene), root(scene)) for scene in ordered}
