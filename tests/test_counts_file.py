"""The record of counts."""

import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import RecordError
from levelground.metrics.counts import SceneCounts, read_counts, write_counts


def some_counts(n_scenes: int = 3, n_classes: int = 2, bins: int = 4) -> SceneCounts:
    """A small record."""
    rng = np.random.default_rng(0)
    histogram = rng.integers(0, 9, (n_scenes, n_classes, bins))
    return SceneCounts(
        scenes=np.array(["119", "часть/2", "a"][:n_scenes]),
        groups=np.array(["x", "x", "y"][:n_scenes]),
        labels_sha256=np.array(["0" * 64] * n_scenes),
        legend_sha256="1" * 64,
        split_sha256="2" * 64,
        counts=rng.integers(0, 9, (n_scenes, n_classes, n_classes)),
        boundary=rng.integers(0, 9, (n_scenes, n_classes, 3)),
        boundary_px=3,
        conf_n=histogram,
        conf_sum=histogram * 0.5,
        conf_correct=histogram // 2,
        loss_sum=rng.random(n_scenes),
        loss_pixels=rng.integers(0, 9, n_scenes),
        forward_s=rng.random(n_scenes),
        megapixels=rng.random(n_scenes),
    )


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    """Every field comes back as it was."""
    written = some_counts()
    write_counts(tmp_path / "run" / "counts-test.npz", written)
    read = read_counts(tmp_path / "run" / "counts-test.npz")
    for field in fields(SceneCounts):
        np.testing.assert_array_equal(getattr(written, field.name), getattr(read, field.name))
        assert type(getattr(written, field.name)) is type(getattr(read, field.name))
    assert read.n_classes == 2


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    """No time stamp in it, so files can be compared by hash."""
    for name in ("a.npz", "b.npz"):
        write_counts(tmp_path / name, some_counts())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_missing_record_says_what_to_run(tmp_path: Path) -> None:
    """The remedy is in the message."""
    with pytest.raises(RecordError, match=r"counts-test\.npz: no such counts\. Run `levelground evaluate` on this run"):
        read_counts(tmp_path / "counts-test.npz")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    """Cut short, overwritten, or with a byte changed."""
    path = tmp_path / "counts-test.npz"
    write_counts(path, some_counts())
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[60:64] = b"\xff\xff\xff\xff"
    for content in (whole[: len(whole) // 2], b"no archive", b"", bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=r"counts-test\.npz: .* Run `levelground evaluate` again\."):
            read_counts(path)


def test_a_bare_array_is_no_record(tmp_path: Path) -> None:
    """An npy file under the record's name."""
    with (tmp_path / "counts-test.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(RecordError, match="unreadable counts"):
        read_counts(tmp_path / "counts-test.npz")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    """A record can run no code."""
    path = tmp_path / "counts-test.npz"
    np.savez(path, kind=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RecordError, match="unreadable counts"):
        read_counts(path)


def test_another_kind_or_schema_is_refused(tmp_path: Path) -> None:
    """Neither a foreign npz nor a future record is read."""
    path = tmp_path / "counts-test.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(RecordError, match=r"is not a counts record\. Give a counts-<split>\.npz"):
        read_counts(path)
    np.savez(path, kind=np.array("counts"), schema=np.array(99))
    with pytest.raises(RecordError, match="counts record of schema 99, this version reads 1"):
        read_counts(path)
    np.savez(path, kind=np.array("counts"), schema=np.array("1"))
    with pytest.raises(RecordError, match="counts record of schema '1', this version reads 1"):
        read_counts(path)
    np.savez(path, kind=np.array("counts"), schema=np.array(1), scenes=np.array(["a"]))
    with pytest.raises(RecordError, match=r"groups, labels_sha256, .* missing\. Run `levelground evaluate` again\."):
        read_counts(path)


def test_a_record_on_disk_that_contradicts_itself_is_named_with_its_path(tmp_path: Path) -> None:
    """The same checks hold for files that something else wrote."""
    path = tmp_path / "counts-test.npz"
    write_counts(path, some_counts())
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"loss_sum": np.zeros(7)}))
    with pytest.raises(RecordError, match=r"counts-test\.npz: loss_sum have shape \(7,\), expected \(3,\)"):
        read_counts(path)
    np.savez(path, **(arrays | {"boundary_px": np.array("far")}))
    with pytest.raises(RecordError, match=r"counts-test\.npz: invalid literal"):
        read_counts(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": np.array(["x"])}, r"^groups have shape \(1,\), expected \(3,\)\. Evaluate the run again\.$"),
        ({"counts": np.zeros((3, 2, 3), np.int64)}, r"^counts have shape \(3, 2, 3\), expected \(3, 3, 3\)"),
        ({"counts": np.zeros(3, np.int64)}, r"^counts have shape \(3,\) and conf_n \(3, 2, 4\), expected \(S, K, K\)"),
        ({"counts": np.int64(3)}, r"^counts have shape \(\) and"),
        ({"conf_n": np.int64(3)}, r"and conf_n \(\), expected \(S, K, K\) and \(S, K, B\)"),
        ({"loss_pixels": np.zeros(3, np.int32)}, "^loss_pixels have type int32, expected int64"),
        ({"forward_s": np.zeros(3, np.int64)}, "^forward_s have type int64, expected float64"),
        ({"loss_sum": np.array([0.0, np.nan, 1.0])}, "^loss_sum hold a negative number or none at all"),
        ({"scenes": np.array(["a", "b", "a"])}, "^a scene is listed twice"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    """Shapes, types and ranges are checked once, when the record is made."""
    with pytest.raises(RecordError, match=message):
        replace(some_counts(), **change)


def test_the_archive_is_plain(tmp_path: Path) -> None:
    """Other tools read it: one array a file, named as in the docs."""
    write_counts(tmp_path / "counts.npz", some_counts())
    with zipfile.ZipFile(tmp_path / "counts.npz") as archive:
        assert {"schema.npy", "kind.npy", "counts.npy", "scenes.npy"} <= set(archive.namelist())
