"""Records: schema numbers and hashes."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import RecordError
from levelground.records import (
    SCHEMAS,
    check_schema,
    plain,
    read_json,
    sha256_array,
    sha256_file,
    sha256_json,
    write_json,
)


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
        (None, r"run\.json: no such record; expected a run written by levelground\. Give the folder of a run\."),
        (b"{", r"run\.json: unreadable run record \(.+\)\. Restore it from a copy, or make the run anew\."),
        (b"\xff\xfe", r"run\.json: unreadable run record \(.+\)\. Restore it from a copy, or make the run anew\."),
        (b"[" * 100_000, r"run\.json: unreadable run record \(.+\)\. Restore it from a copy, or make the run anew\."),
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


@pytest.mark.parametrize("number", ["1e400", "-1E+400", "NaN", "-Infinity", "9" * 400 + ".5", "1e308"])
def test_records_hold_no_number_that_is_not_finite(tmp_path: Path, number: str) -> None:
    """Figures that do not exist are null, so such a number was written by somebody else."""
    path = tmp_path / "run.json"
    path.write_text(f'{{"schema": {SCHEMAS["run"]}, "kind": "run", "wall_s": [{number}]}}')
    if number == "1e308":
        assert read_json(path, kind="run")["wall_s"] == [1e308]
        return
    with pytest.raises(RecordError, match=r"run\.json: unreadable run record"):
        read_json(path, kind="run")


_WITHOUT_SOURCE = """
import inspect
def refuse(owner, *rest):
    raise AssertionError(f"the source of {owner} is read")
inspect.getsource = inspect.getsourcelines = inspect.findsource = refuse
import levelground.commands.predict, levelground.commands.train, levelground.commands.compare
import levelground.comparison.benchmark_record, levelground.models.spec, levelground.serving.jobs
"""


def test_no_record_reads_its_source_at_the_start() -> None:
    """Texts under fields are for schemas and help; no command that needs neither waits for them to be read."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT_SOURCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
