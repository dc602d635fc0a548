"""Tests of :mod:`levelground.imagery.grids`: grids compared as grids, and labels brought onto their image's."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from builders.scene_files import noise, save_raster
from numpy.typing import NDArray
from rasterio.warp import calculate_default_transform, reproject

from levelground.adoption.predictions import adopt_predictions
from levelground.config import PredictionOptions, PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.errors import SceneError
from levelground.imagery.grids import off_grid, read_onto, source_pixels
from levelground.imagery.legend import IGNORE, default_legend
from levelground.imagery.scene_pixels import SceneFile, read_labels
from levelground.metrics.counts import read_counts

UTM = "EPSG:32637"
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # inside rasterio
PLACE = Affine(10, 0, 400_000, 0, -10, 6_200_000)
LEGEND = default_legend(4)


def fields(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Draw four classes in patches of unlike sizes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (height // 7 + 1, width // 5 + 1), np.uint8)
    return np.kron(coarse, np.ones((7, 5), np.uint8))[:height, :width]


def write(path: Path, pixels: NDArray[np.generic], place: Affine | None, crs: str | None = UTM, **more: object) -> Path:
    """Write a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    options = {"crs": crs, "transform": place} if place else {}
    shape = {"height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": str(bands.dtype)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options, **more) as raster:
        raster.write(bands)
    return path


def box(height: int, width: int) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a raster at ``PLACE``."""
    return PLACE.c, PLACE.f - 10 * height, PLACE.c + 10 * width, PLACE.f


def in_degrees(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Affine]:
    """Bring labels to longitude and latitude, finely enough that little is lost."""
    height, width = labels.shape
    bounds = box(height, width)
    place, columns, rows = calculate_default_transform(UTM, "EPSG:4326", width, height, *bounds)
    fine = place @ Affine.scale(1 / 8)
    found = np.full((rows * 8, columns * 8), 255, np.uint8)
    systems = {"src_crs": UTM, "dst_crs": "EPSG:4326"}
    reproject(labels, found, src_transform=PLACE, dst_transform=fine, dst_nodata=255, src_nodata=255, **systems)
    return found, fine


def label_case(path: Path, case: str, labels: NDArray[np.uint8]) -> Path:
    """Write labels of one image on another grid; what the file says inside the image is ``labels`` in all of them."""
    if case == "larger":
        wide = np.pad(labels, ((5, 9), (11, 2)), constant_values=3)
        return write(path, wide, PLACE @ Affine.translation(-11, -5))
    if case == "south-up":
        return write(path, labels[::-1], PLACE @ Affine.translation(0, len(labels)) @ Affine.scale(1, -1))
    if case == "turned":
        return write(path, np.rot90(labels), PLACE @ Affine.translation(labels.shape[1], 0) @ Affine(0, -1, 0, 1, 0, 0))
    if case == "finer":
        return write(path, np.kron(labels, np.ones((3, 3), np.uint8)), PLACE @ Affine.scale(1 / 3))
    fine, place = in_degrees(labels)
    return write(path, fine, place, "EPSG:4326", nodata=255)


@pytest.mark.parametrize("case", ["larger", "south-up", "turned", "finer", "degrees"])
def test_labels_on_another_grid_are_brought_onto_the_image(tmp_path: Path, case: str) -> None:
    """Each pixel gets its own class again; without ``align`` they are refused, and the remedy named is that flag."""
    labels = fields(1, 63, 80)
    image = write(tmp_path / "a.tif", noise(63, 80), PLACE)
    mask = label_case(tmp_path / "m.tif", case, labels)
    with pytest.raises(SceneError, match=r"does not lie on its image a\.tif: it .* Pass --align"):
        read_labels(SceneFile("a", image, mask, coding="index"), LEGEND)
    found = read_labels(SceneFile("a", image, mask, coding="index", align=True), LEGEND)
    if case == "degrees":
        assert (found == labels).mean() > 0.97  # twice to the nearest pixel, each by an eighth at most
        assert (found[2:-2, 2:-2] != IGNORE).all()
    else:
        assert np.array_equal(found, labels)
    part = read_labels(SceneFile("a", image, mask, (8, 16, 32, 40), coding="index", align=True), LEGEND)
    assert np.array_equal(part, found[8:40, 16:56])


def test_coarse_labels_count_as_their_pixels_cover(tmp_path: Path) -> None:
    """Labels at 30 m under imagery at 10 m: each becomes nine pixels."""
    coarse = fields(2, 21, 26)
    image = write(tmp_path / "a.tif", noise(63, 78), PLACE)
    mask = write(tmp_path / "m.tif", coarse, PLACE @ Affine.scale(3))
    found = read_labels(SceneFile("a", image, mask, coding="index", align=True), LEGEND)
    assert np.array_equal(found, np.kron(coarse, np.ones((3, 3), np.uint8)))


def test_what_labels_do_not_reach_has_no_data(tmp_path: Path) -> None:
    """Pixels of the image outside the label raster, and those that its own mask leaves out."""
    labels = fields(3, 40, 40)
    image = write(tmp_path / "a.tif", noise(40, 60), PLACE)
    mask = write(tmp_path / "m.tif", labels, PLACE @ Affine.translation(-4, 0))
    valid = np.full((40, 40), 255, np.uint8)
    valid[:6] = 0
    with rasterio.open(mask, "r+") as raster:
        raster.write_mask(valid)
    found = read_labels(SceneFile("a", image, mask, coding="index", align=True), LEGEND)
    assert (found[:, 36:] == IGNORE).all()
    assert (found[:6] == IGNORE).all()
    assert np.array_equal(found[6:, :36], labels[6:, 4:])


def test_equal_grids_are_never_resampled(tmp_path: Path) -> None:
    """Up to half a pixel, in another spelling of the system, in an engineering system: read as they are."""
    labels = fields(4, 40, 50)
    image = write(tmp_path / "a.tif", noise(40, 50), PLACE)
    spelt = "+proj=utm +zone=37 +datum=WGS84 +units=m +no_defs"
    local = 'LOCAL_CS["somewhere",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    for number, (crs, shift) in enumerate([(UTM, 0.0), (UTM, 0.4), (UTM, 0.5), (spelt, 0.0), (local, 0.0), (None, 0)]):
        mask = write(tmp_path / f"m{number}.tif", labels, PLACE @ Affine.translation(shift, shift), crs)
        for align in (False, True):
            found = read_labels(SceneFile("a", image, mask, coding="index", align=align), LEGEND)
            assert np.array_equal(found, labels), crs


@pytest.mark.parametrize(("crs", "place"), [("EPSG:32638", PLACE), (UTM, PLACE @ Affine.translation(500, 0))])
def test_labels_of_another_place_are_refused_even_with_align(tmp_path: Path, crs: str, place: Affine) -> None:
    """Another zone with the same numbers, or ground elsewhere: no pixel of theirs lies on the image."""
    image = write(tmp_path / "a.tif", noise(40, 50), PLACE)
    mask = write(tmp_path / "m.tif", fields(5, 40, 50), place, crs)
    with pytest.raises(SceneError, match="no pixel of it does"):
        read_labels(SceneFile("a", image, mask, coding="index", align=True), LEGEND)


def test_align_needs_two_places(tmp_path: Path) -> None:
    """A label raster of another size and without a place cannot be laid on anything."""
    image = write(tmp_path / "a.tif", noise(40, 50), PLACE)
    mask = save_raster(tmp_path / "m.tif", fields(5, 30, 50), placed=False)
    with pytest.raises(SceneError, match=re.escape("--align needs a place on the ground, and m.tif has none")):
        read_labels(SceneFile("a", image, mask, coding="index", align=True), LEGEND)


def grid(height: int, width: int, place: Affine, crs: str | None = UTM) -> SimpleNamespace:
    """Make a grid without a file."""
    return SimpleNamespace(height=height, width=width, transform=tuple(place)[:6], crs=crs)


@pytest.mark.parametrize("crs", ["EPSG:32638", "EPSG:3857", "EPSG:4326", "EPSG:3035"])
def test_places_between_systems_are_those_of_the_projection(crs: str) -> None:
    """Interpolated places give the pixels that transforming each centre gives, but for a hundredth of a pixel."""
    target = grid(70, 90, PLACE)
    bounds = box(70, 90)
    place, width, height = calculate_default_transform(UTM, crs, 90, 70, *bounds)
    source = grid(height, width, place, crs)
    rows, cols = source_pixels(source, target, (3, 5, 60, 80))
    r, c = np.mgrid[3:63, 5:85] + 0.5
    x, y = PLACE @ (c.ravel(), r.ravel())
    there_x, there_y = rasterio.warp.transform(UTM, crs, x, y)
    col, row = ~place @ (np.array(there_x), np.array(there_y))
    assert np.abs(rows.ravel() + 0.5 - row).max() < 0.52
    assert np.abs(cols.ravel() + 0.5 - col).max() < 0.52


def test_degrees_from_0_and_from_minus_180_are_one_meridian() -> None:
    """A label raster that counts longitudes to 360 lies under an image at 10 degrees west."""
    target = grid(4, 4, Affine(1, 0, -12, 0, -1, 42), "EPSG:4326")
    source = grid(180, 360, Affine(1, 0, 0, 0, -1, 90), "OGC:CRS84")
    rows, cols = source_pixels(source, target, (0, 0, 4, 4))
    assert cols[0].tolist() == [348, 349, 350, 351]
    assert rows[:, 0].tolist() == [48, 49, 50, 51]


def test_a_whole_tile_is_read_onto_another_grid_in_strips() -> None:
    """10 980 pixels a side: no window of the source holds more than a few strips, and every pixel is right."""
    side, largest = 10_980, 0
    target = grid(side, side, PLACE)
    source = grid(side + 40, side + 40, PLACE @ Affine.translation(-20, -20))

    def read(window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        nonlocal largest
        row, col, height, width = window
        largest = max(largest, height * width)
        return ((np.arange(row, row + height) // 64)[:, None] + np.arange(col, col + width) // 64).astype(np.uint8)

    values, outside = read_onto(read, source, target, (4000, 0, 3000, side))  # type: ignore[arg-type]
    assert largest < 1 << 21
    assert not outside.any()
    expected = ((np.arange(4020, 7020) // 64)[:, None] + np.arange(20, side + 20) // 64).astype(np.uint8)
    assert np.array_equal(values, expected)


def test_a_fine_source_is_read_in_pieces() -> None:
    """Labels a hundred times finer than the image: pieces are halved until they fit."""
    target, source = grid(80, 90, PLACE), grid(8000, 9000, PLACE @ Affine.scale(0.01))
    sizes = []

    def read(window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        row, col, height, width = window
        sizes.append(height * width)
        return ((np.arange(row, row + height) // 100)[:, None] + np.arange(col, col + width) // 100).astype(np.uint8)

    values, outside = read_onto(read, source, target, None)  # type: ignore[arg-type]
    assert not outside.any()
    assert np.array_equal(values, np.arange(80)[:, None] + np.arange(90))
    assert max(sizes) <= 1 << 24


def test_grids_say_in_what_they_differ() -> None:
    """Size first, then place, then system."""
    own = grid(4, 6, PLACE)
    assert off_grid(own, own) is None
    assert off_grid(grid(4, 5, PLACE), own) == "has 5 × 4 pixels, not 6 × 4 (width × height)"
    assert off_grid(grid(4, 6, PLACE @ Affine.translation(0, 3)), own) == (
        "lies 3 pixels away, or has another pixel size or direction of rows"
    )
    assert "is in EPSG:32638, not in EPSG:32637" in str(off_grid(grid(4, 6, PLACE, "EPSG:32638"), own))


@pytest.mark.parametrize("single", [False, True])
def test_prepare_with_align_counts_the_pixels_of_each_class(tmp_path: Path, single: bool) -> None:
    """As scenes and as blocks of one raster; the same labels on the image's own grid give the same hashes."""
    size = (96, 120) if single else (64, 80)
    for number in range(1 if single else 6):
        labels, place = fields(number, *size), PLACE @ Affine.translation(4000 * number, 0)
        for folder in ("on", "off"):
            write(tmp_path / folder / f"images/{number}.tif", noise(*size, seed=number), place)
        write(tmp_path / f"on/labels/{number}.tif", labels, place)
        wide = np.pad(labels, ((3, 0), (0, 7)))
        write(tmp_path / f"off/labels/{number}.tif", wide, place @ Affine.translation(0, -3))
    made = {
        folder: prepare_dataset(
            PrepareOptions(
                tmp_path / f"study-{folder}", tmp_path / folder, cache=tmp_path / "cache", block=24, align=True
            )
        )
        for folder in ("on", "off")
    }
    truth = np.bincount(np.concatenate([fields(n, *size).ravel() for n in range(1 if single else 6)]), minlength=4)
    for dataset in made.values():
        assert np.array_equal(np.sum([scene.class_pixels for scene in dataset.scenes], axis=0), truth)
    hashes = [[(one.id, one.labels_sha256, one.image_sha256) for one in dataset.scenes] for dataset in made.values()]
    assert hashes[0] == hashes[1]


@pytest.fixture(params=["scenes", "blocks"])
def placed(tmp_path: Path, request: pytest.FixtureRequest) -> Dataset:
    """Prepare scenes with a place, or blocks of one raster."""
    for number in range(1 if request.param == "blocks" else 3):
        place = PLACE @ Affine.translation(4000 * number, 0)
        write(tmp_path / f"data/images/{number}.tif", noise(90, 120, seed=number), place)
        write(tmp_path / f"data/labels/{number}.tif", fields(number, 90, 120), place)
    options = PrepareOptions(tmp_path / "study", tmp_path / "data", cache=tmp_path / "cache", block=30, split="random")
    return prepare_dataset(options)


def write_maps(folder: Path, dataset: Dataset, case: str, crs: str = UTM) -> Path:
    """Write a map of each test scene, wrong in a known part, on another grid; blocks have maps of their own."""
    for scene in dataset.ids("test"):
        record = dataset.scene(scene)
        row, col, height, width = record.window or (0, 0, record.height, record.width)
        number = int(Path(record.image).stem)
        place = PLACE @ Affine.translation(4000 * number + col, row)
        preds = fields(number, 90, 120)[row : row + height, col : col + width].copy()
        preds[: height // 3] = 1
        path = folder / f"{scene}.tif"
        if case == "own":
            write(path, preds, place, crs)
        elif case == "south-up":
            write(path, preds[::-1], place @ Affine.translation(0, height) @ Affine.scale(1, -1), crs)
        elif case == "shifted":
            write(path, np.pad(preds, 2, mode="edge")[:-4, :-4], place @ Affine.translation(-2, -2), crs)
        elif case == "larger":
            write(path, np.pad(preds, 3), place @ Affine.translation(-3, -3), crs)
    return folder


@pytest.mark.parametrize("case", ["south-up", "larger"])
def test_maps_on_another_grid_are_counted_where_they_lie(placed: Dataset, tmp_path: Path, case: str) -> None:
    """The same counts as for maps on the scene's own grid; without the flag they are refused with that remedy."""
    own = adopt_predictions(write_maps(tmp_path / "own", placed, "own"), placed)
    folder = write_maps(tmp_path / case, placed, case)
    with pytest.raises(SceneError, match=r"does not lie on its image .* Pass --align"):
        adopt_predictions(folder, placed)
    found = adopt_predictions(folder, placed, PredictionOptions(align=True))
    counts = [read_counts(run.counts_path("test")).counts for run in (own, found)]
    assert np.array_equal(*counts)
    assert counts[0].sum() == sum(sum(placed.scene(scene).class_pixels) for scene in placed.ids("test"))


def test_maps_that_miss_a_part_of_their_scene_are_refused(placed: Dataset, tmp_path: Path) -> None:
    """Moved by two pixels: by size they would fit, and be scored beside the truth."""
    folder = write_maps(tmp_path / "shifted", placed, "shifted")
    with pytest.raises(SceneError, match="it lies 2 pixels away"):
        adopt_predictions(folder, placed)
    with pytest.raises(SceneError, match=r"does not reach \d+ pixels of scene"):
        adopt_predictions(folder, placed, PredictionOptions(align=True))


def test_maps_of_another_zone_are_refused(placed: Dataset, tmp_path: Path) -> None:
    """The same numbers in another zone are other ground; nothing aligns them."""
    folder = write_maps(tmp_path / "zone", placed, "own", "EPSG:32638")
    for align in (False, True):
        with pytest.raises(SceneError, match="no pixel of it does: it is in EPSG:32638, not in EPSG:32637"):
            adopt_predictions(folder, placed, PredictionOptions(align=align))
