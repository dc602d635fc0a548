"""Inputs: files, folders and patterns, and what each becomes."""

import re
from pathlib import Path

import pytest

from levelground.config import PredictOptions
from levelground.errors import ConfigError, SceneError
from levelground.prediction.inputs import find_inputs


def touch(*paths: Path) -> None:
    """Make empty files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*inputs: Path | str, out: Path) -> list[tuple[str, str]]:
    """Name and map of each input."""
    files = find_inputs([str(given) for given in inputs], out, PredictOptions())
    return [(file.name, file.outputs.classes.relative_to(out).as_posix()) for file in files]


def test_rasters_become_geotiffs_and_images_pngs(tmp_path: Path) -> None:
    """By suffix, in any case; a named file may have another one and is a raster."""
    names = ["a.tif", "b.TIFF", "c.png", "d.JPG", "e.jpeg", "f.xyz"]
    touch(*(tmp_path / name for name in names))
    assert found(*(tmp_path / name for name in names), out=tmp_path / "out") == [
        ("a.tif", "a.tif"),
        ("b.TIFF", "b.tif"),
        ("c.png", "c_mask.png"),
        ("d.JPG", "d_mask.png"),
        ("e.jpeg", "e_mask.png"),
        ("f.xyz", "f.tif"),
    ]


def test_a_folder_is_taken_with_all_below_it_but_no_masks(tmp_path: Path) -> None:
    """Sorted; hidden files, label masks, other files and the folder of maps stay out."""
    data = tmp_path / "data"
    touch(data / "b.tif", data / "x/a.tif", data / "1_sat.jpg", data / "1_mask.png", data / ".c.tif", data / "n.txt")
    touch(data / "maps/b.tif", data / "b_label.tif")
    assert found(data, out=data / "maps") == [
        ("1_sat.jpg", "1_sat_mask.png"),
        ("b.tif", "b.tif"),
        ("x/a.tif", "x/a.tif"),
    ]


def test_a_pattern_keeps_what_follows_its_fixed_part(tmp_path: Path) -> None:
    """Any depth with **."""
    touch(tmp_path / "d/x/a.tif", tmp_path / "d/y/a.tif", tmp_path / "d/b.tif")
    assert found(tmp_path / "d/*/a.tif", out=tmp_path / "o") == [("x/a.tif", "x/a.tif"), ("y/a.tif", "y/a.tif")]
    assert len(found(tmp_path / "d/**/*.tif", out=tmp_path / "o")) == 3


def test_a_file_with_wildcards_in_its_name_is_a_file(tmp_path: Path) -> None:
    """Brackets are common in names."""
    touch(tmp_path / "a[1].tif")
    assert found(tmp_path / "a[1].tif", out=tmp_path / "o") == [("a[1].tif", "a[1].tif")]


def test_an_input_given_twice_is_mapped_once(tmp_path: Path) -> None:
    """By name and in its folder."""
    touch(tmp_path / "d/a.tif")
    assert found(tmp_path / "d/a.tif", tmp_path / "d", out=tmp_path / "o") == [("a.tif", "a.tif")]


def test_two_inputs_for_one_map_are_refused(tmp_path: Path) -> None:
    """Both are named."""
    touch(tmp_path / "x/a.tif", tmp_path / "y/a.tif")
    text = (
        f"{tmp_path}/x/a.tif and {tmp_path}/y/a.tif: both would become {tmp_path}/o/a.tif. "
        "Give the folder that holds both, or write their maps into two folders."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        found(tmp_path / "x/a.tif", tmp_path / "y/a.tif", out=tmp_path / "o")


def test_an_input_is_not_replaced_by_its_map(tmp_path: Path) -> None:
    """Mapping into the folder of the rasters."""
    touch(tmp_path / "a.tif")
    text = f"{tmp_path}/a.tif: would be replaced by its own map. Choose another --out."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        found(tmp_path / "a.tif", out=tmp_path)


def test_inputs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A missing file, an empty folder, a pattern without files."""
    with pytest.raises(
        SceneError, match=r"no\.tif: no such file or folder\. Give images, rasters, folders or patterns"
    ):
        found(tmp_path / "no.tif", out=tmp_path / "o")
    (tmp_path / "d").mkdir()
    for empty in ("d", "*.tif"):
        text = (
            f"{tmp_path / empty}: holds no image or raster (.img .jp2 .jpeg .jpg .png .tif .tiff .vrt). "
            "Give another folder or pattern."
        )
        with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
            found(tmp_path / empty, out=tmp_path / "o")
