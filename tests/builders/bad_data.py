"""Bad scenes, folders, legends and splits: how each is made, and the line that ``prepare`` ends with."""

# ruff: noqa: E501  # the line that is expected is one line

import os
from pathlib import Path

import numpy as np

from builders.bad_files import (
    PREPARE,
    TWO,
    Case,
    Spoil,
    both,
    colours,
    content,
    cut,
    indices,
    jpeg_of_size,
    kaggle,
    legend,
    link,
    lists,
    many_classes,
    outside,
    picture,
    raster,
    rasters,
    remove,
    tiff_of_size,
    turned,
    unreadable,
)
from builders.scene_files import kaggle_pair, noise, png_of_size, random_labels, save, save_palette
from levelground.imagery.legend import DEEPGLOBE, encode_colours

MORE = r"(?: \(\d more files? ha(?:s|ve) problems(?:\.\))?)?"
SKIP = r"(?: \(|; )--skip-bad leaves (?:them|it) out\.\)"


def stripes(*colours: tuple[int, int, int]) -> np.ndarray:
    """A mask of 20 × 30 pixels in stripes."""
    return np.repeat(np.resize(np.uint8(colours), (20, 3))[:, None], 30, axis=1)


FILES = {
    "truncated JPEG": Case(
        kaggle,
        cut("data/1_sat.jpg"),
        r"SceneError: \S+1_sat\.jpg: JPEG is truncated or damaged \(.+\)\. Copy the file again\." + SKIP,
    ),
    "JPEG cut within its header": Case(
        kaggle,
        cut("data/1_sat.jpg", 0.02),
        r"SceneError: \S+1_sat\.jpg: JPEG is truncated or damaged \(.+\)\. Copy the file again\." + SKIP,
    ),
    "empty JPEG": Case(
        kaggle,
        content("data/1_sat.jpg", b""),
        r"SceneError: \S+1_sat\.jpg: is empty \(0 bytes\)\. Copy the file again\." + SKIP,
    ),
    "truncated PNG": Case(
        kaggle,
        cut("data/1_mask.png"),
        r"SceneError: \S+1_mask\.png: PNG is truncated after \d+ bytes\. Copy the file again\." + SKIP,
    ),
    "empty PNG": Case(
        kaggle,
        content("data/1_mask.png", b""),
        r"SceneError: \S+1_mask\.png: is empty \(0 bytes\)\. Copy the file again\." + SKIP,
    ),
    "truncated TIFF": Case(
        rasters,
        cut("data/1.tif", 0.7),
        r"SceneError: \S+/1\.tif: is damaged or is not a raster that can be read\. Replace the file\." + SKIP,
    ),
    "empty TIFF": Case(
        rasters,
        content("data/1.tif", b""),
        r"SceneError: \S+/1\.tif: is empty \(0 bytes\)\. Copy the file again\." + SKIP,
    ),
    "text named .jpg": Case(
        kaggle,
        content("data/1_sat.jpg", "Not Found\n"),
        r"SceneError: \S+1_sat\.jpg: is not a JPEG, PNG or TIFF \(begins with b'Not Found\\n'\)\. Replace or convert the file\."
        + SKIP,
    ),
    "text named .tif": Case(
        rasters,
        content("data/1_label.tif", "<html>"),
        r"SceneError: \S+/1_label\.tif: is not a JPEG, PNG or TIFF \(begins with b'<html>'\)\. .+" + SKIP,
    ),
    "CMYK JPEG": Case(
        kaggle, picture("data/1_sat.jpg", noise(20, 30), "CMYK"), r"SceneError: \S+1_sat\.jpg: .*CMYK.*" + SKIP
    ),
    "mixed band counts": Case(
        kaggle,
        picture("data/1_sat.jpg", noise(20, 30, 1)),
        r"SceneError: \S+1_sat\.jpg: has 1 bands of uint8, most scenes have 3 of uint8\. Give all scenes the same bands and type\."
        + SKIP,
    ),
    "mixed types": Case(
        rasters,
        raster("data/1.tif", noise(16, 16, dtype="uint16")),
        r"SceneError: \S+/1\.tif: has 3 bands of uint16, most scenes have 3 of uint8\. Give all scenes the same bands and type, on one scale: "
        r"rio convert \S+/1\.tif FLOAT\.tif --dtype float32\." + SKIP,
    ),
    "complex numbers for pixels": Case(
        rasters,
        raster("data/1.tif", noise(16, 16, dtype="complex64")),
        r"SceneError: \S+/1\.tif: holds complex numbers\. Write what is to be read, such as amplitudes, as float32\."
        + SKIP,
    ),
    "image turned by EXIF, mask not": Case(
        kaggle,
        turned("data/1_sat.jpg"),
        r"SceneError: \S+1_mask\.png: does not lie on its image 1_sat\.jpg: it has 30 × 20 pixels, not 20 × 30 \(width × height\)\. "
        r"Give both the same size; resize masks by nearest neighbour only\." + SKIP,
    ),
    "missing mask": Case(
        kaggle,
        remove("data/1_mask.png"),
        r"SceneError: \S+1_sat\.jpg: image without a mask\. Add the mask or remove the image\." + SKIP,
    ),
    "missing image": Case(
        kaggle,
        remove("data/1_sat.jpg"),
        r"SceneError: \S+1_mask\.png: mask without an image\. Add the image or remove the mask\." + SKIP,
    ),
    "two images for one mask": Case(
        kaggle,
        picture("data/1_sat.png", noise(20, 30)),
        r"SceneError: \S+1_sat\.jpg: 2 images fit each other \(1_sat\.jpg, 1_sat\.png\)\. Keep one of them\." + SKIP,
    ),
    "unlike sizes": Case(
        kaggle,
        picture("data/1_mask.png", np.zeros((20, 31, 3), np.uint8)),
        r"SceneError: \S+1_mask\.png: does not lie on its image 1_sat\.jpg: it has 31 × 20 pixels, not 30 × 20 \(width × height\)\. .+"
        + SKIP,
    ),
    "a scene of one pixel": Case(
        kaggle,
        lambda root: kaggle_pair(root / "data", "1", size=(1, 1)),
        r"SceneError: \S+1_sat\.jpg: has 1 × 1 pixels, expected at least 4 each way\. Replace or remove the scene\."
        + SKIP,
    ),
    "a folder named like an image": Case(
        kaggle,
        both(remove("data/1_sat.jpg"), lambda root: (root / "data/1_sat.jpg").mkdir()),
        r"SceneError: \S+1_mask\.png: mask without an image\. Add the image or remove the mask\." + SKIP,
    ),
    "PNG bomb": Case(
        kaggle,
        content("data/1_mask.png", png_of_size(60_000, 60_000)),
        r"SceneError: \S+1_mask\.png: has 60000 × 60000 pixels in 3 bands; at most 89478485 pixels are decoded at once\. "
        r"Cut it, or save it as GeoTIFF and pass --layout raster\." + SKIP,
    ),
    "JPEG bomb": Case(
        kaggle,
        jpeg_of_size("data/1_sat.jpg", 65_000, 65_000),
        r"SceneError: \S+1_sat\.jpg: has 65000 × 65000 pixels in 3 bands; at most 89478485 pixels are decoded at once\. .+"
        + SKIP,
    ),
    "TIFF bomb": Case(
        rasters,
        both(
            legend(*TWO),
            content("data/1.tif", tiff_of_size(60_000, 60_000)),
            content("data/1_label.tif", tiff_of_size(60_000, 60_000, bands=1)),
        ),
        r"SceneError: \S+/1\.tif: has 60000 × 60000 pixels in 3 bands; at most 89478485 pixels are decoded at once\. .+"
        + SKIP,
    ),
    "TIFF whose one tile would fill the memory": Case(
        rasters,
        content("data/1.tif", tiff_of_size(16, 16, tile=65_520)),
        r"SceneError: \S+/1\.tif: is stored in tiles of 65520 × 65520 pixels, of which not one is decoded at once\. "
        r"Write it anew in tiles of 256\." + SKIP,
    ),
    "line break in a name": Case(
        kaggle,
        lambda root: kaggle_pair(root / "data", "9\n9"),
        r"SceneError: '9\\n9_mask\.png': the name has a line break or another control character\. Rename the file\."
        + MORE
        + SKIP,
    ),
    "a name that is no text": Case(
        kaggle,
        lambda root: kaggle_pair(root / "data", os.fsdecode(b"9\xff")),
        r"SceneError: '9\\udcff_mask\.png': the name has a line break or another control character\. Rename the file\."
        + MORE
        + SKIP,
    ),
    "link to a file outside": Case(
        kaggle,
        both(outside, remove("data/1_sat.jpg"), link("data/1_sat.jpg", "elsewhere/7_sat.jpg")),
        r"SceneError: \S+data/1_sat\.jpg: is a link that leaves the data folder \(to \S+/elsewhere/7_sat\.jpg\)\. "
        r"Copy what it points to, or give that folder\." + MORE + SKIP,
    ),
    "link to a folder outside": Case(
        kaggle,
        both(outside, link("data/more", "elsewhere")),
        r"SceneError: \S+data/more: is a link that leaves the data folder \(to \S+/elsewhere\)\. .+" + SKIP,
    ),
    "link to nothing": Case(
        kaggle,
        both(remove("data/1_sat.jpg"), link("data/1_sat.jpg", "data/gone.jpg")),
        r"SceneError: \S+data/1_sat\.jpg: is a link to \S+/data/gone\.jpg, which does not exist\. Mend or remove it\."
        + MORE
        + SKIP,
    ),
    "link to itself": Case(
        kaggle,
        both(remove("data/1_sat.jpg"), link("data/1_sat.jpg", "data/1_sat.jpg")),
        r"SceneError: \S+data/1_sat\.jpg: is a link that leads to itself\. Mend or remove it\." + MORE + SKIP,
    ),
}
"""Files of a scene; ``--skip-bad`` leaves each of them out."""

FOLDERS = {
    "no such folder": Case(
        None, None, r"SceneError: \S+/data: is not a folder\. Give the folder with the scenes as --data\."
    ),
    "a file for a folder": Case(None, content("data", "x"), r"SceneError: \S+/data: is not a folder\. .+"),
    "empty folder": Case(
        None,
        lambda root: (root / "data").mkdir(),
        r"SceneError: \S+/data: holds no scene with a mask\. Expected <id>_sat\.jpg with <id>_mask\.png, folders images/ and "
        r"masks/, or NAME\.tif with NAME_label\.tif; see docs/layouts\.md\.",
    ),
    "images and no mask": Case(
        kaggle,
        remove(*(f"data/{n}_mask.png" for n in range(6))),
        r"SceneError: \S+/data: holds no scene with a mask: .+",
    ),
    "masks and no image": Case(
        kaggle,
        remove(*(f"data/{n}_sat.jpg" for n in range(6))),
        r"SceneError: \S+0_mask\.png: mask without an image\. .+ \(6 problems in all, and no scene is left\.\)",
    ),
    "unreadable folder": Case(
        kaggle,
        both(content("data/more/x.jpg", ""), unreadable("data/more")),
        r"SceneError: \S+/data/more: folder cannot be listed \(Permission denied\)\. Give yourself permission to read it\.",
    ),
    "two scenes": Case(
        kaggle,
        remove(*(f"data/{n}_{part}" for n in range(2, 6) for part in ("sat.jpg", "mask.png"))),
        r"SplitError: 2 groups of scenes, expected at least 3: .+",
    ),
    "--out is a file": Case(
        kaggle,
        content("study", "x"),
        r"DiskError: study: cannot be written \(File exists\)\. Move study away, or choose another --out\.",
    ),
    "--cache is a file": Case(
        kaggle,
        content("cache", "x"),
        r"DiskError: \S+: cannot be written \((File exists|Not a directory)\)\. Move \S+ away, or choose another cache with --cache or "
        r"LEVELGROUND_CACHE\.",
    ),
    "--data and --download": Case(
        kaggle,
        None,
        r"ConfigError: --data data: given with --download kaggle\. Drop one\.",
        PREPARE + " --download kaggle",
    ),
    "--block 0": Case(
        kaggle, None, r"ConfigError: --block 0: should be greater than or equal to 1\. .+", PREPARE + " --block 0"
    ),
}

LEGENDS = {
    "colours of no class, exact": Case(
        colours,
        picture("data/masks/1.png", np.full((16, 16, 3), 77, np.uint8)),
        r"LabelColourError: \S+masks/1\.png: 256 pixels have colour \(77, 77, 77\), which is not a class of 'legend' "
        r"\(first at row 0, column 0\)\. Fix the file or add it to the legend\." + SKIP,
    ),
    "colours of no class, binarised": Case(
        kaggle,
        picture("data/1_mask.png", stripes((0, 255, 255), (255, 0, 0))),
        r"LabelColourError: \S+1_mask\.png: 300 pixels have colour \(255, 0, 0\), which is not a class of 'deepglobe' "
        r"\(first at row 1, column 0\)\. Fix the file or add it to the legend\." + SKIP,
    ),
    "class indices for colours": Case(
        kaggle,
        picture("data/1_mask.png", random_labels(20, 30)),
        r"SceneError: \S+1_mask\.png: grey mask with values up to 6, expected colours\. Pass --layout index where it holds class indices\."
        + SKIP,
    ),
    "index out of range": Case(
        indices,
        picture("data/masks/1.png", np.full((16, 16), 7, np.uint8)),
        r"SceneError: \S+masks/1\.png: 256 pixels hold a value that is not a class index of 'legend' \(first 7 at row 0, column 0\), "
        r"expected 0 to 1, or 255 for no data\. Fix the mask or the legend; its nodata = \[VALUE\] names further values without "
        r"data\." + SKIP,
    ),
    "indices in a JPEG": Case(
        indices,
        both(remove("data/masks/1.png"), picture("data/masks/1.jpg", random_labels(16, 16, n_classes=2))),
        r"SceneError: \S+masks/1\.jpg: JPEG blurs class indices\. Save the mask as PNG or TIFF, without loss\." + SKIP,
    ),
    "colours without a legend": Case(
        colours,
        remove("data/legend.toml"),
        r"LegendError: \S+data: masks hold colours and there is no legend\. Write \S+legend\.toml with the right names, such as: .+",
    ),
    "two equal colours": Case(
        indices,
        legend(("field", "0A141E"), ("wood", "0A141E")),
        r"LegendError: \S+legend\.toml: legend 'legend': field and wood have colour \(10, 20, 30\)\. Give each its own\.",
    ),
    "two colours equal after binarising": Case(
        indices,
        legend(("field", "0A141E"), ("wood", "0B141E"), more='rule = "threshold"\n'),
        r"LegendError: \S+legend\.toml: legend 'legend': field and wood have the same colour after binarising at 128\. Give each its own\.",
    ),
    "a gap": Case(
        indices,
        legend(*TWO, numbers=(0, 2)),
        r"LegendError: \S+legend\.toml: legend 'legend' has class index 2 where 1 was expected\. "
        r"Number the classes 0 to 1 without a gap or a double\.",
    ),
    "256 classes": Case(
        indices, many_classes, r"LegendError: \S+legend\.toml: legend 'legend' has 256 classes, expected 1 to 255\."
    ),
    "no TOML": Case(
        indices,
        content("data/legend.toml", "name = "),
        r"LegendError: \S+legend\.toml: is not TOML \(.+\)\. See docs/legends\.md for the form\.",
    ),
    "an unknown key": Case(
        indices,
        legend(*TWO, more='colour = "000000"\n'),
        r"LegendError: \S+legend\.toml: the legend has the unknown key 'colour', expected class, ignored, name, nodata, rule\.",
    ),
    "a colour for no data": Case(
        indices,
        legend(*TWO, more='nodata = "000000"\n'),
        r"LegendError: \S+legend\.toml: nodata is '000000', expected a whole number or a list of them, such as \[11, 12\]\.",
    ),
    "a legend that is not there": Case(
        indices,
        None,
        r"LegendError: gone\.toml: cannot be read \(No such file or directory\)\. Give a legend file with --legend, or .+",
        PREPARE + " --legend gone.toml",
    ),
}

LISTED = PREPARE + " --split lists --lists lists"
SPLITS = {
    "a list of unknown scenes": Case(
        kaggle,
        both(
            lists("0 1", "2 77 88", "3"),
        ),
        r"SplitError: lists/val\.txt: names '77' and 1 more, not among the scenes of the data\. Correct the list or --data\.",
        LISTED,
    ),
    "a scene in two splits": Case(
        kaggle,
        lists("0 1", "2", "3 0"),
        r"SplitError: split 'lists': scene '0' is in train and in test, expected in one set\. Remove it from one\.",
        LISTED,
    ),
    "a scene twice in a list": Case(
        kaggle,
        lists("0 1 0", "2", "3"),
        r"SplitError: lists/train\.txt: '0' is listed twice, expected once\. Remove one line\.",
        LISTED,
    ),
    "an empty split": Case(
        kaggle,
        lists("0 1", "", "3"),
        r"SplitError: split 'lists': no scene in val, expected at least one\. Add scenes to it\.",
        LISTED,
    ),
    "a list that is not there": Case(
        kaggle,
        both(lists("0 1", "2", "3"), remove("lists/val.txt")),
        r"SplitError: lists: no val\.txt or crossvali\.txt or valid\.txt there, expected one file name a line\. Check --lists\.",
        LISTED,
    ),
    "a list that is no text": Case(
        kaggle,
        both(lists("0 1", "2", "3"), content("lists/test.txt", b"\xff\xfe3\0")),
        r"SplitError: lists/test\.txt: unreadable split list \(.+\)\. Expected UTF-8, one file name a line\.",
        LISTED,
    ),
    "--split lists without lists": Case(
        kaggle,
        None,
        r"ConfigError: --lists: no folder given, expected one with train\.txt, val\.txt and test\.txt\. Pass it\.",
        PREPARE + " --split lists",
    ),
    "lists for another split": Case(
        kaggle,
        None,
        r"ConfigError: --lists: given for --split random\. Drop one\.",
        PREPARE + " --split random --lists lists",
    ),
    "--split folders without folders": Case(
        kaggle,
        None,
        r"SplitError: split 'folders': no labelled scene below train/ or val/ or test/, expected train/, val/ and test/ in the data "
        r"folder\. Choose another --split\.",
        PREPARE + " --split folders",
    ),
    "a scene in two groups": Case(
        kaggle,
        content("data/groups.csv", "id,group\n0,a\n0,b\n"),
        r"DataError: \S+groups\.csv: scene '0' is in two groups, expected one\. Remove a line\.",
    ),
}


def relabelled(name: str, **options: object) -> Spoil:
    """Another form of the image of scene 1; its mask stays."""
    return both(remove("data/1_sat.jpg"), picture(f"data/{name}", noise(20, 30, seed=9), **options))  # type: ignore[arg-type]


def upright(root: Path) -> None:
    """An image turned by EXIF with a mask that lies as the image is looked at."""
    turned("data/1_sat.jpg")(root)
    save(root / "data/1_mask.png", encode_colours(random_labels(30, 20), DEEPGLOBE))


def with_alpha(root: Path) -> None:
    """An image with an alpha band, transparent in its upper half."""
    pixels = np.asarray(noise(20, 30, 4, seed=9), np.uint8)
    pixels[..., 3] = 255
    pixels[:10, :, 3] = 0
    (root / "data/1_sat.jpg").unlink()
    save(root / "data/1_sat.png", pixels)


def in_palette(root: Path) -> None:
    """A mask as a palette PNG."""
    save_palette(root / "data/1_mask.png", random_labels(20, 30, seed=1), DEEPGLOBE.colours.ravel().tolist())


ODD: dict[str, tuple[Spoil, str, str]] = {
    "EXIF-rotated JPEG": (upright, "1", "1 of 6 images turned upright by their EXIF orientation (1)."),
    "image with alpha": (
        with_alpha,
        "1",
        "1 of 6 images with an alpha band: it is dropped, and pixels of alpha 0 become no data (1).",
    ),
    "mask with a palette": (in_palette, "1", ""),
    "PNG beside JPEG": (relabelled("1_sat.png"), "1", ""),
    "suffix in capitals": (relabelled("1_SAT.JPEG", format="JPEG"), "1", ""),
    "spaces, Cyrillic and brackets in a name": (
        lambda root: kaggle_pair(root / "data", "сцена [7] 'ё' 100%"),
        "сцена [7] 'ё' 100%",
        "",
    ),
    "a scene smaller than the others": (lambda root: kaggle_pair(root / "data", "1", size=(4, 4)), "1", ""),
    "a link that stays inside": (
        both(
            lambda root: (root / "data/1_sat.jpg").rename(root / "data/one.jpeg"),
            link("data/1_sat.jpg", "data/one.jpeg"),
        ),
        "1",
        "",
    ),
}
"""Odd, and sound: accepted, with a note where pixels are changed."""
