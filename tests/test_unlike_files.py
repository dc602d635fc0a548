"""Findings of `prepare` on what files say of bands, scales and ground sample distances, and what of it is kept."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from builders.scene_files import noise

from levelground.commands.adopt import AdoptConfig, adopt
from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.errors import LevelgroundError
from levelground.imagery.geotiff import NO_BAND_INFO, BandInfo
from levelground.imagery.grids import ground_distance_m
from levelground.imagery.image_headers import read_header
from levelground.models.spec import dataset_spec, parse_spec
from levelground.tile_geometry import TileGeometry

NAMES = ("red", "green", "blue")


def prepare(
    folder: Path, *, names: dict[int, tuple[str, ...]], offsets: dict[int, float], gsd: dict[int, float]
) -> Dataset:
    """Prepare six scenes of which some say something else than the others."""
    for number in range(6):
        side = gsd.get(number, 10.0)
        place = Affine(side, 0, 400_000 + 40_000 * number, 0, -side, 6_200_000)
        labels = np.repeat(np.uint8([0, 1]), 300).reshape(20, 30, 1)
        for sub, pixels in (("images", noise(20, 30, seed=number)), ("labels", labels)):
            path = folder / f"data/{sub}/{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"height": 20, "width": 30, "count": pixels.shape[2], "dtype": "uint8"}
            with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32637", transform=place, **size) as raster:
                raster.write(pixels.transpose(2, 0, 1))
                if sub == "images":
                    for band, name in enumerate(names.get(number, NAMES), start=1):
                        raster.set_band_description(band, name)
                    raster.scales, raster.offsets = (1e-4,) * 3, (offsets.get(number, 0.0),) * 3
    return prepare_dataset(PrepareOptions(folder / "study", folder / "data", cache=folder / "cache", groups="none"))


def test_what_files_say_of_their_bands_is_kept(tmp_path: Path) -> None:
    """On dataset.json, in the specification of models that learn from it and in what they take along."""
    dataset = prepare(tmp_path, names={}, offsets={}, gsd={})
    said = BandInfo(NAMES, (1e-4,) * 3)
    assert dataset.band_info == said
    assert read_dataset(tmp_path / "study").band_info == said
    assert not {one.code for one in dataset.findings} & {"unlike-band-names", "unlike-scales", "unlike-gsd"}
    spec = dataset_spec(dataset, "unet", "resnet18", range(2), name="x", geometry=TileGeometry(64, 8))
    assert parse_spec(spec.to_json(), source="x").band_info == said
    assert NO_BAND_INFO.of([2, 1]) == NO_BAND_INFO
    assert said.of([3, 1]).names == ("blue", "red")


@pytest.mark.parametrize(
    ("code", "text", "case"),
    [
        ("unlike-band-names", "4 nir red green, most red green blue", {"names": {4: ("nir", "red", "green")}}),
        ("unlike-scales", "other offsets than the rest in 1 of 6 images: 2 -0.1 -0.1 -0.1", {"offsets": {2: -0.1}}),
        ("unlike-gsd", "from 0.5 m a pixel (5) to 10 m", {"gsd": {5: 0.5}}),
    ],
)
def test_files_that_say_something_else_are_named(
    tmp_path: Path, code: str, text: str, case: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """One finding for each kind, with the first scene that differs; said again where a model is adopted."""
    plain: dict[str, object] = {"names": {}, "offsets": {}, "gsd": {}}
    dataset = prepare(tmp_path, **(plain | case))  # type: ignore[arg-type]
    (finding,) = [one for one in dataset.findings if one.code == code]
    assert text in finding.text
    assert finding.severity == "warning"
    capsys.readouterr()
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"none")
    with pytest.raises(LevelgroundError, match=r"weights\.pth"):
        adopt(AdoptConfig(weights, tmp_path / "study"))
    assert f"Warning: {finding.text}" in capsys.readouterr().err


def test_ground_distances_are_those_on_the_ground(tmp_path: Path) -> None:
    """Degrees and Web Mercator are measured where they lie, metres nearly as they are."""
    for crs, place, expected in [
        ("EPSG:4326", Affine(1e-4, 0, 30, 0, -1e-4, 60), 11.12 * 0.5**0.5),
        ("EPSG:3857", Affine(10, 0, 3_339_584, 0, -10, 8_399_737), 5.0),
        ("EPSG:32637", Affine(10, 0, 500_000, 0, -10, 6_200_000), 10.0),
    ]:
        path = tmp_path / "a.tif"
        with rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=place, height=4, width=4, count=1, dtype="uint8"
        ) as raster:
            raster.write(np.ones((1, 4, 4), np.uint8))
        found = ground_distance_m(read_header(path))
        assert found == pytest.approx(expected, rel=0.01), crs
