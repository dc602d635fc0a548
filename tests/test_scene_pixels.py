"""One scene: labels checked against the legend and their image; agreement with independent decodes of real masks."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.scene_files import PLACE, TWO, kaggle_pair, noise, random_labels, save, save_raster
from PIL import Image
from rasterio.rio.main import main_group

from levelground.errors import SceneError
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import DEEPGLOBE, IGNORE, Legend, LegendClass, default_legend, encode_colours
from levelground.imagery.scene_pixels import SceneFile, read_labels, read_pixels, read_scene

DUBAI = Legend(
    "dubai",
    tuple(
        LegendClass(i, name, (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)), counted=name != "unlabeled")
        for i, (name, code) in enumerate(
            {"land": "8429F6", "water": "E2A929", "building": "3C1098", "vegetation": "FEDD3A", "road": "6EC1E4",
             "unlabeled": "9B9B9B"}.items()
        )
    ),
    "exact",
    ((0, 0, 0),),
)  # fmt: skip


def test_image_and_labels_of_a_pair_are_read(tmp_path: Path) -> None:
    """Both at once, or each for itself."""
    labels = kaggle_pair(tmp_path, "1")
    scene = SceneFile("1", tmp_path / "1_sat.jpg", tmp_path / "1_mask.png")
    both = read_scene(scene, DEEPGLOBE)
    assert np.array_equal(both.labels, labels)
    assert np.array_equal(read_labels(scene, DEEPGLOBE), labels)
    assert np.array_equal(both.pixels, read_pixels(scene))
    assert both.impure_pixels == 0


def test_scene_without_a_mask_has_no_labels(tmp_path: Path) -> None:
    """The image alone can be read."""
    scene = SceneFile("1", save(tmp_path / "1_sat.jpg", noise(4, 4)), None)
    assert read_scene(scene, DEEPGLOBE).labels is None
    with pytest.raises(SceneError, match=r"1_sat\.jpg: has no mask\. Add it, or leave the scene out\.$"):
        read_labels(scene, DEEPGLOBE)


def test_impure_pixels_are_counted(tmp_path: Path) -> None:
    """The threshold rule reads them, and their number is told."""
    rgb = encode_colours(random_labels(6, 6), DEEPGLOBE)
    rgb[rgb == 255] = 254
    image = save(tmp_path / "a.jpg", noise(6, 6))
    scene = SceneFile("a", image, save(tmp_path / "a.png", rgb))
    pure = (rgb == 0).all(-1).sum()
    assert read_scene(scene, DEEPGLOBE).impure_pixels == 36 - pure


def test_gaps_of_the_image_become_no_data_in_the_labels(tmp_path: Path) -> None:
    """A raster's empty cells and a PNG's transparent pixels; a JPEG's black ones are data."""
    labels = random_labels(6, 6, n_classes=2)
    mask = save(tmp_path / "m.png", labels)
    pixels = noise(6, 6, 4)
    pixels[1, 2] = 0
    expected = labels.copy()
    expected[1, 2] = IGNORE
    for image in (save_raster(tmp_path / "a.tif", pixels), save(tmp_path / "a.png", pixels)):
        scene = SceneFile("a", image, mask, coding="index")
        assert np.array_equal(read_labels(scene, default_legend(2)), expected)
        assert np.array_equal(read_scene(scene, default_legend(2)).labels, expected)
    black = SceneFile("a", save(tmp_path / "a.jpg", np.zeros((6, 6, 3), np.uint8)), mask, coding="index")
    assert np.array_equal(read_labels(black, default_legend(2)), labels)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("int16", -1), ("float32", float("nan")), ("uint8", 7)])
def test_no_data_of_an_index_raster_becomes_ignore(tmp_path: Path, dtype: str, nodata: float) -> None:
    """Its tag, 255 always, and values that are no number."""
    values = random_labels(6, 6, n_classes=3).astype(dtype)
    values[0, 1], values[2, 3] = nodata, 255
    mask = save_raster(tmp_path / "m.tif", values, nodata=nodata)
    scene = SceneFile("a", save_raster(tmp_path / "a.tif", noise(6, 6)), mask, coding="index")
    labels = read_labels(scene, default_legend(3))
    assert np.argwhere(labels == IGNORE).tolist() == [[0, 1], [2, 3]]
    assert labels.dtype == np.uint8


def test_block_of_a_raster_is_read_alone(tmp_path: Path) -> None:
    """Image and labels through the same window."""
    pixels, labels = noise(20, 30, 4), random_labels(20, 30, n_classes=2)
    image, mask = save_raster(tmp_path / "a.tif", pixels), save_raster(tmp_path / "a_label.tif", labels)
    block = read_scene(SceneFile("a", image, mask, (5, 6, 7, 8), coding="index"), default_legend(2))
    assert np.array_equal(block.pixels, pixels[5:12, 6:14])
    assert np.array_equal(block.labels, labels[5:12, 6:14])


@pytest.mark.parametrize(("value", "dtype"), [(3, "uint8"), (-1, "int16"), (0.5, "float32"), (1000, "uint16")])
def test_value_outside_the_legend_is_refused(tmp_path: Path, value: float, dtype: str) -> None:
    """The first pixel is named, in the whole raster's rows and columns."""
    values = np.zeros((6, 9), dtype)
    values[4, 7] = values[5, 0] = value
    image, mask = save_raster(tmp_path / "a.tif", noise(6, 9)), save_raster(tmp_path / "m.tif", values)
    text = (
        rf"m\.tif: {{}} a value that is not a class index of 'default' \(first {value} at row 4, column 7\), "
        r"expected 0 to 2, or 255 for no data\. Fix the mask or the legend; "
        r"its nodata = \[VALUE\] names further values without data\.$"
    )
    with pytest.raises(SceneError, match=text.format("2 pixels hold")):
        read_labels(SceneFile("a", image, mask, coding="index"), default_legend(3))
    with pytest.raises(SceneError, match=text.format("1 pixel holds")):
        read_labels(SceneFile("a", image, mask, (2, 4, 4, 5), coding="index"), default_legend(3))


def test_unlike_sizes_are_refused_before_decoding(tmp_path: Path) -> None:
    """Masks are never resized here."""
    image, mask = save(tmp_path / "a.jpg", noise(6, 8)), save(tmp_path / "a.png", noise(6, 7))
    text = (
        r"a\.png: does not lie on its image a\.jpg: it has 7 × 6 pixels, not 8 × 6 \(width × height\)\. Give both "
        r"the same size; resize masks by nearest neighbour only\.$"
    )
    with pytest.raises(SceneError, match=text):
        read_labels(SceneFile("a", image, mask), TWO)


def test_label_raster_elsewhere_on_the_ground_is_refused(tmp_path: Path) -> None:
    """A shift of half a pixel is the most."""
    image = save_raster(tmp_path / "a.tif", noise(6, 8))
    for shift, scale in ((0.2, 1.0), (6.0, 1.0), (0.0, 1.2)):
        place = (PLACE[0] * scale, 0.0, PLACE[2] + shift, 0.0, PLACE[4], PLACE[5])
        write_raster(tmp_path / "m.tif", np.zeros((6, 8), np.uint8), RasterInfo(0, 0, 0, "", None, "EPSG:26917", place))
        scene = SceneFile("a", image, tmp_path / "m.tif", coding="index")
        if (shift, scale) == (0.2, 1.0):
            assert read_labels(scene, TWO).max() == 0
            continue
        apart = 10 if shift else 1.6  # pixels of 0.6 m; eight columns that are a fifth wider
        with pytest.raises(
            SceneError,
            match=rf"does not lie on its image a\.tif[,:].* it lies {apart:g} pixels away, or has",
        ):
            read_labels(scene, TWO)


UTM17 = "EPSG:26917"
GRID = (10.0, 0.0, 400000.0, 0.0, -10.0, 4300000.0)
LOCAL = 'LOCAL_CS["NAD83 / UTM zone 17N",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def _placed(path: Path, pixels: np.ndarray, crs: str | None, place: tuple[float, ...]) -> Path:
    write_raster(path, pixels, RasterInfo(0, 0, 0, "", None, crs, place))  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("crs", "place", "says"),
    [
        ("EPSG:26918", GRID, "is in EPSG:26918, not in EPSG:26917"),  # the next zone, the same numbers
        ("EPSG:4326", GRID, "is in EPSG:4326, not in EPSG:26917"),
        ("EPSG:32717", GRID, "is in EPSG:32717"),  # the other hemisphere
        (UTM17, (10.0, 0.0, 400000.0, 0.0, 10.0, 4299920.0), "direction of rows"),  # south-up over the same ground
        (UTM17, (-10.0, 0.0, 400080.0, 0.0, -10.0, 4300000.0), "direction of rows"),
        (UTM17, (10.0, 0.0, 400000.0, 0.0, -20.0, 4300000.0), "another pixel size"),
        (UTM17, (0.0, 10.0, 400000.0, -10.0, 0.0, 4300000.0), "another pixel size"),  # turned
    ],
)
def test_label_raster_of_another_grid_is_refused_with_what_differs(
    tmp_path: Path, crs: str, place: tuple[float, ...], says: str
) -> None:
    """Systems are compared as systems, transforms as places of corners; the remedy is a command."""
    image = _placed(tmp_path / "a.tif", noise(8, 8), UTM17, GRID)
    mask = _placed(tmp_path / "m.tif", random_labels(8, 8, n_classes=2), crs, place)
    with pytest.raises(SceneError, match=re.escape(says)) as caught:
        read_labels(SceneFile("a", image, mask, coding="index"), TWO)
    if crs != UTM17:  # other ground, which nothing aligns
        assert "no pixel of it does" in str(caught.value)
        assert "Mend the place or coordinate system that is wrong" in str(caught.value)
        return
    assert f"rio warp {mask} ALIGNED.tif --like {image} --resampling nearest --src-nodata 255" in str(caught.value)


def test_grid_elements_that_equal_the_corner_are_compared(tmp_path: Path) -> None:
    """Pixels twice as large, and a corner whose coordinates equal the pixel size."""
    image = _placed(tmp_path / "a.tif", noise(8, 8), UTM17, (20.0, 0.0, 10.0, 0.0, -20.0, -10.0))
    mask = _placed(tmp_path / "m.tif", random_labels(8, 8), UTM17, (10.0, 0.0, 10.0, 0.0, -10.0, -10.0))
    with pytest.raises(SceneError, match="another pixel size"):
        read_labels(SceneFile("a", image, mask, coding="index"), TWO)


@pytest.mark.parametrize("crs", ["+proj=utm +zone=17 +datum=NAD83 +units=m +no_defs", LOCAL, None])
def test_label_raster_of_the_same_system_by_another_name_is_accepted(tmp_path: Path, crs: str | None) -> None:
    """A PROJ string, an engineering system of the same name, none at all."""
    labels = random_labels(8, 8, n_classes=2)
    image = _placed(tmp_path / "a.tif", noise(8, 8), UTM17, GRID)
    mask = _placed(tmp_path / "m.tif", labels, crs, GRID)
    assert np.array_equal(read_labels(SceneFile("a", image, mask, coding="index"), TWO), labels)


def test_the_remedy_aligns_a_larger_label_raster(tmp_path: Path) -> None:
    """Run as it stands; ground that the label does not cover has no data."""
    labels = random_labels(12, 12, n_classes=2)
    image = _placed(tmp_path / "a.tif", noise(8, 8), UTM17, GRID)
    mask = _placed(tmp_path / "m.tif", labels, UTM17, (10.0, 0.0, 399980.0, 0.0, -10.0, 4299980.0))
    with pytest.raises(SceneError, match="rio warp") as caught:
        read_labels(SceneFile("a", image, mask, coding="index"), TWO)
    command = str(caught.value).split("there: rio ")[1].replace("ALIGNED.tif", str(tmp_path / "w.tif"))
    main_group(command.split(), standalone_mode=False)
    aligned = read_labels(SceneFile("a", image, tmp_path / "w.tif", coding="index"), TWO)
    assert np.array_equal(aligned[2:], labels[:6, 2:10])
    assert (aligned[:2] == IGNORE).all()


def test_grey_index_mask_is_not_read_as_black_and_white(tmp_path: Path) -> None:
    """Under the threshold rule indices 0 to 6 would all be black."""
    image, mask = save(tmp_path / "a.jpg", noise(6, 8)), save(tmp_path / "a.png", random_labels(6, 8))
    text = (
        r"a\.png: grey mask with values up to 6, expected colours\. Pass --layout index where it holds class indices\.$"
    )
    with pytest.raises(SceneError, match=text):
        read_labels(SceneFile("a", image, mask), DEEPGLOBE)


def test_scene_of_one_pixel_is_a_scene(tmp_path: Path) -> None:
    """Small, but sound."""
    labels = kaggle_pair(tmp_path, "1", size=(1, 1))
    scene = SceneFile("1", tmp_path / "1_sat.jpg", tmp_path / "1_mask.png")
    assert read_scene(scene, DEEPGLOBE).pixels.shape == (1, 1, 3)
    assert np.array_equal(read_labels(scene, DEEPGLOBE), labels)


def test_real_deepglobe_masks_agree_with_an_independent_decode(real_data: Path) -> None:
    """Pillow and one comparison a class, as in the origin study, on all ten masks."""
    masks = sorted((real_data / "deepglobe").glob("*_mask.png"))
    assert len(masks) == 10
    for mask in masks:
        image = mask.with_name(mask.name.replace("_mask.png", "_sat.jpg"))
        rgb = np.asarray(Image.open(mask).convert("RGB"))
        expected = np.full(rgb.shape[:2], 99, np.uint8)
        for entry in DEEPGLOBE.classes:
            expected[(rgb == np.array(entry.colour)).all(-1)] = entry.index
        scene = read_scene(SceneFile("x", image, mask), DEEPGLOBE)
        assert np.array_equal(scene.labels, expected)
        assert np.array_equal(encode_colours(expected, DEEPGLOBE), rgb)
        assert scene.pixels.shape == (2448, 2448, 3)
        assert scene.impure_pixels == 0


def test_real_deepglobe_image_equals_pillows_but_for_rounding(real_data: Path) -> None:
    """Another decoder, the same picture."""
    path = real_data / "deepglobe" / "119_sat.jpg"
    difference = np.abs(
        read_pixels(SceneFile("119", path, None)).astype(int) - np.asarray(Image.open(path)).astype(int)
    )
    assert difference.mean() < 0.1


def test_real_dubai_masks_agree_with_an_independent_decode(real_data: Path) -> None:
    """RGB and palette PNGs; black is no data."""
    for mask in sorted((real_data / "dubai").glob("*/masks/*.png")):
        image = mask.parents[1] / "images" / f"{mask.stem}.jpg"
        rgb = np.asarray(Image.open(mask).convert("RGB"))
        expected = np.full(rgb.shape[:2], 99, np.uint8)
        for colour, value in DUBAI.table:
            expected[(rgb == np.array(colour)).all(-1)] = value
        assert np.array_equal(read_labels(SceneFile("x", image, mask), DUBAI), expected)


def test_real_naip_raster_has_four_bands_and_its_empty_cells_are_no_data(real_data: Path) -> None:
    """Band 4 is near infrared though tagged alpha; 36.7 % of the cells are empty."""
    image, mask = (real_data / "naip" / f"naip_cluster1_{kind}.tif" for kind in ("rgbn", "label"))
    scene = read_scene(SceneFile("naip", image, mask, coding="index"), default_legend(6))
    with rasterio.open(image) as raster:
        pixels = raster.read().transpose(1, 2, 0)
    with rasterio.open(mask) as raster:
        labels = raster.read(1)
    assert np.array_equal(scene.pixels, pixels)
    assert np.array_equal(scene.labels, np.where((pixels == 0).all(-1), IGNORE, labels))
    assert (scene.labels == IGNORE).mean() == pytest.approx(0.367, abs=1e-3)
