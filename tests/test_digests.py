"""Hashes and cache keys are those that 0.1.0 wrote: studies stay comparable, decoded scenes are found again."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import stored_png

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset, read_dataset, write_dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.imagery.cache import Cache
from levelground.imagery.legend import DEEPGLOBE, default_legend
from levelground.imagery.scene_pixels import SceneFile

STUDY = Path(__file__).parent / "data" / "study-0.1.0"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six scenes of fixed bytes, prepared into a cache of their own."""
    folder = tmp_path_factory.mktemp("digests")
    (folder / "data").mkdir()
    rows, cols = np.mgrid[:40, :48]
    for number in range(6):
        bands = rows * 5 + cols * (number + 1), rows * cols + 31 * number, cols * 4 + 7 * number
        (folder / f"data/{number}_sat.png").write_bytes(stored_png((np.stack(bands, axis=-1) % 256).astype(np.uint8)))
        (folder / f"data/{number}_mask.png").write_bytes(
            stored_png(DEEPGLOBE.colours[(rows // 10 + cols // 12 + number) % 6])
        )
    options = {"out": folder / "study", "data": folder / "data", "cache": folder / "cache"}
    return prepare_dataset(PrepareOptions(**options, split="random"))


def test_a_prepared_data_set_has_the_hashes_of_0_1_0(prepared: Dataset) -> None:
    """What runs are identified and compared by."""
    assert (prepared.train_sha256, prepared.test_sha256, prepared.split_sha256, prepared.legend.digest()) == (
        "871ba1d238a3e596f9406978cb406f505c79ffe7f2d24e05473bea5594502aca",
        "de4577f4b2d5862a8fff89e4d133cac64f8f73028e0135904fd1ba0023f93884",
        "08bed114e71bc1f13b54154bfbba381375c03a328a2a40b7ffc08e23378b12f3",
        "ee882669e62806e55df45468163271e15800b87e76a14881f9def530a6fa3db7",
    )
    assert default_legend(4).digest() == "37bc69481896a4bb0b96ea679768b0a30c5ed1c3dfb1384be2c6490da7474548"


def test_a_scene_has_the_hashes_and_cache_keys_of_0_1_0(prepared: Dataset) -> None:
    """Image and labels, by content."""
    scene = prepared.scene("0")
    assert (scene.image_sha256, scene.labels_sha256, scene.image_key, scene.labels_key) == (
        "d0ff50c70b5097a0b40ca6fb11b8374219b11bd359b91c923ff4bf301e49ce28",
        "ed917fead77b81a4b60c03b99330b4f8269fd10d94b997ce4a1ab71da55a83a0",
        "9b58ce804a5995d2db3deeb96305173731ac5cb12e7c813657438f7d93d73d82",
        "f2690734ca95030d544eccc4ff67ec29c8e67f087e6f4ef475a09366afc827c6",
    )


def test_a_window_and_snapping_have_the_cache_keys_of_0_1_0(prepared: Dataset, tmp_path: Path) -> None:
    """A block of a raster, with colours snapped to the legend."""
    image, mask = prepared.data / "0_sat.png", prepared.data / "0_mask.png"
    entry = Cache(tmp_path).store(SceneFile("0", image, mask, (0, 0, 40, 48), "g"), DEEPGLOBE, 3)
    assert (entry.image_sha256, entry.labels_sha256, entry.image_key, entry.labels_key) == (
        "da8e0bbb46f2f806f35a65bbf84dcd5d67e6fbe14d84677debbbe0c88b4b6786",
        "ed917fead77b81a4b60c03b99330b4f8269fd10d94b997ce4a1ab71da55a83a0",
        "7340c7b0979a12b71b28ca6a72d9f7b4cf2469e9f27f12e408ce4f6980d27df5",
        "96ad57f60f033e6fef7f81cc396a5068a4cdeb4de2f58ffbfa223db229d2a1c7",
    )


def test_the_cache_has_the_files_of_0_1_0(prepared: Dataset) -> None:
    """Images and labels with their figures are found again; what near-duplicates are told by is made anew."""
    files = [path for path in prepared.cache.rglob("*") if path.is_file() and path.suffix != ".npz"]
    stamp = [path for path in files if "lines" in path.read_text("utf-8", "replace") and path.suffix == ".json"]
    assert len(stamp) == 1  # of this call, by its folders
    names = sorted({path.name for path in files} - {path.name for path in stamp})
    assert len(names) == 18
    assert (
        hashlib.sha256("\n".join(names).encode()).hexdigest()
        == "9962293143a505b803785112fc2b8d1d880cb170196d28fd6bb256e0533aabff"
    )


def _read(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_a_record_of_0_1_0_is_read_and_written_to_the_byte(tmp_path: Path) -> None:
    """Its hashes are the same, and so is all that it held."""
    dataset = read_dataset(STUDY)
    assert (dataset.train_sha256, dataset.test_sha256, dataset.split_sha256) == (
        "388e58a7bba2100c7ff35c0607ebee374283eebd04d4f9ad04b5eac87e027e34",
        "0ba9826d30adf4e8524b056c74d3a436070457a514d69f9c944d4fed5e7418e8",
        "5451ee6c2fc95a00c7821ddaff81f64c66de662b7218a349ecd1b5e1c3580ac3",
    )
    written, before = _read(write_dataset(dataset, tmp_path)), _read(STUDY / "dataset.json")
    assert written.keys() - before.keys() == {"band_info", "sha256"}  # 0.1.0 wrote no band names and no checksum
    assert json.dumps({key: written[key] for key in before}) == json.dumps(before)
