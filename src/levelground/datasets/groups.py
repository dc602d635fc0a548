"""Groups of scenes that are not independent: named by folders or ``groups.csv``, or found from pixels and bounds.

A group is the unit of splitting and of resampling: scenes of one group must not be split between training and test,
and an interval over them counts groups, not scenes.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levelground.datasets.near_duplicates import Kind, Traits, features, overlapping, repeating, touching
from levelground.errors import DataError

GROUPS_FILE = "groups.csv"


@dataclass(frozen=True)
class NamedLink:
    """Two scenes that are not independent, and why."""

    a: str
    b: str
    kind: Kind
    text: str


@dataclass(frozen=True)
class Place:
    """Where a georeferenced scene lies: its bounding box in the units of ``crs``, and the size of a pixel."""

    crs: str
    left: float
    bottom: float
    right: float
    top: float
    pixel: float


def read_groups(path: Path, ids: Iterable[str]) -> dict[str, str]:
    """Read a table of groups with the columns ``id`` and ``group``.

    Args:
        path: The CSV file, UTF-8.
        ids: The scenes at hand; each must be named. Names of other scenes are passed over.
    Returns:
        The group of each scene, by id.
    Raises:
        DataError: The file is missing or unreadable, lacks a column, names a scene twice or lacks one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
            named: dict[str, str] = {}
            for row in rows:
                scene, group = (row.get("id") or "").strip(), (row.get("group") or "").strip()
                if not scene or not group:
                    raise DataError(f"{path}: a line lacks id or group, expected the columns id,group. Complete it.")
                if named.setdefault(scene, group) != group:
                    raise DataError(f"{path}: scene {scene!r} is in two groups, expected one. Remove a line.")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: does not exist, expected columns id,group. Write it or choose other groups."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: unreadable table of groups ({error}). Expected UTF-8 with columns id,group."
        ) from error
    wanted = sorted(ids)
    missing = [scene for scene in wanted if scene not in named]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: no group for scene {missing[0]!r}{more}, expected every scene. Add lines id,group.")
    return {scene: named[scene] for scene in wanted}


def pixel_links(traits: Mapping[str, Traits]) -> list[NamedLink]:
    """Scenes that touch, overlap or repeat, told from pixels.

    Args:
        traits: The scenes' traits, by id.
    Returns:
        One link for each pair, the strongest reason first named: repeats, then overlaps, then touches.
    """
    ids = sorted(traits)
    ordered = [traits[scene] for scene in ids]
    shapes = [one.size for one in ordered]
    detail = features(ordered)
    links: dict[tuple[str, str], NamedLink] = {}
    for link in (*repeating(detail, shapes), *overlapping(detail, shapes), *touching(ordered)):
        a, b = ids[link.a], ids[link.b]
        text = {
            "repeats": f"{a} and {b} show the same scene, {link.where} (correlation {link.score:.2f})",
            "overlaps": f"{a} and {b} overlap (evidence {link.score:.0f})",
            "touches": f"{a} lies {link.where} {b} (evidence {link.score:.0f})",
        }[link.kind]
        pair = (min(a, b), max(a, b))
        links.setdefault(pair, NamedLink(a, b, link.kind, text))
    return [links[pair] for pair in sorted(links)]


def bounds_links(places: Mapping[str, Place]) -> list[NamedLink]:
    """Georeferenced scenes whose boxes overlap or touch, to half a pixel.

    Args:
        places: Where each scene lies, by id; only scenes in the same reference system are compared.
    """
    ids = sorted(places)
    if len(ids) < 2:
        return []
    box = np.array([[p.left, p.bottom, p.right, p.top, p.pixel] for p in (places[scene] for scene in ids)])
    system = np.array([places[scene].crs for scene in ids])
    links = []
    for i in range(len(ids) - 1):
        rest, own = box[i + 1 :], box[i]
        slack = 0.5 * np.minimum(rest[:, 4], own[4])
        across = np.minimum(rest[:, 2], own[2]) - np.maximum(rest[:, 0], own[0])
        along = np.minimum(rest[:, 3], own[3]) - np.maximum(rest[:, 1], own[1])
        shared = np.minimum(across, along)
        for offset in np.flatnonzero((shared >= -slack) & (system[i + 1 :] == system[i])):
            a, b = ids[i], ids[i + 1 + int(offset)]
            kind: Kind = "overlaps" if shared[offset] > slack[offset] else "touches"
            links.append(
                NamedLink(a, b, kind, f"{a} and {b} {'overlap' if kind == 'overlaps' else 'touch'} on the map")
            )
    return links


def join_groups(ids: Iterable[str], named: Mapping[str, str], links: Sequence[NamedLink]) -> dict[str, str]:
    """Groups from names and links together: whatever is connected is one group.

    Args:
        ids: All scenes.
        named: Group of the scenes that have one by name; the others stand alone.
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
