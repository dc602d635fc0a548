"""The cache: decode once, find again by content, notice damage."""

import dataclasses
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from builders.scene_files import TWO, kaggle_pair, noise, random_labels, save, save_raster
from numpy.typing import NDArray

from levelground.errors import DiskError, LabelColourError, RecordError, SceneError
from levelground.imagery import cache as cache_module
from levelground.imagery.cache import Cache, default_cache_folder
from levelground.imagery.legend import DEEPGLOBE, IGNORE, default_legend
from levelground.imagery.scene_pixels import SceneFile, read_pixels
from levelground.records import sha256_array, sha256_file


@pytest.fixture
def scene(tmp_path: Path) -> SceneFile:
    """A pair in DeepGlobe's colours."""
    kaggle_pair(tmp_path / "data", "1")
    return SceneFile("1", tmp_path / "data/1_sat.jpg", tmp_path / "data/1_mask.png")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture(params=["read", "mapped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How arrays are opened: small files are read at once, large ones mapped."""
    monkeypatch.setattr(cache_module, "MAPPED_BYTES", 0 if request.param == "mapped" else 1 << 18)
    return str(request.param)


def _count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    really = cache_module.read_scene

    def spy(scene: SceneFile, *args: object, **options: object) -> object:
        seen.append(scene.id)
        return really(scene, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "read_scene", spy)
    return seen


def test_stored_scene_opens_as_read_only_arrays(cache: Cache, scene: SceneFile, way: str) -> None:
    """What was decoded is what is read or mapped, and the entry tells its figures."""
    entry = cache.store(scene, DEEPGLOBE)
    opened = cache.open(entry.image_key, entry.labels_key)
    labels = random_labels(20, 30)
    assert opened.labels is not None
    assert {isinstance(array, np.memmap) for array in (opened.pixels, opened.labels)} == {way == "mapped"}
    assert not opened.pixels.flags.writeable
    assert not opened.labels.flags.writeable
    assert np.array_equal(opened.pixels, read_pixels(scene))
    assert np.array_equal(opened.labels, labels)
    assert (entry.height, entry.width, entry.bands, entry.dtype) == (20, 30, 3, "uint8")
    assert entry.labels_sha256 == sha256_array(labels)
    assert entry.image_sha256 == sha256_file(scene.image)
    assert entry.class_pixels == tuple(np.bincount(labels.ravel(), minlength=7).tolist())
    assert entry.ignored_pixels == 0
    assert cache.path(entry.image_key).parent.name == entry.image_key[:2]


def test_second_call_decodes_nothing(cache: Cache, scene: SceneFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by content: a copy elsewhere is the same entry."""
    seen = _count_decodes(monkeypatch)
    first = cache.store(scene, DEEPGLOBE)
    copy = dataclasses.replace(scene, image=scene.image.with_name("copy.jpg"))
    copy.image.write_bytes(scene.image.read_bytes())
    assert cache.store(scene, DEEPGLOBE) == first
    assert cache.store(copy, DEEPGLOBE) == first
    assert seen == ["1"]


def test_keys_depend_on_what_decoding_depends_on(cache: Cache, scene: SceneFile) -> None:
    """Legend, rule and snapping for labels; files for both."""
    first = cache.store(scene, DEEPGLOBE)
    exact = cache.store(scene, dataclasses.replace(DEEPGLOBE, rule="exact"))
    snapped = cache.store(scene, DEEPGLOBE, snap=4)
    assert len({first.labels_key, exact.labels_key, snapped.labels_key}) == 3
    assert {first.image_key} == {exact.image_key, snapped.image_key}
    assert first.labels_sha256 == exact.labels_sha256
    save(scene.image, noise(20, 30, seed=9))
    assert cache.store(scene, DEEPGLOBE).image_key != first.image_key


def test_scene_without_labels_has_an_entry(cache: Cache, scene: SceneFile) -> None:
    """Its counts are empty."""
    entry = cache.store(dataclasses.replace(scene, labels=None), DEEPGLOBE)
    assert (entry.labels_key, entry.labels_sha256, entry.class_pixels, entry.ignored_pixels) == (None, None, (), 0)
    assert cache.open(entry.image_key, None).labels is None


def test_blocks_of_a_raster_are_entries_of_their_own(cache: Cache, tmp_path: Path) -> None:
    """Also in the image's hash, by which repeated scenes are found; 16 bits stay 16 bits."""
    pixels, labels = noise(20, 30, 4, dtype="uint16"), random_labels(20, 30, n_classes=2)
    pixels[:3] = 0
    image, mask = save_raster(tmp_path / "a.tif", pixels), save_raster(tmp_path / "a_label.tif", labels)
    blocks = [SceneFile(f"a/{row}", image, mask, (row, 0, 10, 30), coding="index") for row in (0, 10)]
    entries = [cache.store(block, default_legend(2)) for block in blocks]
    assert len({entry.image_key for entry in entries}) == len({entry.image_sha256 for entry in entries}) == 2
    assert [entry.ignored_pixels for entry in entries] == [90, 0]
    opened = cache.open(entries[0].image_key, entries[0].labels_key)
    assert opened.pixels.dtype == np.uint16
    assert opened.labels is not None
    assert (opened.labels[:3] == IGNORE).all()


@pytest.mark.parametrize("harm", ["image", "labels", "json", "nonsense"])
def test_damaged_entry_is_decoded_anew(
    cache: Cache, scene: SceneFile, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncated array or figures that cannot be read."""
    entry = cache.store(scene, DEEPGLOBE)
    assert entry.labels_key
    path = cache.path(entry.image_key if harm == "image" else entry.labels_key)
    path = path.with_suffix(".json") if harm in ("json", "nonsense") else path
    path.write_bytes(b'{"sha256": 3}' if harm == "nonsense" else path.read_bytes()[:-30])
    seen = _count_decodes(monkeypatch)
    assert cache.store(scene, DEEPGLOBE) == entry
    assert seen == ["1"]
    assert np.array_equal(cache.open(entry.image_key, entry.labels_key).pixels, read_pixels(scene))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("place", [-1, -20, -30, 140])
def test_a_changed_value_is_refused_and_then_decoded_anew(
    cache: Cache, scene: SceneFile, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the pixels and in their checksum; a reader removes the entry, so that preparing again makes it anew."""
    entry = cache.store(scene, DEEPGLOBE)
    path, before = cache.path(entry.image_key), cache.path(entry.image_key).read_bytes()
    content = bytearray(before)
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RecordError, match=r"\.npy: cached scene is missing or damaged\. Run levelground prepare again\.$"
    ):
        cache.open(entry.image_key, entry.labels_key)
    assert not path.exists()
    path.write_bytes(content)
    seen = _count_decodes(monkeypatch)
    assert cache.store(scene, DEEPGLOBE) == entry
    assert seen == ["1"]
    assert path.read_bytes() == before


def test_changed_figures_of_labels_are_counted_anew(cache: Cache, scene: SceneFile) -> None:
    """Any digit of them."""
    entry = cache.store(scene, DEEPGLOBE)
    assert entry.labels_key
    path = cache.path(entry.labels_key).with_suffix(".json")
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"ignored_pixels": 0', b'"ignored_pixels": 1'))
    assert path.read_bytes() != before
    assert cache.store(scene, DEEPGLOBE) == entry


@pytest.mark.usefixtures("way")
def test_an_entry_of_0_1_0_is_read(cache: Cache, scene: SceneFile) -> None:
    """It has no checksum behind its values."""
    entry = cache.store(scene, DEEPGLOBE)
    path = cache.path(entry.image_key)
    path.write_bytes(path.read_bytes()[:-24])
    assert np.array_equal(cache.open(entry.image_key, None).pixels, read_pixels(scene))


@pytest.mark.usefixtures("way")
def test_missing_or_damaged_entry_is_one_line(cache: Cache, scene: SceneFile) -> None:
    """The remedy is to prepare again."""
    entry = cache.store(scene, DEEPGLOBE)
    path = cache.path(entry.image_key)
    path.write_bytes(path.read_bytes()[:100])
    text = r"\.npy: cached scene is missing or damaged\. Run levelground prepare again\.$"
    with pytest.raises(RecordError, match=text):
        cache.open(entry.image_key, None)
    path.unlink()
    with pytest.raises(RecordError, match=text):
        cache.open(entry.image_key, None)


def test_scene_that_cannot_be_decoded_leaves_nothing(cache: Cache, scene: SceneFile) -> None:
    """Neither image nor labels."""
    with pytest.raises(LabelColourError, match="is not a class of 'two'"):
        cache.store(scene, TWO)
    assert not cache.folder.exists()


def test_missing_file_is_one_line(cache: Cache, scene: SceneFile) -> None:
    """Found out when it is hashed."""
    scene.image.unlink()
    with pytest.raises(SceneError, match=r"1_sat\.jpg: cannot be read \(No such file.*\)\. Mend the file"):
        cache.store(scene, DEEPGLOBE)


def test_full_disk_names_the_cache(cache: Cache, scene: SceneFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written stays."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    text = (
        r"\.npy: cannot be written \(No space left on device\)\. "
        r"Free space or choose another cache with --cache or LEVELGROUND_CACHE\.$"
    )
    with pytest.raises(DiskError, match=text):
        cache.store(scene, DEEPGLOBE)
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == []


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours first, then XDG's, then the home folder."""
    monkeypatch.setenv("LEVELGROUND_CACHE", "/a/b")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert default_cache_folder() == Path("/a/b")
    monkeypatch.delenv("LEVELGROUND_CACHE")
    assert default_cache_folder() == Path("/c/levelground")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache/levelground"


def _in_a_child(work: Callable[[], object]) -> int:
    """Run something in a forked process; its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's: of libraries' threads, which are idle here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_two_processes_fill_one_cache(cache: Cache, tmp_path: Path) -> None:
    """Both decode the same scenes at the same time, over and over; neither fails, and what is read is whole."""
    scenes = []
    for name in "abcd":
        kaggle_pair(tmp_path / "data", name, size=(90, 120), seed=ord(name))
        scenes.append(SceneFile(name, tmp_path / f"data/{name}_sat.jpg", tmp_path / f"data/{name}_mask.png"))

    def fill(order: list[SceneFile]) -> None:
        for turn in range(10):
            for one in order:
                Cache(cache.folder / str(turn)).store(one, DEEPGLOBE)

    children = [_in_a_child(lambda: fill(scenes)), _in_a_child(lambda: fill(scenes[::-1]))]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert not list(cache.folder.rglob("*.part*"))
    for turn in range(10):
        filled = Cache(cache.folder / str(turn))
        for one in scenes:
            entry = filled.store(one, DEEPGLOBE)
            assert np.array_equal(filled.open(entry.image_key, entry.labels_key).pixels, read_pixels(one))


def test_a_process_killed_in_the_middle_harms_no_other(
    cache: Cache, scene: SceneFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an array stays under a temporary name, the scene is decoded by the next one, the rest is swept away."""

    def half(file: IO[bytes], array: NDArray[np.generic], **_: object) -> None:
        file.write(array.tobytes()[: array.nbytes // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "write_array", half)
        child = _in_a_child(lambda: cache.store(scene, DEEPGLOBE))
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (left,) = cache.folder.rglob("*.part*")
    entry = cache.store(scene, DEEPGLOBE)
    assert np.array_equal(cache.open(entry.image_key, entry.labels_key).pixels, read_pixels(scene))
    assert left.exists()
    os.utime(left, (0, 0))
    cache.sweep()
    assert not left.exists()
    assert cache.store(scene, DEEPGLOBE) == entry
