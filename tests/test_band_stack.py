"""Bands in files of their own, virtual rasters and JPEG 2000: the same pixels, labels and hashes in every form."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from builders.field_sets import N_SCENES, UTM, classes_of, image_of, pixels, place, prepare, write
from builders.prediction import RUNTIME, toy_model
from builders.scene_files import save
from rasterio.features import shapes

from levelground.config import PredictOptions
from levelground.errors import ConfigError, DataError
from levelground.imagery.band_stack import source_files
from levelground.imagery.cache import Cache
from levelground.prediction.inputs import find_inputs
from levelground.prediction.plan import plan_predictions

BANDS = ("B02", "B03", "B04")


def write_bands(
    data: Path, name: str, *, dtype: str = "uint8", labels: str = "labels/T33_{}.tif", **tags: object
) -> list[int]:
    """Write each band of the scenes as a file of its own; give the pixels of each class and 0 for those without."""
    truth = np.zeros(5, np.int64)
    for number in range(N_SCENES):
        image = image_of(classes_of(number), number, dtype=dtype)
        for n, band in enumerate(BANDS):
            write(data / name.format(number=number, band=band), image[..., n], number)
        write(data / labels.format(number), classes_of(number), number)
        truth[:4] += np.bincount(classes_of(number).ravel(), minlength=4)
    return truth.tolist()


@pytest.mark.parametrize(
    "name",
    [
        "S2A_{number}.SAFE/GRANULE/L2A/IMG_DATA/R10m/T33_{number}_{band}_10m.tif",
        "scenes/T33_{number}_{band}.tif",
        "T33_{number}/{band}.tif",
        "LC08_T33_{number}_SR_{band}.TIF",
    ],
)
def test_bands_by_name_are_one_image(tmp_path: Path, name: str) -> None:
    """In the order asked for, whatever the folders; the grid and the record are those of the files."""
    data = tmp_path / "data"
    truth = write_bands(data, name)
    labels = None if "LC08" not in name else "labels/T33_{id}.tif"
    if labels:  # masks named after a part of the scene's name
        for path in (data / "labels").iterdir():
            path.rename(path.with_name(f"LC08_{path.name}"))
    bands = "B04 B02" if not labels else "SR_B04 SR_B02"
    dataset = prepare(data, bands=(bands,))
    assert (len(dataset.scenes), dataset.bands, pixels(dataset)) == (N_SCENES, 2, truth)
    for scene in dataset.scenes:
        number = int(Path(scene.labels).stem[-1])
        assert np.array_equal(dataset.open(scene.id).pixels, image_of(classes_of(number), number)[..., [2, 0]])
        assert (data / scene.image).is_file()
    assert prepare(data, bands=(bands,)) == dataset


def as_png(data: Path, number: int) -> None:
    """Plain PNG pairs, without a place."""
    save(data / f"images/T33_{number}.png", image_of(classes_of(number), number))
    save(data / f"labels/T33_{number}.png", classes_of(number))


def as_masked_tif(data: Path, number: int) -> None:
    """GeoTIFFs with a mask of their own."""
    path = write(data / f"images/T33_{number}.tif", image_of(classes_of(number), number), number)
    write(data / f"labels/T33_{number}.tif", classes_of(number), number)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.full((48, 48), 255, np.uint8))


def as_band_files(data: Path, number: int) -> None:
    """A file for each band."""
    for n, band in enumerate(BANDS):
        write(data / f"images/T33_{number}_{band}.tif", image_of(classes_of(number), number)[..., n], number)
    write(data / f"labels/T33_{number}.tif", classes_of(number), number)


def as_jp2(data: Path, number: int) -> None:
    """Lossless JPEG 2000."""
    image = image_of(classes_of(number), number)
    (data / "images").mkdir(parents=True, exist_ok=True)
    form = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCC": "NO"}
    size = {"height": 48, "width": 48, "count": 3, "dtype": "uint8", "crs": UTM, "transform": Affine(*place(number))}
    with rasterio.open(data / f"images/T33_{number}.jp2", "w", **form, **size) as raster:
        raster.write(image.transpose(2, 0, 1))
    write(data / f"labels/T33_{number}.tif", classes_of(number), number)


def as_vrt(data: Path, number: int) -> None:
    """A virtual raster of band files."""
    for n, band in enumerate(BANDS):
        write(data / f"raw/T33_{number}_{band}.tif", image_of(classes_of(number), number)[..., n], number)
    write(data / f"labels/T33_{number}.tif", classes_of(number), number)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename relativeToVRT="1">'
        f"../raw/T33_{number}_{band}.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, band in enumerate(BANDS, start=1)
    )
    a, b, c, d, e, f = place(number)
    head = f"<SRS>{UTM}</SRS><GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>"
    (data / "images").mkdir(exist_ok=True)
    text = f'<VRTDataset rasterXSize="48" rasterYSize="48">{head}{bands}</VRTDataset>'
    (data / f"images/T33_{number}.vrt").write_text(text)


def as_vectors(data: Path, number: int) -> None:
    """Polygons as labels."""
    write(data / f"images/T33_{number}.tif", image_of(classes_of(number), number), number)
    features = [
        {"type": "Feature", "properties": {"value": int(value)}, "geometry": shape}
        for shape, value in shapes(classes_of(number), transform=Affine(*place(number)))
    ]
    (data / "labels").mkdir(exist_ok=True)
    crs = {"type": "name", "properties": {"name": UTM}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    (data / f"labels/T33_{number}.geojson").write_text(text)


@pytest.mark.parametrize("form", [as_masked_tif, as_band_files, as_jp2, as_vrt, as_vectors])
def test_the_same_scenes_in_another_form_are_the_same(tmp_path: Path, form: object) -> None:
    """Cached bytes, labels and their hash, legend and counts are those of plain PNG pairs."""
    for number in range(N_SCENES):
        as_png(tmp_path / "plain/data", number)
        form(tmp_path / "other/data", number)  # type: ignore[operator]
    plain = prepare(tmp_path / "plain/data")
    options: dict[str, object] = {"bands": BANDS} if form is as_band_files else {}
    other = prepare(tmp_path / "other/data", **options)
    assert (other.legend, pixels(other)) == (plain.legend, pixels(plain))
    for scene in plain.scenes:
        alike = next(one for one in other.scenes if one.id.endswith(scene.id))
        assert alike.labels_sha256 == scene.labels_sha256
        mine, theirs = plain.open(scene.id), other.open(alike.id)
        assert mine.pixels.tobytes() == theirs.pixels.tobytes()
        assert np.asarray(mine.labels).tobytes() == np.asarray(theirs.labels).tobytes()
        files = [Cache(one.cache).path(key) for one, key in ((plain, scene.image_key), (other, alike.image_key))]
        assert files[0].read_bytes() == files[1].read_bytes()  # with the checksum behind the values


def test_bands_that_only_a_number_tells_are_bands(tmp_path: Path) -> None:
    """One scene beside one raster of labels: the refusal names the flags, and they work."""
    image, labels = image_of(classes_of(0), 0), classes_of(0)
    for n, band in enumerate((10, 20, 30)):
        write(tmp_path / f"data/lsat7_2000_{band}.tif", image[..., n], 0)
    write(tmp_path / "data/lsat_labelled_pixels.tif", labels, 0)
    flags = "--bands \"10 20 30\" --labels 'lsat_labelled_pixels.tif'"
    with pytest.raises(DataError, match=flags):
        prepare(tmp_path / "data")
    dataset = prepare(tmp_path / "data", bands=("10", "20", "30"), labels="lsat_labelled_pixels.tif", block=8)
    assert pixels(dataset) == [*np.bincount(labels.ravel(), minlength=4), 0]


def test_coarser_bands_are_interpolated_onto_the_finer_grid(tmp_path: Path) -> None:
    """20 m beside 10 m: the finer grid wins; a plane stays a plane, as bilinear interpolation has it."""
    data = tmp_path / "data"
    for number in range(N_SCENES):
        row, col = np.mgrid[0:48, 0:48]
        write(
            data / f"S2_{number}.SAFE/R10m/T_{number}_B02_10m.tif", (100 + 4 * row + 2 * col).astype(np.uint16), number
        )
        row, col = np.mgrid[0:24, 0:24] * 2 + 0.5  # centres, in fine pixels
        coarse = (100 + 4 * row + 2 * col).astype(np.uint16)
        write(data / f"S2_{number}.SAFE/R20m/T_{number}_B11_20m.tif", coarse, number, pixel=20)
        write(data / f"S2_{number}.SAFE/R20m/T_{number}_B02_20m.tif", coarse, number, pixel=20)
        write(data / f"labels/T_{number}.tif", classes_of(number), number)
    dataset = prepare(data, bands=("B02", "B11"))
    for scene in dataset.scenes:
        fine, coarse = np.asarray(dataset.open(scene.id).pixels, np.float64).transpose(2, 0, 1)
        assert np.abs(fine - coarse)[2:-2, 2:-2].max() <= 1
        assert scene.image.endswith("_B02_10m.tif")


@pytest.mark.parametrize("said_by", ["tags", "metadata"])
def test_offsets_are_applied(tmp_path: Path, said_by: str) -> None:
    """Scenes of two processing baselines hold the same numbers for the same ground; 0 stays no data."""
    data = tmp_path / "data"
    for number in range(N_SCENES):
        shifted = 1000 if number % 2 else 0
        image = image_of(classes_of(number), number, dtype="uint16") + np.uint16(shifted)
        image[0, 0] = 0
        folder = data / f"S2_{number}.SAFE"
        for n, band in enumerate(BANDS):
            path = write(folder / f"IMG_DATA/T_{number}_{band}.tif", image[..., n], number, nodata=0)
            if said_by == "tags":
                with rasterio.open(path, "r+") as raster:
                    raster.scales, raster.offsets = (1e-4,), (-shifted / 1e4,)
        if said_by == "metadata" and shifted:
            lines = "".join(f'<BOA_ADD_OFFSET band_id="{n}">-1000</BOA_ADD_OFFSET>' for n in range(13))
            (folder / "MTD_MSIL2A.xml").write_text(f"<x>{lines}</x>")
        write(data / f"labels/T_{number}.tif", classes_of(number), number)
    dataset = prepare(data, bands=BANDS)
    assert pixels(dataset)[-1] == N_SCENES
    for scene in dataset.scenes:
        number = int(scene.id[-1])
        expected = image_of(classes_of(number), number, dtype="uint16")
        expected[0, 0] = 0
        assert np.array_equal(dataset.open(scene.id).pixels, expected)


def test_a_changed_source_of_a_virtual_raster_is_read_anew(tmp_path: Path) -> None:
    """Its own text did not change."""
    for number in range(N_SCENES):
        as_vrt(tmp_path / "data", number)
    before = prepare(tmp_path / "data")
    write(tmp_path / "data/raw/T33_0_B02.tif", np.full((48, 48), 7, np.uint8), 0)
    after = prepare(tmp_path / "data")
    changed = [a.id for a, b in zip(before.scenes, after.scenes, strict=True) if a.image_sha256 != b.image_sha256]
    assert [Path(scene).name for scene in changed] == ["T33_0"]
    assert np.all(np.asarray(after.open(changed[0]).pixels)[..., 0] == 7)


def test_stacks_of_a_prediction_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the maps holds maps alone; a band that changed is another job, a stack written anew is not."""
    monkeypatch.setenv("LEVELGROUND_CACHE", str(tmp_path / "cache"))
    as_band_files(tmp_path / "data", 0)
    options = PredictOptions(stack=BANDS)

    def planned() -> str:
        inputs = find_inputs([str(tmp_path / "data/images")], tmp_path / "out", options)
        (plan,) = plan_predictions(toy_model(gsd_m=10.0), inputs, options, RUNTIME)
        return plan.identity

    first = planned()
    assert not (tmp_path / "out").exists()
    (stack,) = (tmp_path / "cache/stacks").iterdir()
    stack.unlink()
    assert planned() == first
    image = image_of(classes_of(0), 0)[..., 0]
    write(tmp_path / "data/images/T33_0_B02.tif", image[::-1], 0)
    assert planned() != first


@pytest.mark.parametrize("source", ["/vsicurl/http://example.org/a.tif", "gone.tif"])
def test_sources_elsewhere_are_refused(tmp_path: Path, source: str) -> None:
    """A virtual raster fetches nothing from a network, and a missing source is named."""
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset><SourceFilename relativeToVRT="1">{source}</SourceFilename></VRTDataset>')
    with pytest.raises(DataError, match=r"its source .* is not a file on this machine\. Mend the path"):
        source_files(path)


@pytest.mark.parametrize(
    ("change", "bands", "says"),
    [
        ("", ("B02", "b02"), "a band is named twice"),
        ("", ("B99",), r"--bands B99: no file below .* has such a part of its name \(found labels/T33_0\.tif, "),
        ("lack", BANDS, r"has no file of band B03 \(bands found: B02, B04\)\. Add it, or leave the band out"),
        ("zone", BANDS, r"is in another coordinate system or direction than .* rio warp .* --resampling bilinear"),
        (
            "type",
            BANDS,
            r"has uint16 .*B02\.tif uint8 .*alike, .*: rio convert .*B02\.tif ALIKE\.tif --dtype uint16\.",
        ),
        ("many", BANDS, "has 3 bands of uint8, expected one in a file of B03"),
    ],
)
def test_bands_that_make_no_image_are_named(tmp_path: Path, change: str, bands: tuple[str, ...], says: str) -> None:
    """The first is named, with what to do."""
    data = tmp_path / "data"
    write_bands(data, "scenes/T33_{number}_{band}.tif")
    path = data / "scenes/T33_0_B03.tif"
    if change == "lack":
        path.unlink()
    elif change == "type":
        write(path, np.ones((48, 48), np.uint16), 0)
    elif change == "many":
        write(path, np.ones((48, 48, 3), np.uint8), 0)
    elif change == "zone":
        with rasterio.open(path, "r+") as raster:
            raster.crs = "EPSG:32634"
    with pytest.raises((ConfigError, DataError), match=says):
        prepare(data, bands=bands)
