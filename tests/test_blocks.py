"""Spatial blocks: squares go to the sets whole, a buffer keeps used pixels apart, and test pixels are all counted."""

import math
import re
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import noise, save
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.optimize import minimize
from scipy.special import softmax

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.folds import read_folds
from levelground.datasets.prepare import prepare_dataset
from levelground.datasets.splits import SPLIT_NAMES
from levelground.errors import ConfigError, DataError, SplitError
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.grids import metres_per_pixel
from levelground.imagery.image_headers import read_header
from levelground.imagery.legend import IGNORE

Labels = NDArray[np.uint8]
UTM = "EPSG:32632"


def labels_of(height: int, width: int, *, seed: int = 0) -> Labels:
    """Two classes in patches of 16 px."""
    patches = np.random.default_rng(seed).integers(0, 2, (-(-height // 16), -(-width // 16)))
    return np.kron(patches, np.ones((16, 16))).astype(np.uint8)[:height, :width]


def raster(path: Path, array: NDArray[np.generic], x: float, y: float, *, crs: str = UTM, px: float = 10.0) -> None:
    """Write a GeoTIFF with its upper left corner at a place, rows from north to south."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, array, RasterInfo(0, 0, 0, "", None, crs, (px, 0.0, x, 0.0, -px, y)))


def pair(folder: Path, name: str, labels: Labels, x: float = 5e5, y: float = 5e6, **options: float | str) -> None:
    """Write an image of noise and its labels."""
    raster(folder / "images" / f"{name}.tif", noise(*labels.shape, seed=1), x, y, **options)  # type: ignore[arg-type]
    raster(folder / "masks" / f"{name}.tif", labels[..., None], x, y, **options)  # type: ignore[arg-type]


def prepare(folder: Path, **options: object) -> Dataset:
    """Prepare in blocks, with a cache of its own."""
    given = {"split": "blocks", "data": folder / "data", "out": folder / "study", "cache": folder / "cache"}
    return prepare_dataset(PrepareOptions(**given | options))  # type: ignore[arg-type]


def used_pixels(dataset: Dataset, shape: tuple[int, int], corners: dict[str, tuple[int, int]]) -> NDArray[np.bool_]:
    """Pixels of the ground that train, validate and test, ``(3, H, W)``; corners are those of the images in it."""
    found = np.zeros((3, *shape), np.bool_)
    for number, name in enumerate(SPLIT_NAMES):
        for scene in map(dataset.scene, dataset.ids(name)):
            top, left = corners[scene.image]
            row, col, height, width = scene.window or (0, 0, scene.height, scene.width)
            labels = dataset.open(scene.id).labels
            assert labels is not None
            found[number, top + row : top + row + height, left + col : left + col + width] |= labels != IGNORE
    return found


def distance(used: NDArray[np.bool_], weak: int, strong: int) -> float:
    """Smallest distance between the pixels of two sets, px."""
    return float(distance_transform_edt(~used[strong])[used[weak]].min())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One GeoTIFF of 320 × 400 px with its labels."""
    pair(tmp_path / "data", "area", labels_of(320, 400))
    return tmp_path


def test_one_raster_is_split_with_a_buffer(folder: Path) -> None:
    """Blocks are groups; every test pixel counts; nothing that trains lies nearer to a test pixel than the buffer."""
    dataset = prepare(folder, block_px=40, buffer_px=6)
    assert dataset.split.rule == "blocks" and dataset.groups_from == "blocks"
    assert len({scene.group for scene in dataset.scenes}) == len(dataset.scenes) == 80
    assert dataset.split.sizes == (48, 8, 24)
    assert dataset.split.text == "blocks of 40 px, buffer 6 px drawn at random, seed 0, by class shares"
    used = used_pixels(dataset, (320, 400), {"images/area.tif": (0, 0)})
    assert used.sum(axis=0).max() == 1 and used[2].sum() == 24 * 40 * 40
    for weak, strong in ((0, 2), (1, 2), (0, 1)):
        assert 6 <= distance(used, weak, strong) < 8
    assert {finding.code for finding in dataset.findings if finding.severity == "warning"} == set()


def test_without_a_buffer_blocks_touch(folder: Path) -> None:
    """A buffer of 0 leaves no label out; another seed gives another split, the same seed the same one."""
    dataset = prepare(folder, block_px=40, buffer_px=0)
    assert sum(scene.ignored_pixels for scene in dataset.scenes) == 0
    assert prepare(folder, block_px=40, buffer_px=0).split == dataset.split
    assert prepare(folder, block_px=40, buffer_px=0, split_seed=1).split.test != dataset.split.test


def test_the_buffer_is_an_eighth_where_none_is_asked_for(folder: Path) -> None:
    """In the unit of the side."""
    assert "buffer 8 px" in prepare(folder, block_px=64).split.text
    assert "buffer 80 m" in prepare(folder, block_m=640).split.text


def test_metres_and_pixels_give_the_same_blocks(folder: Path) -> None:
    """10 m a pixel: the same windows, labels and split by either; units may be mixed."""
    in_px = prepare(folder, block_px=40, buffer_px=6)
    for given in ({"block_m": 400.0, "buffer_m": 60.0}, {"block_m": 400.0, "buffer_px": 6}):
        other = prepare(folder, **given)
        assert other.split.digest() == in_px.split.digest()
        assert [s.labels_sha256 for s in other.scenes] == [s.labels_sha256 for s in in_px.scenes]


def test_folds_of_blocks_test_every_pixel_once(folder: Path) -> None:
    """Each fold leaves other training labels out; its test labels are those of the whole."""
    dataset = prepare(folder, block_px=80, buffer_px=10, folds=4)
    folds = read_folds(dataset)
    assert sorted(scene for fold in folds for scene in fold.ids("test")) == sorted(s.id for s in dataset.scenes)
    for fold in folds:
        used = used_pixels(fold, (320, 400), {"images/area.tif": (0, 0)})
        assert distance(used, 0, 2) >= 10 and distance(used, 1, 2) >= 10
        assert all(fold.scene(scene) == dataset.scene(scene) for scene in fold.ids("test"))
        assert fold.split.text.startswith("fold ") and "blocks of 80 px, buffer 10 px" in fold.split.text
    assert {finding.code for finding in dataset.findings if finding.severity == "warning"} == set()


def test_scenes_of_one_map_share_its_squares(tmp_path: Path) -> None:
    """Overlapping tiles: ground of one square is in one set, and no ground is learnt near where it is tested."""
    labels = labels_of(320, 400)
    corners = {(row, col) for row in (0, 100, 160) for col in (0, 120, 200)}
    for row, col in corners:
        part = labels[row : row + 160, col : col + 200]
        pair(tmp_path / "data", f"r{row}c{col}", part, 5e5 + 10 * col, 5e6 - 10 * row)
    dataset = prepare(tmp_path, block_m=500, buffer_m=60)
    squares = {scene.group for scene in dataset.scenes}
    assert len(squares) == 6 * 8 < len(dataset.scenes)
    used = used_pixels(dataset, (320, 400), {f"images/r{row}c{col}.tif": (row, col) for row, col in corners})
    assert used.sum(axis=0).max() == 1
    for weak, strong in ((0, 2), (1, 2), (0, 1)):
        assert distance(used, weak, strong) >= 6
    assert {finding.code for finding in dataset.findings if finding.severity == "warning"} == set()


@pytest.mark.parametrize("south_up", [False, True])
def test_a_small_scene_stays_whole(tmp_path: Path, south_up: bool) -> None:
    """A scene within one square keeps its id; rows that run from south to north lie in the same squares."""
    for number in range(12):
        labels = labels_of(40, 40, seed=number)
        x, y = 5e5 + 1000 * (number % 4), 5e6 - 1000 * (number // 4)
        path = tmp_path / "data" / "images" / f"{number}.tif"
        pair(tmp_path / "data", str(number), labels, x, y)
        if south_up:
            for kind, array in (("images", noise(40, 40)), ("masks", labels[::-1, :, None])):
                info = RasterInfo(0, 0, 0, "", None, UTM, (10.0, 0.0, x, 0.0, 10.0, y - 400))
                write_raster(tmp_path / "data" / kind / path.name, array, info)
    dataset = prepare(tmp_path, block_m=900)
    assert sorted(scene.id for scene in dataset.scenes) == sorted(map(str, range(12)))
    assert len({scene.group for scene in dataset.scenes}) == 12


@pytest.mark.parametrize(
    ("crs", "x", "y", "px", "window"),
    [
        ("EPSG:4326", 10.0, 60.0, 1e-4, (0, 0, 90, 179)),
        ("EPSG:3857", 1e6, 8_399_738.0, 10.0, (0, 0, 200, 200)),
        ("EPSG:2263", 9.9e5, 2.1e5, 32.80833333, (0, 0, 100, 100)),
    ],
)
def test_metres_are_those_of_the_ground(
    tmp_path: Path, crs: str, x: float, y: float, px: float, window: Sequence[int]
) -> None:
    """A kilometre in degrees at 60° north, on a Mercator map there (twice as many of its metres), and in feet."""
    pair(tmp_path / "data", "area", labels_of(800, 900), x, y, crs=crs, px=px)
    dataset = prepare(tmp_path, block_m=1000)
    found = min(scene.window or (0, 0, 0, 0) for scene in dataset.scenes)
    assert found[:2] == (0, 0) and np.abs(np.subtract(found, window)).max() <= 1
    grid = read_header(tmp_path / "data" / "images" / "area.tif")
    scale = metres_per_pixel(grid, 0, 0)
    assert scale is not None
    assert [round(1000 / one) for one in scale] == pytest.approx(window[2:], abs=1)


def test_metres_per_degree() -> None:
    """The lengths of a degree at 45° on WGS84, from the tables: 111 131.8 m of latitude, 78 846.8 m of longitude."""

    class Degrees:
        height, width, crs = 100, 100, "EPSG:4326"
        transform = (1e-3, 0.0, 10.0, 0.0, -1e-3, 45.0)

    down, across = metres_per_pixel(Degrees(), 0, 0) or (math.nan, math.nan)  # type: ignore[arg-type]
    assert 1000 * across == pytest.approx(78_846.8, abs=0.1)
    assert 1000 * down == pytest.approx(111_131.8, abs=0.5)


def test_pictures_are_cut_by_pixels(tmp_path: Path) -> None:
    """PNG and JPEG scenes without a place: pixels and labels are the file's, and a repeated scene is one group."""
    images = {name: noise(96, 128, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3), ("d", 1))}
    for number, (name, image) in enumerate(images.items()):
        save(tmp_path / "data" / "images" / f"{name}.png", image)
        save(tmp_path / "data" / "masks" / f"{name}.png", labels_of(96, 128, seed=number % 3))
    dataset = prepare(tmp_path, block_px=32)
    assert len(dataset.scenes) == 48 and len({scene.group for scene in dataset.scenes}) == 36
    for scene in dataset.scenes:
        row, col, height, width = scene.window or (0, 0, 0, 0)
        expected = images[scene.id[0]][row : row + height, col : col + width]
        np.testing.assert_array_equal(dataset.open(scene.id).pixels, expected)
    first, second = dataset.scene("a/r00032-c00064"), dataset.scene("d/r00032-c00064")
    assert first.group == second.group


def test_blocks_without_a_label_are_left_out(tmp_path: Path) -> None:
    """Ground without labels makes no block, and no finding of each."""
    labels = labels_of(320, 400)
    labels[:, 200:] = IGNORE
    pair(tmp_path / "data", "area", labels)
    dataset = prepare(tmp_path, block_px=40)
    assert len(dataset.scenes) == 40
    assert "no-labels" not in {finding.code for finding in dataset.findings}


def test_a_block_that_the_buffer_empties_is_in_no_set(tmp_path: Path) -> None:
    """Labels only along the edges of squares: training blocks beside test blocks lose all, and the record says so."""
    labels = labels_of(320, 400)
    labels[np.arange(320) % 40 >= 4] = IGNORE
    pair(tmp_path / "data", "area", labels)
    dataset = prepare(tmp_path, block_px=40, buffer_px=8)
    emptied = [scene.id for scene in dataset.scenes if not sum(scene.class_pixels)]
    assert emptied and set(emptied) <= set(dataset.split.left_out)


REFUSED = [
    ({}, "--split blocks: no size is given. Pass --block-m METRES, or --block-px PIXELS."),
    ({"split": "auto", "block_px": 64}, "--block-px 64: given for --split auto. Add --split blocks."),
    ({"split": "random", "buffer_m": 5.0}, "--buffer-m 5: given for --split random. Add --split blocks."),
    ({"block_px": 64, "block_m": 640.0}, "--block-px 64: given with --block-m. Drop one."),
    ({"block_px": 64, "buffer_px": 1, "buffer_m": 1.0}, "--buffer-px 1: given with --buffer-m. Drop one."),
    ({"block_px": 64, "block": 128}, "--block 128: is of strips. Pass --block-px 128"),
    ({"block_px": 64, "groups": "km:2"}, "--groups km:2: the groups of --split blocks are the blocks."),
    ({"block_px": 16}, "--block-px 16: expected at least 32 px. Pass --block-px 32."),
    ({"block_m": 100.0}, "--block-m 100: is 10 px on 'area', expected at least 32 px. Pass --block-m 320."),
    ({"block_px": 64, "buffer_px": 32}, "--buffer-px 32: is half of a block's side of 64 px or more"),
    ({"block_px": 64, "buffer_m": 400.0}, "--buffer-m 400: is half of a block's side of 64 px or more"),
    ({"block_m": 640.0, "buffer_px": 40}, "--buffer-px 40: is half of a block's side of 640 m or more"),
    ({"block_px": 300}, "blocks of 300 px, buffer 37 px: 1 hold labels, expected at least 3. Pass --block-px 200."),
    ({"block_m": 3000.0}, "blocks of 3000 m, buffer 375 m: 1 hold labels, expected at least 3. Pass --block-m 2000."),
    ({"block_px": 150, "folds": 9}, "expected at least 9. Pass --block-px 100."),
]


@pytest.mark.parametrize(("options", "text"), REFUSED)
def test_wrong_sizes_are_refused_with_a_remedy_that_works(folder: Path, options: dict[str, object], text: str) -> None:
    """One line that names the flag; a size that it names is accepted in place of the one that was given."""
    with pytest.raises((ConfigError, SplitError), match=re.escape(text)) as caught:
        prepare(folder, **options)
    assert "\n" not in str(caught.value) and not (folder / "study").exists()
    if (found := re.search(r"Pass --block-(m|px) (\d+)", str(caught.value))) is not None:
        mended = {name: value for name, value in options.items() if name not in ("block_m", "block_px", "block")}
        prepare(folder, **mended, **{f"block_{found[1]}": int(found[2])})


def test_metres_need_a_place(tmp_path: Path) -> None:
    """Pictures without one are refused, by block or buffer; what the line says works."""
    for name in "ab":
        save(tmp_path / "data" / "images" / f"{name}.png", noise(96, 128, seed=ord(name)))
        save(tmp_path / "data" / "masks" / f"{name}.png", labels_of(96, 128))
    with pytest.raises(ConfigError, match=r"--block-m 100: scene 'a' has no place on the ground. Pass --block-px"):
        prepare(tmp_path, block_m=100)
    with pytest.raises(ConfigError, match=r"--buffer-m 10: scene 'a' has no place on the ground. Pass --buffer-px"):
        prepare(tmp_path, block_px=32, buffer_m=10)
    assert prepare(tmp_path, block_px=32, buffer_px=4).split.rule == "blocks"


def test_pixels_of_unlike_size_need_metres(tmp_path: Path) -> None:
    """Scenes of one map with 10 m and 20 m: squares in pixels would be two sizes."""
    pair(tmp_path / "data", "fine", labels_of(200, 200), 5e5, 5e6)
    pair(tmp_path / "data", "coarse", labels_of(200, 200), 6e5, 5e6, px=20.0)
    with pytest.raises(ConfigError, match=r"have pixels of unlike size .10 to 20 in its units.. Pass --block-m"):
        prepare(tmp_path, block_px=64)
    assert prepare(tmp_path, block_m=800).split.rule == "blocks"


def test_scenes_that_share_ground_need_one_map(tmp_path: Path) -> None:
    """Two UTM zones that overlap on the ground are refused; apart from each other they are two planes."""
    pair(tmp_path / "data", "east", labels_of(200, 200), 7.3e5, 5e6)
    pair(tmp_path / "data", "west", labels_of(200, 200), 2.6e5, 5e6, crs="EPSG:32633")
    with pytest.raises(SplitError, match=r"--split blocks: .* in unlike coordinate systems, and blocks need one map"):
        prepare(tmp_path, block_m=500)
    pair(tmp_path / "data", "west", labels_of(200, 200), 4e5, 5e6, crs="EPSG:32633")
    assert len(prepare(tmp_path, block_m=500).scenes) == 32


def test_a_bad_mask_stops_as_ever(folder: Path) -> None:
    """An error of a file is not hidden by blocks."""
    pair(folder / "data", "other", np.full((80, 80), 7, np.uint8), 6e5)
    with pytest.raises(DataError):
        prepare(folder, block_px=40, legend=folder / "missing.toml")


SIDE, LENGTH, CLASSES, BANDS = 240, 12, 3, 4


def landscape(seed: int) -> tuple[NDArray[np.float64], Labels]:
    """Bands and classes of a square; classes and how they look change from place to place, by smooth random fields.

    Two values of a field at distance d correlate by exp(-(d/LENGTH)²/2): within a length they are much alike, beyond
    three they are not.
    """
    rng, canvas = np.random.default_rng(seed), SIDE + 6 * LENGTH
    squared = np.fft.fftfreq(canvas)[:, None] ** 2 + np.fft.rfftfreq(canvas) ** 2
    waves = np.fft.rfft2(rng.standard_normal((CLASSES * (1 + BANDS), canvas, canvas)))
    fields = np.fft.irfft2(waves * np.exp(-((np.pi * LENGTH) ** 2) * squared))[:, :SIDE, :SIDE]
    fields = (fields - fields.mean(axis=(1, 2), keepdims=True)) / fields.std(axis=(1, 2), keepdims=True)
    labels = fields[:CLASSES].argmax(axis=0).astype(np.uint8)
    means = np.random.default_rng(7).standard_normal((CLASSES, BANDS, 1, 1))  # the same in all landscapes
    looks = means + 1.2 * fields[CLASSES:].reshape(CLASSES, BANDS, SIDE, SIDE)
    bands = np.take_along_axis(looks, labels[None, None].astype(np.intp), axis=0)[0]
    return bands.transpose(1, 2, 0) + 0.5 * rng.standard_normal((SIDE, SIDE, BANDS)), labels


def powers(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of up to four bands and a one, ``(n, 70)``: features of a learner that can fit much."""
    rows = np.concatenate([np.ones((len(bands), 1)), np.clip(bands / 3, -2, 2)], axis=1)
    chosen = list(combinations_with_replacement(range(rows.shape[1]), 4))
    return np.stack([rows[:, list(parts)].prod(axis=1) for parts in chosen], axis=1)


def learn(features: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Fit a multinomial model by gradients: weights ``(features, classes)``."""

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ flat.reshape(-1, CLASSES)
        probs = softmax(logits, axis=1)
        gradient = features.T @ (probs - np.eye(CLASSES)[labels]) / len(labels)
        likelihood = np.log(probs[np.arange(len(labels)), labels] + 1e-12).mean()
        return float(1e-5 * flat @ flat - likelihood), gradient.ravel() + 2e-5 * flat

    start = np.zeros(features.shape[1] * CLASSES)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(found.x.reshape(-1, CLASSES))


def flattery(used: NDArray[np.bool_], known: Sequence[tuple[NDArray[np.float64], Labels]]) -> NDArray[np.float64]:
    """How much more often a learner is right on a split's test pixels than in another landscape, for each landscape."""
    rng, found = np.random.default_rng(0), []

    def drawn(number: int, pixels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], Labels]:
        bands, labels = known[number]
        chosen = rng.choice(np.flatnonzero(pixels), 2000, replace=False)
        return powers(bands.reshape(-1, BANDS)[chosen]), labels.ravel()[chosen]

    for number in range(len(known)):
        weights = learn(*drawn(number, used[0]))
        tests = (drawn(number, used[2]), drawn((number + 1) % len(known), np.ones((SIDE, SIDE), np.bool_)))
        own, new = (((features @ weights).argmax(axis=1) == labels).mean() for features, labels in tests)
        found.append(own - new)
    return np.array(found)


def test_a_random_split_flatters_and_blocks_do_not(tmp_path: Path) -> None:
    """Where ground changes over a known length: blocks of five lengths, two apart, score as a landscape never seen."""
    known = [landscape(seed) for seed in range(10)]
    bands, labels = known[0]
    raster(tmp_path / "data/area.tif", np.clip(128 + 25 * bands, 1, 255).astype(np.uint8), 5e5, 5e6)
    raster(tmp_path / "data/area_label.tif", labels[..., None], 5e5, 5e6)
    dataset = prepare(tmp_path, block_px=5 * LENGTH, buffer_px=2 * LENGTH)
    squares = used_pixels(dataset, (SIDE, SIDE), {"area.tif": (0, 0)})
    drawn = np.random.default_rng(0).random((SIDE // LENGTH, SIDE // LENGTH)).repeat(LENGTH, 0).repeat(LENGTH, 1)
    blocks = flattery(squares, known)
    tiles = flattery(np.stack([drawn < 0.6, (drawn >= 0.6) & (drawn < 0.7), drawn >= 0.7]), known)
    assert tiles.mean() > 3 * standard_error(tiles)
    assert blocks.mean() < 2 * standard_error(blocks)
    assert (tiles - blocks).mean() > 2 * standard_error(tiles - blocks)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of a mean."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))
