"""Files as the field has them, read by the commands: the right pixels, or a line whose remedy works."""

import json
import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders import field_files as files
from builders.field_files import FieldFiles, Truth, collared, named, plain, systems, with_edge
from builders.field_sets import N_CLASSES, N_SCENES, UTM, classes_of, pixels, place, prepare, write
from builders.prediction import RUNTIME, toy_model
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.rio.main import main_group as rio

from levelground.cli import main
from levelground.config import PredictOptions
from levelground.errors import LevelgroundError
from levelground.prediction.inputs import find_inputs
from levelground.prediction.plan import plan_predictions

TYPES = {
    "uint8": "uint8",
    "int8": "int16",
    "uint16": "uint16",
    "int16": "int16",
    "uint32": "float32",
    "int32": "float32",
    "uint64": "float32",
    "int64": "float32",
    "float32": "float32",
    "float64": "float32",
    "complex_int16": None,
    "complex64": None,
    "complex128": None,
}
"""Every type of GDAL that rasterio writes, and as what pixels of it are read."""

COLLAR = 5  # columns without data


def write_typed(path: Path, number: int, dtype: str) -> NDArray[np.generic]:
    """Write an image of a type, with a tagged collar; return its values."""
    kind = np.dtype("complex64" if dtype == "complex_int16" else dtype)
    low, nodata = (1, 250) if kind.kind == "u" else (-100, -128)
    rng = np.random.default_rng(number)
    values = (rng.integers(low, low + 40, (48, 48, 3)) + 40 * classes_of(number)[..., None]).astype(kind)
    values[:, :COLLAR] = nodata
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"crs": UTM, "transform": Affine(*place(number)), "nodata": None if kind.kind == "c" else nodata}
    with rasterio.open(path, "w", driver="GTiff", height=48, width=48, count=3, dtype=dtype, **profile) as raster:
        raster.write(values.transpose(2, 0, 1))
    return values


@pytest.mark.parametrize(("dtype", "read_as"), TYPES.items())
def test_prepare_and_predict_read_the_same_types(tmp_path: Path, dtype: str, read_as: str | None) -> None:
    """Same values, same type, same pixels without data; a model of one type reads that type; complex ones are named."""
    written = []
    for number in range(N_SCENES):
        written.append(write_typed(tmp_path / f"data/images/s{number}.tif", number, dtype))
        write(tmp_path / f"data/labels/s{number}.tif", classes_of(number), number)
    source = tmp_path / "data/images/s0.tif"
    inputs = find_inputs([str(source)], tmp_path / "out", PredictOptions())
    if read_as is None:
        for read in (
            lambda: prepare(tmp_path / "data"),
            lambda: plan_predictions(toy_model(dtype=None), inputs, PredictOptions(), RUNTIME),
        ):
            with pytest.raises(LevelgroundError, match=f"^{re.escape(str(source))}: holds complex numbers. Write what"):
                read()
        return
    dataset = prepare(tmp_path / "data")
    model = toy_model(dtype=dataset.dtype, gsd_m=10.0)
    (plan,) = plan_predictions(model, inputs, PredictOptions(), RUNTIME)
    with plan.open_pixels() as reader:
        predicted, mask = reader.read(slice(0, 48), slice(0, 48))
    scene = dataset.open("s0")
    assert mask is not None
    assert predicted.dtype == scene.pixels.dtype == np.dtype(read_as)
    assert np.array_equal(scene.pixels[:, COLLAR:], written[0][:, COLLAR:])
    assert np.array_equal(predicted[~mask], written[0][:, COLLAR:].reshape(-1, 3))
    assert mask[:, :COLLAR].all() and not mask[:, COLLAR:].any()
    truth = sum(np.bincount(classes_of(n)[:, COLLAR:].ravel(), minlength=N_CLASSES) for n in range(N_SCENES))
    assert pixels(dataset) == [*truth, N_SCENES * 48 * COLLAR]


KINDS = {
    # stored values of labels
    "0 and 255": FieldFiles(files.black_and_white),
    "0 and 255 in PNG": FieldFiles(files.black_and_white_png),
    "one bit": FieldFiles(files.one_bit_png),
    "far values": plain(10, 30, 50, 80),
    "far values, 0 tagged": with_edge(10, 30, 50, 80, edge=0, nodata=0),
    "far values with a palette": FieldFiles(files.far_values_with_palette),
    "codes of 16 bits": plain(111, 211, 311, 512, dtype="uint16"),
    "from 1, 0 tagged": with_edge(1, 2, 3, 4, edge=0, nodata=0),
    "from 1, 0 untagged": with_edge(1, 2, 3, 4, edge=0, answer="remedy", says="if 0 is no data, pass --label-nodata 0"),
    "from 1, no 0": FieldFiles(plain(1, 2, 3, 4).write, "read", "no pixel is 0, --label-nodata 0 leaves that class"),
    "99 untagged": with_edge(0, 1, 2, 3, edge=99, answer="remedy", says="if 99, far from all others, is no data, pass"),
    "65535 untagged": with_edge(
        1, 2, 3, 4, edge=65535, dtype="uint16", answer="remedy", says="far from all others, is no data, pass"
    ),
    "int32, -9999 tagged": with_edge(0, 1, 2, 3, edge=-9999, dtype="int32", nodata=-9999),
    "float32, NaN": with_edge(0, 1, 2, 3, edge=np.nan, dtype="float32"),
    "int16, -1 untagged": with_edge(0, 1, 2, 3, edge=-1, dtype="int16", says="masks hold -1, which neither file nor"),
    "int8, -1 tagged": with_edge(0, 1, 2, 3, edge=-1, dtype="int8", nodata=-1),
    "uint64": plain(0, 1, 2, 3, dtype="uint64"),
    "int64": plain(0, 1, 2, 3, dtype="int64"),
    "smallest float, short tag": FieldFiles(files.float_labels_short_tag),
    "three equal bands": FieldFiles(files.three_equal_bands),
    "three equal bands in PNG": FieldFiles(files.three_equal_bands_png),
    "second band": FieldFiles(files.second_band, "remedy", "mask has 2 bands"),
    "255 of 16 bits": FieldFiles(plain(0, 1, 2, 255, dtype="uint16").write, "remedy", "If 255 is a class"),
    # labels on another grid
    "coarse labels": FieldFiles(files.coarse_labels, "remedy", "it has 16 × 16 pixels, not 48 × 48"),
    "larger labels": FieldFiles(files.larger_labels, "remedy", "Pass --align"),
    "south-up labels": FieldFiles(files.south_up_labels, "remedy", "direction of rows"),
    "double pixels, same corner": FieldFiles(files.labels_of_double_pixels_at_the_origin, "remedy", "pixel size"),
    "half a pixel off": FieldFiles(files.half_a_pixel_off),
    "labels without a place": FieldFiles(files.labels_without_a_place, "read", "6 masks have no place on the ground"),
    "another spelling": FieldFiles(systems("+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs")),
    "an engineering system": FieldFiles(systems(files.ENGINEERING, "EPSG:2154")),
    "another zone": FieldFiles(systems("EPSG:32634"), "refused", "no pixel of it does: it is in EPSG:32634"),
    # polygons
    "polygons by name": FieldFiles(
        lambda data: files.polygons(data, "class", ("bare", "crop", "mire", "town")), "remedy", "Lower --block"
    ),
    "polygons numbered from 1": FieldFiles(
        lambda data: files.polygons(data, "code", (1, 2, 3, 4)), "remedy", "Lower --block"
    ),
    # layouts
    "LoveDA": FieldFiles(files.two_sets_of_pictures, "read", "legend loveda"),
    "FLAIR": FieldFiles(named("aerial/IMG_{:06d}.tif", "labels/MSK_{:06d}.tif", add=1).write, "read", "legend flair"),
    "burn scars": named("training/HLS.T10S{:02d}.v1.4_merged.tif", "training/HLS.T10S{:02d}.v1.4.mask.tif"),
    "floods": named("S2Hand/Ghana_{}_S2Hand.tif", "LabelHand/Ghana_{}_LabelHand.tif"),
    "Chesapeake": named("m_{}_naip-new.tif", "m_{}_lc.tif", bands=4),
    "Potsdam": FieldFiles(files.colours_of_potsdam, "read", "legend isprs-potsdam"),
    "capital letters": named("Images/S{}.TIF", "Labels/S{}.TIF"),
    "several rasters a scene": FieldFiles(files.parts_beside_each_other, "remedy", "--images '*_ms.tif' --labels"),
    "side files": FieldFiles(files.side_files),
    "JPEG 2000": FieldFiles(files.jpeg_2000),
    "bands of Sentinel-2": FieldFiles(files.band_files, "remedy", '--bands "B02 B03 B04 B11"'),
    "virtual rasters": FieldFiles(files.virtual_rasters, "remedy", "--skip-bad leaves them out"),
    # images
    "NaN": collared(np.nan, dtype="float32"),
    "NaN in one band": collared(np.nan, dtype="float32", bands=slice(1, 2)),
    "-9999 untagged": collared(
        -9999, dtype="float32", answer="remedy", says="-9999, far from all other values, is read as data"
    ),
    "-9999 tagged": collared(-9999, dtype="float32", nodata=-9999),
    "-9999 tagged in one band": collared(-9999, dtype="int16", nodata=-9999, bands=slice(1, 2)),
    "smallest float untagged": collared(
        files.FLOAT_MIN,
        dtype="float32",
        answer="remedy",
        says="-3.40282347e+38, far from all other values, is read as data",
    ),
    "smallest float, short tag, images": FieldFiles(files.image_short_tag),
    "65535 tagged": collared(65535, dtype="uint16", nodata=65535),
    "a tag beyond the type": FieldFiles(files.tag_beyond_the_type),
    "zeros untagged": collared(0, dtype="uint8", says="0 in every band is read as no data"),
    "zeros of a swath": FieldFiles(files.slanted_collar, "read", "0 in every band is read as no data"),
    "zeros tagged": collared(0, dtype="uint8", nodata=0),
    "zeros of grey images": FieldFiles(files.grey_with_zeros, "remedy", "pass --no-zero-is-nodata"),
    "a mask inside": FieldFiles(files.under_a_mask),
    "alpha": FieldFiles(files.alpha),
    "two types": FieldFiles(files.some_float, "remedy", "Give all scenes the same bands and type"),
    "two orders of bands": FieldFiles(files.bands_in_two_orders, "told", "other band names than the rest in"),
    "two offsets": FieldFiles(files.two_offsets, "told", "other offsets than the rest in"),
    "cloud layers": FieldFiles(files.cloud_layers, "remedy", "not used: scl/*.tif (6)"),
    "one place at six dates": FieldFiles(files.one_place_at_six_dates, "read", ": 1, with 6 scenes"),
    "two sizes of pixels": FieldFiles(files.two_sizes_of_pixels, "told", "ground sample distances differ"),
    "degrees": FieldFiles(files.degrees),
    "12 bits": FieldFiles(
        lambda data: files.scenes(
            data,
            image=lambda c, n: files.image_of(c, n) * np.uint16(16),
            image_profile=lambda _: {"nbits": 12},
        )
    ),
    "JPEG inside TIFF": FieldFiles(
        lambda data: files.scenes(data, image_profile=lambda _: {"compress": "jpeg", "photometric": "YCBCR"})
    ),
    "LERC": FieldFiles(
        lambda data: files.scenes(
            data, image=files.image_of_type("float32"), image_profile=lambda _: {"compress": "lerc_zstd"}
        )
    ),
}
"""Kinds of files, by what is odd about them."""

FLAG = re.compile(
    r"--(?:label-nodata -?\d+|block \d+|bands \"[^\"]+\"|images '[^']+' --labels '[^']+'|skip-bad|align|layout raster"
    r"|no-zero-is-nodata)"
)
COMMAND = re.compile(r"rio (?:warp|stack|convert|edit-info) .*?(?=, or pass|\.? \(|\. |\.?$)", re.MULTILINE)


@pytest.mark.parametrize(
    ("ending", "how"), [("kml", "ogr2ogr {0}/s0.gpkg {0}/s0.kml"), ("zip", "unzip {0}/s0.zip -d {0}")]
)
def test_polygons_of_other_formats_are_named(tmp_path: Path, ending: str, how: str) -> None:
    """With the command that makes one that is read."""
    plain(0, 1, 2, 3).write(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        path.rename(path.with_suffix(f".{ending}"))
    with pytest.raises(LevelgroundError, match=re.escape(f"labels/*.{ending} (6). Polygons are read from")) as told:
        prepare(tmp_path)
    assert str(told.value).endswith(f"such as {how.format(tmp_path / 'labels')}")


def run(data: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `prepare`; its status, and all that it says: a line, or lines and the findings."""
    study = data.parent / "study"
    shutil.rmtree(study, ignore_errors=True)
    status = main(["prepare", "--data", str(data), "--out", str(study), "--cache", str(data.parent / "cache"), *flags])
    said = capsys.readouterr().err
    if status:
        return status, said.strip().splitlines()[-1]
    record = json.loads((study / "dataset.json").read_text())
    return status, "\n".join([*said.splitlines(), *(finding["text"] for finding in record["findings"])])


def follow_command(said: str, tmp_path: Path) -> bool:
    """Run the command that is printed, for all files where it says so; its output takes the place of its input."""
    found = COMMAND.findall(said)
    if not found:
        return False
    name, *words = shlex.split(found[-1])[1:]  # the last is that of the record, the table before it has short lines
    source = next(word for word in words if Path(word).is_file())
    for path in sorted(Path(source).parent.iterdir()) if "in each file" in said else [Path(source)]:
        target = tmp_path / "made.tif"
        given = [str(path) if word == source else str(target) if word.isupper() or word[:-4].isupper() else word
                 for word in words]  # fmt: skip
        with warnings.catch_warnings(action="ignore"):  # those of rasterio's own use of affine
            done = CliRunner().invoke(rio, [name, *given])
        assert done.exit_code == 0, (found[-1], done.output, done.exception)
        if target.exists():
            target.replace(path)
    return True


def follow(said: str, data: Path) -> list[str]:
    """Return the flags that are printed; a legend is written to where it is looked for."""
    if legend := re.search(r"class = \[.*?\](?=;)", said):
        (data / "legend.toml").write_text(legend[0])
        return []
    if "not used: scl" in said:  # only the user knows what the values mean
        return ["--exclude", "scl/*.tif=3,8,9,10"]
    flags = FLAG.search(said)
    assert flags, said
    return shlex.split(flags[0])


def counted(data: Path) -> Truth:
    """Pixels of the classes that occur, and those without data."""
    record = json.loads((data.parent / "study/dataset.json").read_text())
    pixels = np.sum([scene["class_pixels"] for scene in record["scenes"]], axis=0)
    return [int(n) for n in pixels if n], sum(scene["ignored_pixels"] for scene in record["scenes"])


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_field_give_the_right_pixels(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that were drawn: at once, or after the remedy that is printed was followed to the letter."""
    one, data = KINDS[kind], tmp_path / "data"
    truth = one.write(data)
    status, said = run(data, [], capsys)
    assert one.says in said
    if one.answer == "refused":
        assert status == 2
        return
    if one.answer != "remedy":
        assert counted(data) == truth
        return
    assert status == 2 or counted(data) != truth
    ways = ("flags", "command") if "Pass --align" in said else ("either",)
    for way in ways:
        flags: list[str] = []
        for _ in range(N_SCENES + 1):
            status, said = run(data, flags, capsys)
            if not status and counted(data) == truth:
                break
            if way == "flags" or not follow_command(said, tmp_path):
                flags = follow(said, data)
        assert status == 0, said
        assert counted(data) == truth
