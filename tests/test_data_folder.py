"""Whole data folders: each layout detected, legends chosen, bad scenes named and left out."""

from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import TWO, kaggle_pair, noise, png_of_size, random_labels, save, save_palette, save_raster
from PIL import Image

from levelground.config import Layout
from levelground.errors import ConfigError, LegendError, SceneError
from levelground.imagery.data_folder import FoundScenes, find_scenes
from levelground.imagery.image_headers import read_header
from levelground.imagery.legend import DEEPGLOBE, default_legend, encode_colours
from levelground.imagery.scene_pixels import read_labels, read_pixels
from levelground.imagery.stored_values import occurring_values

TOML = """name = "two"
ignored = ["000000"]
class = [{index = 0, name = "field", colour = "0A141E"}, {index = 1, name = "wood", colour = [200, 100, 0]}]
"""


def _folders(data: Path, masks: dict[str, np.ndarray], *, ending: str = "png", seed: int = 0) -> None:
    for name, mask in masks.items():
        save(data / f"images/{name}.jpg", noise(*mask.shape[:2], seed=seed), quality=95)
        save(data / f"masks/{name}.{ending}", mask)


def _texts(found: FoundScenes, data: Path) -> list[tuple[str, str | None, str]]:
    return [(finding.code, finding.scene, finding.text.replace(f"{data}/", "")) for finding in found.findings]


def test_kaggle_folder_is_found_with_its_built_in_legend(tmp_path: Path) -> None:
    """Below train/ too; scenes without a mask are listed and kept apart."""
    labels = kaggle_pair(tmp_path / "train", "119")
    kaggle_pair(tmp_path / "train", "12", seed=1)
    save(tmp_path / "valid/7_sat.jpg", noise(20, 30))
    found = find_scenes(tmp_path)
    assert found.layout == "kaggle"
    assert found.legend == DEEPGLOBE
    assert [(scene.id, scene.labels is not None) for scene in found.scenes] == [
        ("119", True),
        ("12", True),
        ("7", False),
    ]
    assert found.lines == (
        "layout kaggle (detected; --layout overrides): 2 scenes with a mask, 1 without; masks hold colours",
        "legend deepglobe, 7 classes, 6 counted (built in)",
    )
    assert _texts(found, tmp_path) == [
        ("no-mask", None, "1 of 3 images without a mask: neither trained nor tested on (7).")
    ]
    assert np.array_equal(read_labels(found.scenes[0], found.legend), labels)


def test_colour_folders_take_the_legend_beside_them(tmp_path: Path) -> None:
    """``legend.toml`` in the data folder is found by itself, RGB and palette PNGs are mixed."""
    labels = random_labels(8, 9, n_classes=2)
    _folders(tmp_path, {"a": encode_colours(labels, TWO)})
    save(tmp_path / "images/b.jpg", noise(8, 9))
    save_palette(tmp_path / "masks/b.png", 1 - labels, [200, 100, 0, 10, 20, 30])
    (tmp_path / "legend.toml").write_text(TOML)
    found = find_scenes(tmp_path)
    assert (found.layout, found.legend.names) == ("folders", ("field", "wood"))
    assert found.lines[1] == f"legend two, 2 classes, 2 counted (from {tmp_path}/legend.toml)"
    for scene in found.scenes:
        assert np.array_equal(read_labels(scene, found.legend), labels)


def test_legend_named_by_flag_wins(tmp_path: Path) -> None:
    """Even over a broken one beside the data."""
    _folders(tmp_path / "data", {"a": encode_colours(random_labels(8, 9, n_classes=2), TWO)})
    (tmp_path / "data/legend.toml").write_text("nonsense")
    (tmp_path / "mine.toml").write_text(TOML.replace('"two"', '"mine"'))
    assert find_scenes(tmp_path / "data", legend=tmp_path / "mine.toml").legend.name == "mine"
    with pytest.raises(LegendError, match=r"data/legend\.toml: is not TOML"):
        find_scenes(tmp_path / "data")


def test_colour_masks_without_a_legend_are_refused_with_an_example(tmp_path: Path) -> None:
    """The example names the colours found, the commonest first, and can be pasted."""
    mask = np.full((4, 4, 3), (200, 100, 0), np.uint8)
    mask[0, 0] = (10, 20, 30)
    _folders(tmp_path, {"a": mask})
    with pytest.raises(
        LegendError, match=r": masks hold colours and there is no legend\. Write .*legend\.toml with"
    ) as caught:
        find_scenes(tmp_path)
    example = str(caught.value).partition("such as: ")[2].partition("; or pass --legend FILE.")[0]
    assert "\n" not in str(caught.value)
    (tmp_path / "legend.toml").write_text(example)
    assert find_scenes(tmp_path).legend.colours.tolist() == [[200, 100, 0], [10, 20, 30]]


def test_many_colours_without_a_legend_are_cut_short(tmp_path: Path) -> None:
    """A photograph among the masks does not fill the screen."""
    _folders(tmp_path, {"a": noise(9, 9)})
    with pytest.raises(LegendError, match=r"\] \(81 colours found, the commonest shown\); or pass --legend FILE\.$"):
        find_scenes(tmp_path)


@pytest.mark.parametrize("form", ["grey", "palette"])
def test_index_masks_without_a_legend_get_numbered_classes(tmp_path: Path, form: str) -> None:
    """0 to the largest index of all masks; 255 is no data; said in one line."""
    labels = [random_labels(8, 9, n_classes=n, seed=n) for n in (2, 4)]
    labels[0][0, 0] = 255
    for name, values in zip("ab", labels, strict=True):
        save(tmp_path / f"images/{name}.jpg", noise(8, 9))
        path = tmp_path / f"masks/{name}.png"
        _ = save(path, values) if form == "grey" else save_palette(path, values, list(range(256)) * 3)
    found = find_scenes(tmp_path)
    assert (found.layout, found.legend) == ("index", default_legend(4))
    assert found.lines == (
        "layout index (detected; --layout overrides): 2 scenes with a mask; masks hold class indices",
        "legend default, 4 classes, 4 counted (no legend file: the classes are numbered, 255 = no data; "
        "if 0 is no data, pass --label-nodata 0)",
    )
    assert np.array_equal(read_labels(found.scenes[0], found.legend), labels[0])


def test_index_masks_take_a_legend_too(tmp_path: Path) -> None:
    """Palette colours that are not the legend's do not matter."""
    indices = np.tile(np.uint8([[0, 1], [1, 0]]), (2, 2))
    save(tmp_path / "images/a.jpg", noise(4, 4))
    save_palette(tmp_path / "masks/a.png", indices, [1, 1, 1, 2, 2, 2])
    (tmp_path / "legend.toml").write_text(TOML)
    found = find_scenes(tmp_path)
    assert (found.layout, found.legend.name) == ("index", "two")
    assert np.array_equal(read_labels(found.scenes[0], found.legend), indices)


def test_mask_of_other_values_is_told_and_left_out(tmp_path: Path) -> None:
    """Where classes are numbered, a value that is none."""
    heights = np.arange(400, dtype=np.uint16).reshape(20, 20)
    _folders(tmp_path, {"a": random_labels(4, 4, n_classes=3), "b": heights})
    found = find_scenes(tmp_path)
    assert [scene.id for scene in found.scenes] == ["a"]
    assert found.legend.n_classes == 3
    ((code, scene, text),) = _texts(found, tmp_path)
    assert (code, scene) == ("unreadable", "b")
    assert text.startswith("masks/b.png: mask holds the values 0 to 399, expected class indices 0 to 254, or 255 for")
    assert text.endswith("Number the classes from 0, or give a legend that names their values.")


def test_values_are_sought_in_all_parts_of_a_raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a few rows; no data alone gives no value."""
    monkeypatch.setattr("levelground.imagery.stored_values._STRIP_PIXELS", 20)
    values = np.zeros((9, 10), np.int16)
    values[8, 9] = 6
    path = save_raster(tmp_path / "m.tif", values, nodata=-1)
    assert occurring_values(path, read_header(path)) == {0, 6}
    path = save_raster(tmp_path / "n.tif", np.full((9, 10), -1, np.int16), nodata=-1)
    assert occurring_values(path, read_header(path)) == set()


def test_pairs_of_rasters_are_a_layout(tmp_path: Path) -> None:
    """16 bits and several bands, by folders or by names; the ground sampling distance is told."""
    for name in ("a", "b"):
        save_raster(tmp_path / f"folders/images/{name}.tif", noise(8, 9, 5, dtype="uint16"))
        save_raster(tmp_path / f"folders/labels/{name}.tif", random_labels(8, 9, n_classes=3))
        save_raster(tmp_path / f"names/{name}_rgbn.tif", noise(8, 9, 5, dtype="uint16"))
        save_raster(tmp_path / f"names/{name}_label.tif", random_labels(8, 9, n_classes=3))
    for form, ids in (("folders", ["a", "b"]), ("names", ["a_rgbn", "b_rgbn"])):
        found = find_scenes(tmp_path / form)
        assert (found.layout, [scene.id for scene in found.scenes]) == ("geotiff", ids)
        assert found.gsd_m == pytest.approx(0.6)
        assert read_pixels(found.scenes[0]).dtype == np.uint16


def test_one_large_raster_is_cut_into_blocks(tmp_path: Path) -> None:
    """A rest below half a block joins the last one; blocks without a label are left out, and said."""
    labels = random_labels(70, 85, n_classes=3)
    labels[:32, 32:64] = 255
    save_raster(tmp_path / "area_rgbn.tif", noise(70, 85, 4))
    save_raster(tmp_path / "area_label.tif", labels, nodata=255)
    found = find_scenes(tmp_path, block=32)
    assert found.layout == "raster"
    assert [(scene.id, scene.window) for scene in found.scenes] == [
        ("area_rgbn/r00000-c00000", (0, 0, 32, 32)),
        ("area_rgbn/r00000-c00064", (0, 64, 32, 21)),
        ("area_rgbn/r00032-c00000", (32, 0, 38, 32)),
        ("area_rgbn/r00032-c00032", (32, 32, 38, 32)),
        ("area_rgbn/r00032-c00064", (32, 64, 38, 21)),
    ]
    assert [scene.group for scene in found.scenes] == [scene.id for scene in found.scenes]
    assert found.lines[0] == (
        "layout raster (detected; --layout overrides): 1 raster cut into blocks of 32 px: 5 blocks, 1 more "
        "without a valid label pixel left out; masks hold class indices"
    )
    assert np.array_equal(read_labels(found.scenes[2], found.legend), labels[32:, :32])


def test_colour_rasters_are_cut_by_their_legend(tmp_path: Path) -> None:
    """Ignored colours are no label; blocks of several rasters are grouped by raster."""
    for name in ("a", "b"):
        labels = random_labels(40, 40, n_classes=2)
        labels[:20, :20] = 255
        save_raster(tmp_path / f"{name}.tif", noise(40, 40))
        save_raster(tmp_path / f"{name}_label.tif", encode_colours(labels, TWO))
    (tmp_path / "legend.toml").write_text(TOML)
    found = find_scenes(tmp_path, layout="raster", block=20)
    assert [(scene.id, scene.group) for scene in found.scenes if scene.group == "b"] == [
        ("b/r00000-c00020", "b"), ("b/r00020-c00000", "b"), ("b/r00020-c00020", "b"),
    ]  # fmt: skip
    assert len(found.scenes) == 6
    assert found.lines[0].startswith("layout raster: 2 rasters cut into blocks of 20 px: 6 blocks, 2 more")


def test_raster_without_any_label_is_refused(tmp_path: Path) -> None:
    """Nothing to learn from and nothing to score."""
    save_raster(tmp_path / "a.tif", noise(8, 8))
    save_raster(tmp_path / "a_label.tif", np.full((8, 8), 255, np.uint8))
    with pytest.raises(SceneError, match=r": holds no scene with a mask\. Expected <id>_sat\.jpg with <id>_mask\.png"):
        find_scenes(tmp_path)


def test_only_rasters_are_cut(tmp_path: Path) -> None:
    """A JPEG has no windows."""
    kaggle_pair(tmp_path, "1")
    text = r"1_sat\.jpg: layout raster reads through windows, which needs TIFF\. Save image and mask as GeoTIFF\.$"
    with pytest.raises(SceneError, match=text):
        find_scenes(tmp_path, layout="raster")


@pytest.mark.parametrize(("layout", "coding"), [("index", "index"), ("folders", "colour"), ("geotiff", "index")])
def test_layout_given_is_not_looked_for(tmp_path: Path, layout: Layout, coding: str) -> None:
    """What the flag says about masks is believed."""
    _folders(tmp_path, {"a": random_labels(4, 4, n_classes=2)})
    (tmp_path / "legend.toml").write_text(TOML)
    found = find_scenes(tmp_path, layout=layout)
    assert (found.layout, found.scenes[0].coding) == (layout, coding)
    assert found.lines[0].startswith(f"layout {layout}: 1 scenes")


def test_layout_that_finds_nothing_is_one_line(tmp_path: Path) -> None:
    """Another layout may be there, but another was asked for."""
    _folders(tmp_path, {"a": random_labels(4, 4)})
    with pytest.raises(SceneError, match=r": holds no scene with a mask: no file is named .* Found: images/\*\.jpg"):
        find_scenes(tmp_path, layout="kaggle")


def test_block_below_one_pixel_is_refused(tmp_path: Path) -> None:
    """Before anything is looked at."""
    with pytest.raises(ConfigError, match=r"^--block 0: expected a side in pixels, at least 1 \(default 256\)\.$"):
        find_scenes(tmp_path / "none", block=0)


def test_bad_scenes_are_told_and_kept_out(tmp_path: Path) -> None:
    """Empty, text, bomb, unlike sizes, missing image, other bands: each its line, the sound scenes stay."""
    for name in ("good", "fine", "empty", "text", "bomb", "small", "alone", "grey"):
        kaggle_pair(tmp_path, name)
    (tmp_path / "empty_sat.jpg").write_bytes(b"")
    (tmp_path / "text_mask.png").write_text("hello")
    (tmp_path / "bomb_mask.png").write_bytes(png_of_size(99_999, 99_999))
    save(tmp_path / "small_mask.png", noise(20, 29))
    (tmp_path / "alone_sat.jpg").unlink()
    save(tmp_path / "grey_sat.jpg", noise(20, 30, 1))
    found = find_scenes(tmp_path)
    assert [scene.id for scene in found.scenes] == ["fine", "good"]
    assert all(finding.severity == "error" for finding in found.findings)
    texts = {scene: (code, text) for code, scene, text in _texts(found, tmp_path)}
    assert {scene: code for scene, (code, _) in texts.items()} == {
        "alone": "missing-image", "bomb": "unreadable", "empty": "unreadable", "grey": "unlike-bands",
        "small": "unreadable", "text": "unreadable",
    }  # fmt: skip
    assert texts["grey"][1] == (
        "grey_sat.jpg: has 1 bands of uint8, most scenes have 3 of uint8. Give all scenes the same bands and type."
    )
    assert texts["empty"][1] == "empty_sat.jpg: is empty (0 bytes). Copy the file again."
    assert texts["alone"][1] == "alone_mask.png: mask without an image. Add the image or remove the mask."


def test_folder_of_bad_scenes_alone_says_the_first_reason(tmp_path: Path) -> None:
    """And how many more there are."""
    for name in ("a", "b"):
        kaggle_pair(tmp_path, name)
        (tmp_path / f"{name}_sat.jpg").write_bytes(b"")
    with pytest.raises(SceneError, match=r"a_sat\.jpg: is empty .* \(2 problems in all, and no scene is left\.\)$"):
        find_scenes(tmp_path)


def test_what_is_done_to_images_is_noted(tmp_path: Path) -> None:
    """EXIF rotation, alpha and palettes, one note each with a few names."""
    exif = Image.Exif()
    exif[274] = 6
    labels = random_labels(6, 6, n_classes=2)
    for name in "abcd":
        save(tmp_path / f"images/{name}.jpg", noise(6, 6), exif=exif.tobytes())
        save(tmp_path / f"masks/{name}.png", labels)
    save(tmp_path / "images/e.png", noise(6, 6, 4))
    save(tmp_path / "masks/e.png", labels)
    save_palette(tmp_path / "images/f.png", labels, [1, 2, 3, 4, 5, 6])
    save(tmp_path / "masks/f.png", labels)
    found = find_scenes(tmp_path)
    assert len(found.scenes) == 6
    assert [text for _, _, text in _texts(found, tmp_path)] == [
        "4 of 6 images turned upright by their EXIF orientation (a, b, c …).",
        "1 of 6 images with an alpha band: it is dropped, and pixels of alpha 0 become no data (e).",
        "1 of 6 images with a palette, read as colours (f).",
    ]


def test_ids_with_spaces_and_cyrillic_are_read(tmp_path: Path) -> None:
    """File names of any script."""
    kaggle_pair(tmp_path, "поле у реки 1")
    assert [scene.id for scene in find_scenes(tmp_path).scenes] == ["поле у реки 1"]


def test_real_folders_are_found_by_looking(real_data: Path, tmp_path: Path) -> None:
    """DeepGlobe, Dubai with a legend, NAIP without one."""
    deepglobe = find_scenes(real_data / "deepglobe")
    assert (deepglobe.layout, len(deepglobe.scenes), deepglobe.findings) == ("kaggle", 10, ())
    names = {"land": "8429F6", "water": "E2A929", "building": "3C1098", "vegetation": "FEDD3A", "road": "6EC1E4",
             "unlabeled": "9B9B9B"}  # fmt: skip
    rows = [f'{{index = {i}, name = "{name}", colour = "{code}"}}' for i, (name, code) in enumerate(names.items())]
    (tmp_path / "dubai.toml").write_text(f'ignored = ["000000"]\nclass = [{", ".join(rows)}]')
    dubai = find_scenes(real_data / "dubai", legend=tmp_path / "dubai.toml")
    assert (dubai.layout, len(dubai.scenes), {scene.group for scene in dubai.scenes}) == (
        "folders", 27, {"tile_1", "tile_2", "tile_3"},
    )  # fmt: skip
    naip = find_scenes(real_data / "naip")
    assert (naip.layout, len(naip.scenes), naip.legend.n_classes, naip.gsd_m) == ("raster", 31, 6, pytest.approx(0.6))
    assert "31 blocks, 18 more without a valid label pixel left out" in naip.lines[0]
