"""Groups: scenes that touch, overlap or repeat, from pixels, bounds, folders and files."""

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.warp import transform

from levelground.datasets import near_duplicates
from levelground.datasets.fingerprints import Fingerprint, cached_fingerprint, fingerprint_scene, mean_and_std
from levelground.datasets.groups import (
    Footprint,
    NamedLink,
    distance_groups,
    footprint_links,
    join_groups,
    pixel_links,
    read_groups,
)
from levelground.datasets.near_duplicates import TOUCH, _corners, _ShortBorders, find_touching
from levelground.errors import DataError
from levelground.synthetic.scenes import generate_scene

Image = NDArray[np.uint8]


def ground(seed: int, size: int = 768) -> Image:
    """A picture with detail at all scales, as land has: octaves of smoothed noise, unlike in each band."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size, 3), np.float32)
    for octave in range(8):
        coarse = rng.normal(size=(size // 2**octave + 1, size // 2**octave + 1, 3)).astype(np.float32)
        shared = coarse.mean(axis=2, keepdims=True)
        total += 3 * 1.6**octave * cv2.resize(shared + 0.4 * coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(110 + total, 0, 255).astype(np.uint8)


def jpeg(image: Image, quality: int = 90) -> Image:
    """The image after compression."""
    coded = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def fingerprints_of(images: dict[str, Image]) -> dict[str, Fingerprint]:
    """Fingerprint of whole images without labels."""
    return {name: fingerprint_scene(image, None) for name, image in images.items()}


def pairs(images: dict[str, Image]) -> dict[tuple[str, str], str]:
    """Kind of link by pair."""
    return {(min(one.a, one.b), max(one.a, one.b)): one.kind for one in pixel_links(fingerprints_of(images))}


def tiles(image: Image, size: int, name: str = "") -> dict[str, Image]:
    """The tiles of a mosaic, each compressed by itself."""
    n = len(image) // size
    return {
        f"{name}{row}{col}": jpeg(image[row * size : (row + 1) * size, col * size : (col + 1) * size])
        for row in range(n)
        for col in range(n)
    }


def test_neighbours_in_a_mosaic_touch_and_nothing_else_does() -> None:
    """All 12 borders inside each of two mosaics of 3 × 3 tiles are found, and no other; the text says which side."""
    images = tiles(ground(1), 256, "a") | tiles(ground(2), 256, "b")
    expected = {
        (f"{m}{r}{c}", f"{m}{r + dr}{c + dc}"): "touches"
        for m in "ab"
        for r in range(3)
        for c in range(3)
        for dr, dc in ((0, 1), (1, 0))
        if r + dr < 3 and c + dc < 3
    }
    assert pairs(images) == expected
    texts = [link.text for link in pixel_links(fingerprints_of(images))]
    assert any(re.fullmatch(r"a00 lies left of a01 \(evidence \d+\)", text) for text in texts)
    assert any(re.fullmatch(r"a00 lies above a10 \(evidence \d+\)", text) for text in texts)


def test_on_the_ten_real_scenes_exactly_one_pair_touches(real_data: Path) -> None:
    """482365 lies left of 180902, by a wide margin, and nothing else is linked."""
    files = sorted((real_data / "deepglobe").glob("*_sat.jpg"))
    images = {file.name.removesuffix("_sat.jpg"): cv2.imread(str(file)) for file in files}
    fingerprints = fingerprints_of(images)
    links = pixel_links(fingerprints)
    assert [(link.a, link.b, link.kind) for link in links] == [("482365", "180902", "touches")]
    ids = sorted(fingerprints)
    found = list(find_touching([fingerprints[scene] for scene in ids]))
    assert [link.score > 4 * TOUCH for link in found] == [True]


@pytest.mark.parametrize(
    "border",
    [np.uint8(0), np.uint8(255), np.linspace(20, 220, 256).astype(np.uint8)],
    ids=["no data", "cloud", "haze that brightens evenly"],
)
def test_borders_without_detail_touch_nothing(border: NDArray[np.uint8]) -> None:
    """Frames of one value, or of one smooth ramp, say nothing about neighbours."""
    images = {}
    for seed in range(4):
        image = ground(seed, 256)
        for side in (np.s_[:3], np.s_[-3:]):
            image[side] = np.reshape(border, (-1, 1))
            image[:, side] = np.reshape(border, (-1, 1, 1))
        images[str(seed)] = jpeg(image)
    assert pairs(images) == {}


def test_flat_and_empty_scenes_are_like_nothing() -> None:
    """Water, cloud, no data and plain sensor noise are neither neighbours nor copies of each other."""
    rng = np.random.default_rng(0)
    flat = {f"flat {value}": np.full((256, 256, 3), value, np.uint8) for value in (0, 90, 90, 255)}
    noisy = {f"sea {n}": jpeg(rng.normal(80, 2, (256, 256, 3)).clip(0, 255).astype(np.uint8)) for n in range(6)}
    assert pairs(flat | {"flat again": np.full((256, 256, 3), 90, np.uint8)} | noisy) == {}


def test_one_bright_stroke_in_the_same_place_is_no_evidence() -> None:
    """Two unlike scenes whose borders both cross a road at one place do not touch."""
    left, right = ground(5, 256), ground(6, 256)
    left[100:110], right[100:110] = 255, 255
    assert pairs({"left": left, "right": right}) == {}


COPIES = {
    "compressed": lambda image: jpeg(image, 50),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: (255 * (image / 255.0) ** 0.6).astype(np.uint8),
    "turned": lambda image: np.rot90(image).copy(),
    "mirrored": lambda image: image[:, ::-1].copy(),
    "transposed": lambda image: image.transpose(1, 0, 2).copy(),
}


@pytest.mark.parametrize("change", COPIES)
def test_near_duplicates_repeat(change: str) -> None:
    """A scene that was compressed anew, resized, brightened, turned or mirrored is found among unlike ones."""
    images = {str(seed): ground(seed, 300)[:256] for seed in range(5)}
    images["copy"] = COPIES[change](images["3"])
    assert pairs(images) == {("3", "copy"): "repeats"}


def even(rng: np.random.Generator) -> Image:
    """A chip of a field or of water: nearly one colour, a slope and fine noise."""
    slope = cv2.resize(rng.normal(0, 1.2, (3, 3)).astype(np.float32), (64, 64), interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(rng.normal(0, 8.0, (64, 64, 3)).astype(np.float32), (0, 0), 0.8)
    return np.clip(rng.normal((70, 90, 80), 3.0) + slope[..., None] + noise, 0, 255).astype(np.uint8)


def test_copies_of_even_chips_are_found_and_no_others() -> None:
    """Compression leaves little of their detail, but the means of their parts, which others have only nearly."""
    rng = np.random.default_rng(5)
    images = {f"{n:03d}": jpeg(even(rng), 92) for n in range(400)}
    copies = {f"{n:03d} copy": jpeg(images[f"{n:03d}"], 60) for n in range(25)}
    found = {pair for pair, kind in pairs(images | copies).items() if kind == "repeats"}
    assert found <= {(name[:3], name) for name in copies}
    assert len(found) >= 22
    deep = {name: fingerprint_scene(image.astype(np.uint16), None) for name, image in (images | copies).items()}
    assert {one.coarse.size for one in deep.values()} == {0}  # what is said of grey levels is true of eight bits


@pytest.mark.parametrize("change", ["brighter", "turned", "mirrored", "transposed"])
def test_copies_of_smooth_chips_are_found(change: str) -> None:
    """Smoothness leaves few independent pixels, of which nearly all agree."""
    rng = np.random.default_rng(3)
    images = {str(n): smooth(rng, 64, 8) for n in range(30)}
    copies = {f"{n} copy": jpeg(COPIES[change](images[str(n)]), 92) for n in range(30)}
    assert pairs(images | copies) == {(name[:-5], name): "repeats" for name in copies}


def test_overlapping_scenes_are_found_at_any_shift() -> None:
    """Two cuts that share a third of their area overlap; two that share nothing do not."""
    mosaic = ground(7, 1024)
    cuts = {"a": (0, 0), "b": (170, 250), "c": (512, 0)}
    images = {name: jpeg(mosaic[row : row + 500, col : col + 500]) for name, (row, col) in cuts.items()}
    assert pairs(images) == {("a", "b"): "overlaps"}


def test_furrows_that_repeat_do_not_overlap() -> None:
    """Two fields of one row spacing look alike at many shifts, which is no overlap."""
    line = 110 + 40 * np.sin(np.arange(512) / 512 * 2 * np.pi * 20)
    fields = {}
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 8, (512, 512, 3))
        fields[str(seed)] = (np.roll(line, 7 * seed)[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    assert pairs(fields) == {}


def chips(mosaics: range, *, side: int = 64, per_side: int = 3) -> tuple[dict[str, Image], set[tuple[str, str]]]:
    """Chips of many mosaics, each compressed by itself, and the pairs of neighbours among them."""
    images, near = {}, set()
    for seed in mosaics:
        images |= tiles(ground(seed, side * per_side), side, f"{seed:03d}-")
        names = [[f"{seed:03d}-{row}{column}" for column in range(per_side)] for row in range(per_side)]
        near |= {pair for row in names for pair in itertools.pairwise(row)}
        near |= {pair for row, below in itertools.pairwise(names) for pair in zip(row, below, strict=True)}
    return images, near


def test_neighbouring_chips_are_found_and_no_others() -> None:
    """Of 360 chips of 64 px from 40 mosaics, nearly all 480 borders are found, and nothing across mosaics."""
    images, near = chips(range(40))
    found = {pair for pair, kind in pairs(images).items() if kind == "touches"}
    assert found <= near
    assert len(found) >= 0.95 * len(near)


def test_corners_tell_borders_that_show_even_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of squares of four chips cut from generated ground, nearly every border is found, more than each tells alone."""
    images, near = {}, set()
    for number in range(26):
        image, name = generate_scene(3, number, 128)[0], f"{number:02d}-"
        images |= tiles(image, 64, name)
        near |= {(f"{name}{a}", f"{name}{b}") for a, b in (("00", "01"), ("10", "11"), ("00", "10"), ("01", "11"))}
    found = set(pairs(images))
    monkeypatch.setattr(near_duplicates, "_corners", lambda *_: ())
    alone = set(pairs(images))
    assert alone < found <= near
    assert len(found) >= 0.96 * len(near)


def corners(
    columns: dict[tuple[int, int], float], rows: dict[tuple[int, int], float], others: dict[tuple[int, int], float]
) -> set[tuple[int, int, str, float]]:
    """What corners tell where these are each other's best, and others have such scores when they are asked for."""
    sides = []
    for known in (columns, rows):
        sides.append(_ShortBorders([]))
        sides[-1].behind, sides[-1].score = dict(known.keys()), dict(known)
        sides[-1].compare_pairs = lambda asked, score=sides[-1].score: score.update(  # type: ignore[method-assign]
            {pair: others[pair] for pair in asked if pair in others and pair not in score}
        )
    return {(link.a, link.b, link.where, link.score) for link in _corners(*sides)}


def test_a_corner_needs_three_borders_that_lead_to_one_chip() -> None:
    """The fourth may fit others better, but its score counts; two borders, or little evidence, are not enough."""
    columns, rows = {(0, 1): 9.0, (2, 3): -8.0}, {(0, 2): 20.0, (1, 3): 10.0}
    found = {(0, 1, "left of", 31.0), (2, 3, "left of", 31.0), (0, 2, "above", 31.0), (1, 3, "above", 31.0)}
    assert corners(columns, rows, {}) == found
    assert corners(columns, rows | {(1, 3): 3.0}, {}) == set()
    assert corners({(0, 1): 99.0, (1, 0): 99.0}, {(0, 1): 99.0, (1, 0): 99.0}, {}) == set()
    columns, rows = dict.fromkeys(columns, 60.0), dict.fromkeys(rows, 30.0)
    every = {(*pair, "left of", 180.0) for pair in columns} | {(*pair, "above", 180.0) for pair in rows}
    for pair in (*columns, *rows):
        left, above = ({one: value for one, value in side.items() if one != pair} for side in (columns, rows))
        assert corners(left, above, columns | rows) == every
        assert corners(left, above, {}) == set()
        assert corners(left, above, {pair: -61.0}) == set()  # strong borders in one direction, doubt in the other
    assert corners({(0, 1): 90.0}, {(0, 2): 90.0}, columns | rows) == set()


def test_borders_of_unlike_sizes_have_no_score_and_others_have_that_of_their_search() -> None:
    """Pairs that a search scored keep their score; scored alone it is the same."""
    images, _ = chips(range(15), per_side=2)
    prints = list(fingerprints_of(images).values())
    short = _ShortBorders([one.column_lines for one in prints])
    found, score, _ = short.compare(range(56))
    known = {(int(a), int(b)): float(value) for (a, b), value in zip(found, score, strict=True)}
    assert short.score == known
    short.score = {}
    short.compare_pairs({*known, (0, 58)})
    assert short.score.keys() == known.keys()
    assert all(short.score[pair] >= known[pair] - 1e-2 for pair in known)


def test_packed_fingerprints_find_the_same() -> None:
    """They hold no short borders, which nothing asks for, and all else; long borders are kept."""
    images, _ = chips(range(6))
    wide = fingerprint_scene(ground(1, 200)[:64], None)
    prints = [*fingerprints_of(images).values(), wide]
    packed = [one.packed() for one in prints]
    assert list(find_touching(packed)) == list(find_touching(prints)) != []
    for one, other in zip(prints, packed, strict=True):
        assert one.size == other.size
        for name, array in vars(one).items():
            if name in ("rows", "columns") and array.shape[-1] < 128:
                assert not vars(other)[name].any()
            else:
                np.testing.assert_array_equal(array, vars(other)[name])
                assert array.dtype == vars(other)[name].dtype


def test_statistics_alone_are_those_of_all() -> None:
    """What prepare keeps of many scenes after grouping gives the same mean and deviation; size is known."""
    prints = [fingerprint_scene(ground(seed, 100)[:64, :90], None).packed() for seed in range(3)]
    few = [one.statistics() for one in prints]
    assert mean_and_std(few) == mean_and_std(prints)
    assert [one.size for one in few] == [(64, 90)] * 3
    assert not any(
        array.any() for one in few for name, array in vars(one).items() if "lines" in name or name == "detail"
    )


def test_neighbours_of_copies_are_found() -> None:
    """A copy of a chip fits its neighbour as well as the chip does, which hides neither."""
    images, _ = chips(range(20), per_side=2)
    images["copy"] = jpeg(images["007-00"], 80)
    found = pairs(images)
    assert found["007-00", "copy"] == "repeats"
    assert found["007-00", "007-01"] == "touches"


@pytest.mark.parametrize(("side", "cells", "n"), [(32, 8, 160), (64, 8, 160), (64, 16, 400), (128, 16, 60)])
def test_smooth_textures_are_not_related(side: int, cells: int, n: int) -> None:
    """Pictures of random blobs have few independent pixels, so that some borders and thumbnails agree by chance."""
    rng = np.random.default_rng(1)
    blobs = (rng.integers(0, 255, (cells, cells, 3)).astype(np.uint8) for _ in range(n))
    images = {
        str(i): jpeg(cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC), 75) for i, one in enumerate(blobs)
    }
    assert pairs(images) == {}


def test_dark_and_saturated_chips_touch_nothing() -> None:
    """Chips of no data, cloud and open water fit each other perfectly, and many others too."""
    images, near = chips(range(30), per_side=2)
    for number, value in enumerate((0, 0, 255, 255, 60, 61)):
        images[f"even {number}"] = np.full((64, 64, 3), value, np.uint8)
        half = images[f"{number:03d}-00"].copy()
        half[:, 32:] = value
        images[f"half {number}"] = half
    found = {pair for pair, kind in pairs(images).items() if kind == "touches"}
    assert {pair for pair in found if not any(name.startswith("half") for name in pair)} <= near
    assert not [pair for pair in found if any(name.startswith("even") for name in pair)]


def test_traits_hold_borders_and_moments() -> None:
    """Sums count labelled pixels only; borders are extrapolated half a pixel outwards; floats may be missing."""
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    pixels[0, 0, 0] = np.nan
    labels = np.zeros((3, 4), np.uint8)
    labels[2] = 255
    fingerprints = fingerprint_scene(pixels, labels)
    assert fingerprints.size == (3, 4)
    assert fingerprints.n_valid.tolist() == [7]
    assert fingerprints.total.tolist() == pytest.approx([28.0])
    assert fingerprints.squares.tolist() == pytest.approx([140.0])
    np.testing.assert_allclose(fingerprints.rows[1, 0], 1.5 * pixels[2, :, 0] - 0.5 * pixels[1, :, 0])
    np.testing.assert_allclose(fingerprints.columns[1, 0], 1.5 * pixels[:, 3, 0] - 0.5 * pixels[:, 2, 0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 3, 6])
def test_mean_and_std_are_those_of_all_labelled_pixels(dtype: str, bands: int) -> None:
    """Against NumPy over the pixels of two scenes of unlike size; every type and any number of bands."""
    rng = np.random.default_rng(1)
    scenes, values = [], []
    for height in (20, 33):
        pixels = rng.integers(0, 200, (height, 40, bands)).astype(dtype)
        labels = rng.choice(np.uint8([0, 1, 255]), (height, 40))
        scenes.append(fingerprint_scene(pixels, labels))
        values.append(pixels[labels != 255])
    mean, std = mean_and_std(scenes)
    np.testing.assert_allclose(mean, np.concatenate(values).astype(float).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, np.concatenate(values).astype(float).std(axis=0), rtol=1e-6)


def test_a_band_that_never_varies_has_deviation_one() -> None:
    """Dividing by it must not blow up; so too where no pixel is labelled."""
    fingerprints = fingerprint_scene(np.full((5, 5, 2), 7, np.uint8), None)
    assert mean_and_std([fingerprints]) == ((7.0, 7.0), (1.0, 1.0))
    unlabelled = fingerprint_scene(np.full((5, 5, 1), 7, np.uint8), np.full((5, 5), 255, np.uint8))
    assert mean_and_std([unlabelled]) == ((0.0,), (1.0,))


def test_traits_are_made_once_and_again_where_damaged(tmp_path: Path) -> None:
    """The cache gives the same numbers; a damaged file is made anew."""
    made = []

    def make() -> Fingerprint:
        made.append(1)
        return fingerprint_scene(ground(1, 64), None)

    first = cached_fingerprint(tmp_path, "a" * 64, "b" * 64, make)
    again = cached_fingerprint(tmp_path, "a" * 64, "b" * 64, make)
    assert len(made) == 1
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(b"PK broken")
    cached_fingerprint(tmp_path, "a" * 64, "b" * 64, make)
    assert len(made) == 2


def test_tiny_scenes_have_traits() -> None:
    """A scene of one pixel has borders and a thumbnail."""
    fingerprints = fingerprints_of({"a": np.full((1, 1, 3), 5, np.uint8), "b": np.full((1, 1, 3), 9, np.uint8)})
    assert pixel_links(fingerprints) == []


def test_bounds_touch_and_overlap_to_half_a_pixel() -> None:
    """Boxes are compared in the same reference system only."""
    places = {
        "a": Footprint("EPSG:1", 0, 0, 10, 10, 1.0),
        "right of a": Footprint("EPSG:1", 10.4, 0, 20, 10, 1.0),
        "over a": Footprint("EPSG:1", 5, 5, 9, 15, 1.0),
        "far": Footprint("EPSG:1", 30, 0, 40, 10, 1.0),
        "elsewhere": Footprint("EPSG:2", 0, 0, 10, 10, 1.0),
    }
    assert [(one.a, one.b, one.text) for one in footprint_links(places)] == [
        ("a", "over a", "a and over a overlap on the map"),
        ("a", "right of a", "a and right of a touch on the map"),
    ]
    assert footprint_links({}) == []


@pytest.mark.parametrize("tall", [False, True])
def test_boxes_are_linked_as_a_comparison_of_all_pairs_links_them(tall: bool) -> None:
    """Boxes of unlike sizes and pixels, strewn over wide and tall ground, in two systems."""
    rng = np.random.default_rng(int(tall))
    places = {}
    for number in range(150):
        x, y = rng.integers(0, 40, 2) * 10.0 * ((1, 9) if tall else (9, 1))
        width, height, pixel = [*rng.integers(1, 12, 2).tolist(), float(rng.choice([1.0, 5.0]))]
        places[f"{number:03d}"] = Footprint(
            f"EPSG:{number % 2}", x, y, x + 10 * width, y + 10 * height + rng.choice([0, 0.4, 2]), pixel
        )
    expected = []
    for a, own in places.items():
        for b, other in places.items():
            slack = 0.5 * min(own.pixel, other.pixel)
            shared = min(
                min(own.right, other.right) - max(own.left, other.left),
                min(own.top, other.top) - max(own.bottom, other.bottom),
            )
            if a < b and own.crs == other.crs and shared >= -slack:
                expected.append((a, b, "overlaps" if shared > slack else "touches"))
    assert len(expected) > 50
    assert [(one.a, one.b, one.kind) for one in footprint_links(places)] == expected


def box_at(crs: str, longitude: float, latitude: float, side: float, pixel: float = 10) -> Footprint:
    """A box around a place, in a system of metres."""
    x, y = (values[0] for values in transform("EPSG:4326", crs, [longitude], [latitude]))
    return Footprint(crs, x - side / 2, y - side / 2, x + side / 2, y + side / 2, pixel)


@pytest.mark.parametrize(
    ("west", "east", "longitude"),
    [("EPSG:32637", "EPSG:32638", 42.0), ("EPSG:32660", "EPSG:32601", 180.0), ("EPSG:32736", "EPSG:3857", 35.0)],
)
def test_scenes_of_two_zones_are_linked_on_the_ground(west: str, east: str, longitude: float) -> None:
    """At the border of two zones, at the antimeridian, in two projections: overlap is found, and a gap is not one."""
    latitude = -20.0 if west == "EPSG:32736" else 55.0
    km = 1 / (111.32 * np.cos(np.radians(latitude)))  # of longitude, degrees
    stretch = 1 / np.cos(np.radians(latitude)) if east == "EPSG:3857" else 1.0
    places = {
        "a": box_at(west, longitude - 0.4 * km, latitude, 1280),
        "b": box_at(east, longitude + 0.4 * km, latitude, 1280 * stretch),
        "c": box_at(east, longitude + 1.8 * km, latitude, 1000 * stretch),
    }
    links = [(one.a, one.b, one.kind) for one in footprint_links(places)]
    assert ("a", "b", "overlaps") in links
    assert not [link for link in links if link[:2] == ("a", "c")]


def test_degrees_and_metres_are_compared_and_far_zones_are_not() -> None:
    """A box in degrees over one in metres; the same numbers in another zone are other ground."""
    metres = box_at("EPSG:32637", 39.0, 55.0, 1000)
    degrees = Footprint("EPSG:4326", 38.995, 54.998, 39.001, 55.0, 1e-4)
    elsewhere = Footprint("EPSG:32638", metres.left, metres.bottom, metres.right, metres.top, 10)
    local = Footprint('LOCAL_CS["x",UNIT["metre",1]]', metres.left, metres.bottom, metres.right, metres.top, 10)
    links = footprint_links({"m": metres, "d": degrees, "e": elsewhere, "l": local})
    assert [(one.a, one.b, one.text) for one in links] == [
        ("d", "m", "d and m overlap on the ground, in unlike coordinate systems")
    ]


def test_two_spellings_of_one_system_are_one() -> None:
    """An EPSG code and a PROJ string: scenes side by side touch, those apart do not."""
    spelt = "+proj=utm +zone=37 +datum=WGS84 +units=m +no_defs"
    places = {
        "a": Footprint("EPSG:32637", 0, 0, 100, 100, 10),
        "b": Footprint(spelt, 100, 0, 200, 100, 10),
        "c": Footprint(spelt, 215, 0, 300, 100, 10),
    }
    assert [(one.a, one.b, one.kind) for one in footprint_links(places)] == [("a", "b", "touches")]


def test_groups_join_names_and_links() -> None:
    """A link between two named groups makes them one, under the first name; others stay apart."""
    named = {"1": "x", "2": "x", "3": "y", "4": "z"}
    links = [NamedLink("2", "3", "touches", "")]
    assert join_groups("1234", named, links) == {"1": "x", "2": "x", "3": "x", "4": "z"}
    assert join_groups("1234", {}, []) == {scene: scene for scene in "1234"}


def test_groups_are_read_from_a_table(tmp_path: Path) -> None:
    """Other columns and other scenes are passed over."""
    path = tmp_path / "groups.csv"
    path.write_text("id,note,group\na b,x,1\nс,y,2\nunused,z,3\n", encoding="utf-8-sig")
    assert read_groups(path, ["a b", "с"]) == {"a b": "1", "с": "2"}


GROUP_ERRORS = {
    "no column": ("id,grp\na,1\n", "a line lacks id or group, expected the columns id,group. Complete it."),
    "two groups": ("id,group\na,1\na,2\n", "scene 'a' is in two groups, expected one. Remove a line."),
    "missing": ("id,group\na,1\n", "no group for scene 'b' and 1 more, expected every scene. Add lines id,group."),
}


@pytest.mark.parametrize("case", GROUP_ERRORS)
def test_wrong_tables_of_groups_are_refused(tmp_path: Path, case: str) -> None:
    """Each fault has its one line."""
    content, text = GROUP_ERRORS[case]
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {text}')}$"):
        read_groups(path, ["a", "b", "c"])


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are named with their reason."""
    path = tmp_path / "groups.csv"
    path.write_bytes(b"id,group\n\xff\xfe,1\n")
    with pytest.raises(
        DataError, match=r"groups\.csv: unreadable table of groups \(.*\)\. Expected UTF-8 with columns"
    ):
        read_groups(path, ["a"])


def smooth(rng: np.random.Generator, side: int, cells: int, wide: int = 1) -> NDArray[np.uint8]:
    """A smooth random texture, ``wide`` times as wide as high."""
    small = rng.integers(0, 255, (cells, wide * cells, 3), dtype=np.uint8)
    return cv2.resize(small, (wide * side, side), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("side", "cells", "n"), [(32, 8, 100), (64, 8, 100), (64, 16, 100), (128, 16, 60), (96, 12, 160)]
)
def test_smooth_textures_that_have_nothing_in_common_are_not_linked(side: int, cells: int, n: int) -> None:
    """They have few independent pixels, so that evidence for white noise would link many of them."""
    rng = np.random.default_rng(1)
    assert pixel_links({f"{i:03d}": fingerprint_scene(smooth(rng, side, cells), None) for i in range(n)}) == []


def test_leaks_among_many_small_scenes_are_found_and_none_is_invented() -> None:
    """Neighbours of 64 px, copies turned and recoloured, and tiles that share half of their area, among 700 others."""
    rng = np.random.default_rng(2)
    scenes, planted = {}, set()
    for number in range(10):
        pair = smooth(rng, 64, 32, wide=2)
        scenes |= {f"left{number}": pair[:, :64], f"right{number}": pair[:, 64:]}
        planted.add((f"left{number}", f"right{number}", "touches"))
        copy = smooth(rng, 64, 32)
        scenes |= {f"one{number}": copy, f"two{number}": np.rot90(copy, number % 4)[:, :: (-1) ** number] // 2 + 20}
        planted.add((f"one{number}", f"two{number}", "repeats"))
        long = smooth(rng, 64, 32, wide=2)
        scenes |= {f"west{number}": long[:, :64], f"east{number}": long[:, 32:96]}
        planted.add((f"east{number}", f"west{number}", "overlaps"))
    scenes |= {f"x{i:03d}": smooth(rng, 64, 32) for i in range(700)}
    links = pixel_links({name: fingerprint_scene(np.ascontiguousarray(one), None) for name, one in scenes.items()})
    assert {(min(link.a, link.b), max(link.a, link.b), link.kind) for link in links} == planted


def spot(longitude: float, latitude: float, crs: str = "EPSG:4326") -> Footprint:
    """A scene of a centimetre or so."""
    x, y = longitude, latitude
    if crs != "EPSG:4326":
        (x,), (y,) = transform("EPSG:4326", crs, [longitude], [latitude])
    size = 1e-7 if crs == "EPSG:4326" else 0.01
    return Footprint(crs, x, y, x + size, y + size, size)


@pytest.mark.parametrize(
    ("a", "b", "metres"),
    [
        ((13.4, 52.5), (13.7, 52.5), 20373.05537876591),
        ((0.0, 0.0), (0.2, 0.0), 22263.898158654716),
        ((25.0, 60.0), (25.0, 60.2), 22282.796945133432),
        ((10.0, -45.0), (20.0, -40.0), 990887.645322324),
        ((179.9, 0.0), (-179.9, 0.0), 22263.898158654716),
    ],
)
def test_distances_are_those_on_the_ellipsoid(a: tuple[float, float], b: tuple[float, float], metres: float) -> None:
    """Joined a little above the geodesic distance, apart a little below it (Geod.inv of pyproj 3.7 on WGS84)."""
    places = {"a": spot(*a), "b": spot(*b)}
    assert distance_groups(places, "ab", 1.0001 * metres) == {"a": "a", "b": "a"}
    assert distance_groups(places, "ab", 0.9999 * metres) == {"a": "a", "b": "b"}


def test_scenes_in_between_join_and_groups_lie_apart() -> None:
    """A chain of short steps is one group, in two UTM zones too; the nearest points of large scenes count."""
    chain = {
        "a": spot(11.7, 48.0, "EPSG:32632"),
        "b": spot(11.9, 48.0, "EPSG:32632"),
        "c": spot(12.1, 48.0, "EPSG:32633"),
    }
    found = distance_groups(chain | {"d": spot(12.5, 48.0)}, "abcd", 20_000)
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d"}
    wide = Footprint("EPSG:32632", 500_000, 5_000_000, 560_000, 5_060_000, 10)
    near = Footprint("EPSG:32632", 570_000, 5_030_000, 571_000, 5_031_000, 10)
    assert distance_groups({"w": wide, "n": near}, "nw", 11_000) == {"n": "n", "w": "n"}
    assert distance_groups({"w": wide, "n": near}, "nw", 9_000) == {"n": "n", "w": "w"}


@pytest.mark.parametrize("place", [None, Footprint('LOCAL_CS["plan"]', 0, 0, 1, 1, 1)])
def test_scenes_without_a_place_cannot_be_grouped_by_distance(place: Footprint | None) -> None:
    """A picture without a coordinate system, and one whose system is not of the earth."""
    places = {"a": spot(0, 0)} | ({"b": place} if place else {})
    with pytest.raises(DataError, match=r"--groups km:20: scene 'b' has no place on the map\. Give GeoTIFFs with"):
        distance_groups(places, "ab", 20_000)
