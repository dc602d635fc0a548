"""Records: atomic files, schema numbers, hashes, one writer."""

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import BusyError, DiskError, RecordError
from levelground.records import (
    SCHEMAS,
    atomic_path,
    check_schema,
    one_writer,
    plain,
    read_json,
    sha256_array,
    sha256_file,
    sha256_json,
    write_json,
)


def test_atomic_path_renames_when_the_block_ends_well(tmp_path: Path) -> None:
    """The file appears under its name, in a folder made for it, and nothing else does."""
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_atomic_path_keeps_the_suffix(tmp_path: Path) -> None:
    """Writers that choose a format by suffix see the right one."""
    with atomic_path(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    """A failure in the middle changes nothing and leaves no temporary file."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="half way"), atomic_path(path) as temporary:
        temporary.write_text("new, but")
        raise ValueError("half way")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_path_says_that_the_disk_is_full(tmp_path: Path) -> None:
    """A full disk is one clear line."""
    message = r"a\.txt: cannot be written \(No space left on device\)\. Free space or choose another --out\.$"
    with pytest.raises(DiskError, match=message), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_says_that_a_folder_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be made is one clear line."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match=r"a\.txt: cannot be written \((Not a directory|File exists)\)\."),
        atomic_path(tmp_path / "file" / "a.txt"),
    ):
        pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.array([[1, 2]], np.int64), [[1, 2]]),
        ((1, (2, Path("a") / "b")), [1, [2, "a/b"]]),
        ({1: float("nan"), "b": np.inf}, {"1": None, "b": None}),
        (np.bool_(True), True),
        ({"t": None, "s": "x"}, {"t": None, "s": "x"}),
    ],
)
def test_plain_turns_values_into_json(value: object, expected: object) -> None:
    """NumPy values, tuples and paths become JSON values; what is no finite number becomes null."""
    assert plain(value) == expected


def test_write_json_read_json_round_trip(tmp_path: Path) -> None:
    """A record comes back with kind and schema in front."""
    path = tmp_path / "run.json"
    write_json(path, {"name": "Лес", "miou": np.array([0.25, np.nan])}, kind="run")
    assert read_json(path, kind="run") == {
        "schema": SCHEMAS["run"],
        "kind": "run",
        "name": "Лес",
        "miou": [0.25, None],
    }
    assert list(json.loads(path.read_text(encoding="utf-8")))[:2] == ["schema", "kind"]
    assert "Лес" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run\.json: no such record; expected a run written by levelground\."),
        (b"{", r"run\.json: unreadable run record \(.+\)\. Remove it and run the command again\."),
        (b"\xff\xfe", r"run\.json: unreadable run record \(.+\)\. Remove it and run the command again\."),
        (b"[" * 100_000, r"run\.json: unreadable run record \(.+\)\. Remove it and run the command again\."),
        (b"[]", r"run\.json: holds 'list', expected a record of kind 'run'\. Give the right file\."),
        (b'{"kind": "study"}', r"run\.json: holds 'study', expected a record of kind 'run'\. Give the right file\."),
        (
            b'{"kind": "run", "schema": 99}',
            r"run\.json: run record of schema 99, this version reads 1\. "
            r"Use the levelground that wrote it, or make the record anew\.",
        ),
        (b'{"kind": "run"}', r"run\.json: run record of schema None, this version reads 1\."),
    ],
    ids=["missing", "cut short", "no text", "nested too deep", "a list", "another kind", "newer schema", "no schema"],
)
def test_read_json_refuses(tmp_path: Path, content: bytes | None, message: str) -> None:
    """What is no record of the kind is refused in one line that names the file."""
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_json(path, kind="run")


def test_check_schema_accepts_its_own() -> None:
    """The number that this version writes passes."""
    check_schema(Path("x"), SCHEMAS["counts"], kind="counts")


def test_sha256_file_is_of_the_bytes(tmp_path: Path) -> None:
    """As hashlib says."""
    (tmp_path / "a").write_bytes(b"pixels")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"pixels").hexdigest()


def test_sha256_array_depends_on_values_shape_and_type_only() -> None:
    """Memory order and byte order do not matter; values, shape and type do."""
    array = np.arange(6, dtype=np.uint16).reshape(2, 3)
    same = [np.asfortranarray(array), array.astype(">u2"), np.repeat(array, 2, axis=1)[:, ::2]]
    other = [array + 1, array.reshape(3, 2), array.astype(np.int16), array[:0]]
    assert {sha256_array(a) for a in same} == {sha256_array(array)}
    assert len({sha256_array(a) for a in [array, *other]}) == 1 + len(other)


def test_sha256_json_ignores_the_order_of_keys_and_nothing_else() -> None:
    """Canonical JSON: sorted keys."""
    assert sha256_json({"b": [1, 2], "a": np.int64(3)}) == sha256_json({"a": 3, "b": (1, 2)})
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})


HOLD = """
import sys, time
from pathlib import Path
from levelground.records import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_writer_names_the_process_that_holds_the_folder(tmp_path: Path) -> None:
    """While another process holds the folder we are told which; when it is killed the folder is free."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = rf"held by process {holder.pid}\. Wait for it to end, or choose another --out\."
        with pytest.raises(BusyError, match=message), one_writer(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with one_writer(tmp_path):
        pass


def test_one_writer_may_be_taken_again(tmp_path: Path) -> None:
    """A lock that was let go is free."""
    for _ in range(2):
        with one_writer(tmp_path / "study"):
            pass


def test_one_writer_says_that_it_cannot_write(tmp_path: Path) -> None:
    """A folder that cannot be made is one clear line."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match=r"file: cannot be written \(File exists\)\. Choose another --out\."),
        one_writer(tmp_path / "file"),
    ):
        pass
