"""Pictures inside the page: sizes, colours, budget, and what is not at hand."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders.fake_study import FakeStudy, build_fake_study
from numpy.typing import NDArray
from PIL import Image

from levelground.imagery.legend import DEEPGLOBE, IGNORE, default_legend
from levelground.imagery.thumbnails import display_rgb, error_map, labels_uri, palette_uri, reduce_labels, reduced_scene
from levelground.reporting.gallery import SIDES, make_gallery, read_preds


def _decoded(uri: str) -> NDArray[np.uint8]:
    """The pixels of a data URI, ``(H, W, 4)``."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """One run and two scenes."""
    return build_fake_study(
        tmp_path_factory.mktemp("s"), archs={"unet": 0.2}, seeds=1, scenes=["a", "tile 1/b"], size=48
    )


def test_label_maps_have_the_legends_colours_and_clear_holes() -> None:
    """Every pixel has exactly its class's colour; no data is transparent."""
    labels = np.array([[0, 1, 2], [5, 6, IGNORE]], np.uint8)
    pixels = _decoded(labels_uri(labels, DEEPGLOBE))
    assert pixels[0, 1].tolist() == [255, 255, 0, 255]
    assert pixels[1, 0].tolist() == [255, 255, 255, 255]
    assert pixels[1, 1].tolist() == [0, 0, 0, 255]
    assert pixels[1, 2, 3] == 0


@pytest.mark.parametrize("n_classes", [1, 2, 3, 15, 16, 17, 254, 255])
def test_palettes_of_any_size_come_back(n_classes: int) -> None:
    """Legends of 1 to 255 classes survive the packing into 1, 2, 4 or 8 bits, holes too."""
    legend = default_legend(n_classes)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16) % n_classes
    labels[0, 0] = IGNORE
    pixels = _decoded(labels_uri(labels, legend))
    known = labels != IGNORE
    assert (pixels[known][:, :3] == legend.colours[labels[known]]).all()
    assert pixels[0, 0, 3] == 0


def test_error_map_knows_right_wrong_and_not_scored() -> None:
    """No data and true pixels of an uncounted class are not scored, whatever was predicted there."""
    truth = np.array([[0, 1, 6, IGNORE]], np.uint8)
    preds = np.array([[0, 2, 6, 1]], np.uint8)
    assert error_map(preds, truth, DEEPGLOBE.counted.tolist()).tolist() == [[0, 1, 2, 2]]


def test_labels_are_reduced_by_nearest_neighbour() -> None:
    """A smaller map holds no class that the larger one has not: nothing is blended."""
    labels = np.random.default_rng(0).choice(np.array([0, 5], np.uint8), (97, 61))
    assert set(np.unique(reduce_labels(labels, (32, 20)))) <= {0, 5}
    picture, small = reduced_scene(np.zeros((97, 61, 3), np.uint8), labels, 32)
    assert picture.shape[:2] == small.shape == (32, 20)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (2, "uint16"), (3, "int16"), (4, "uint8"), (8, "float32")])
def test_any_bands_and_types_give_a_picture(bands: int, dtype: str) -> None:
    """One to many bands of any stored type become an RGB picture; NaN and flat images too."""
    pixels = np.random.default_rng(0).integers(0, 200, (9, 7, bands)).astype(dtype)
    assert display_rgb(pixels).shape == (9, 7, 3)
    flat = np.full((4, 4, bands), np.nan if dtype == "float32" else 7).astype(dtype)
    assert display_rgb(flat).dtype == np.uint8


def test_gallery_shows_every_layer_in_one_size(study: FakeStudy) -> None:
    """Image, truth and predictions of a scene have one size; ids that are paths find their predictions."""
    gallery = make_gallery(list(study.scenes), [study.folder / "runs" / "unet-resnet18-s0"], DEEPGLOBE, study)
    assert [scene.id for scene in gallery.scenes] == ["a", "tile 1/b"]
    assert (gallery.side, gallery.missing) == (SIDES[0], ())
    for scene in gallery.scenes:
        shapes = {_decoded(uri).shape for uri in (scene.image, scene.truth, scene.preds[0])}
        assert shapes == {(scene.height, scene.width, 4)} == {(48, 64, 4)}


def test_pictures_shrink_to_the_budget(study: FakeStudy) -> None:
    """A small budget makes small pictures; the smallest are made where nothing fits."""
    folders = [study.folder / "runs" / "unet-resnet18-s0"]
    whole = make_gallery(["a"], folders, DEEPGLOBE, _Large(), budget_bytes=10**9)
    small = make_gallery(["a"], folders, DEEPGLOBE, _Large(), budget_bytes=30_000)
    least = make_gallery(["a"], folders, DEEPGLOBE, _Large(), budget_bytes=1)
    assert (whole.side, least.side) == (SIDES[0], SIDES[-1])
    assert least.side < small.side < whole.side
    assert sum(scene.n_bytes for scene in small.scenes) <= 30_000


@dataclass(frozen=True)
class _Large:
    """A noisy scene of 700 × 900."""

    pixels: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None

    def open(self, _: str) -> "_Large":
        rng = np.random.default_rng(0)
        return _Large(rng.integers(0, 255, (700, 900, 3), np.uint8), rng.integers(0, 7, (700, 900), np.uint8))


def test_predictions_that_do_not_fit_are_left_out(study: FakeStudy, tmp_path: Path) -> None:
    """No prediction: another size, no PNG, a colour picture, an id that leads out of the folder."""
    for name, picture in {
        "size": Image.new("P", (5, 5)),
        "rgb": Image.new("RGB", (4, 4)),
        "good": Image.new("P", (4, 4), 3),
    }.items():
        picture.save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    inside = tmp_path / "inside"
    inside.mkdir()
    assert [read_preds(tmp_path, name, (4, 4)) is not None for name in ("size", "rgb", "broken", "none", "good")] == [
        False, False, False, False, True,
    ]  # fmt: skip
    assert read_preds(inside, "../good", (4, 4)) is None
    assert read_preds(inside, "a\0b", (4, 4)) is None


def test_damaged_predictions_are_left_out(tmp_path: Path) -> None:
    """Whatever byte of a PNG is another one, its prediction is read or left out."""
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()
    read = []
    for place in range(len(content)):
        for value in (0, 0x7F, 0xA9, 0xFF):
            (tmp_path / "one.png").write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            read.append(read_preds(tmp_path, "one", (16, 16)) is not None)
    assert any(read)
    assert not all(read)


def test_scene_without_labels_or_image_is_missing(study: FakeStudy, capsys: pytest.CaptureFixture[str]) -> None:
    """A scene that cannot be opened is named, on the page and by the command; the others are shown."""
    gallery = make_gallery(["a", "gone"], [], DEEPGLOBE, study)
    assert ([scene.id for scene in gallery.scenes], gallery.missing) == (["a"], ("gone",))
    assert "Without pictures, because image, labels or cache are missing or damaged: gone." in capsys.readouterr().err


def test_values_outside_the_palette_are_clear() -> None:
    """A prediction with an index that no class has is transparent instead of borrowing a colour."""
    assert _decoded(palette_uri(np.array([[0, 9]], np.uint8), [(1, 2, 3)]))[0].tolist() == [
        [1, 2, 3, 255],
        [0, 0, 0, 0],
    ]
