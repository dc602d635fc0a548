"""Readers of files that are not trusted: kinds of files, sizes, nesting, archives, seals."""

import io
import json
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import RecordError
from levelground.history import HistoryLine, append_history, read_history
from levelground.reading import (
    UNREADABLE,
    check_seal,
    open_regular,
    parse_json,
    parse_toml,
    read_arrays,
    read_bytes,
    read_text,
    seal,
)
from levelground.records import read_json, write_json

OTHER_BYTES = (1, 32, 128)
"""What is added to a byte to change it: the next one, the other case of a letter, no ASCII."""


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
def test_what_is_not_a_regular_file_is_refused_without_waiting(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO without a writer would be waited for."""
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # a socket's name is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x")
    with pytest.raises(OSError, match=r"not a regular file|directory|No such device"):
        open_regular(path)


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    """A hole of gigabytes behind a text is not read."""
    path = tmp_path / "x"
    path.write_bytes(b"{}")
    assert (read_text(path), read_bytes(path, 2)) == ("{}", b"{}")
    os.truncate(path, 12 << 30)
    with pytest.raises(ValueError, match=r"^12884901888 bytes, at most 268435456 are read$"):
        read_text(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, '"\\ud800"', "[1e, 2]", "\0", "\ufeff{}"])
def test_json_of_any_content_is_parsed_or_a_value_error(text: str) -> None:
    """No other error reaches who asked."""
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_json(text)


@pytest.mark.parametrize("text", ["a", "a = " + "[" * 50_000, "a = " + "9" * 5000, "a = 1\na = 2", "\0"])
def test_toml_of_any_content_is_parsed_or_a_value_error(text: str) -> None:
    """No other error reaches who asked."""
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_toml(text)


def accept(name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    """Take up to a thousand values."""
    if np.prod(shape) > 1000:
        raise ValueError(f"{name}: too many")


def test_known_arrays_are_read_and_others_are_not_inflated(tmp_path: Path) -> None:
    """Values, types and orders come back; what is unknown may be a bomb."""
    arrays = {
        "a": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "b": np.array(["x", "yz"]),
        "c": np.array(3),
        "bomb": np.zeros(1 << 26, np.uint8),
        "empty": np.zeros((0, 4)),
    }
    np.savez_compressed(tmp_path / "x.npz", allow_pickle=False, **arrays)
    found = read_arrays(tmp_path / "x.npz", ("a", "b", "c", "empty", "missing"), accept)
    assert sorted(found) == ["a", "b", "c", "empty"]
    assert all(np.array_equal(found[name], arrays[name]) for name in found)
    with pytest.raises(ValueError, match="bomb: too many"):
        read_arrays(tmp_path / "x.npz", ("bomb",), accept)


@pytest.mark.parametrize("harm", ["magic", "short", "long", "pickle", "version"])
def test_members_that_are_not_the_array_of_their_header_are_refused(harm: str, tmp_path: Path) -> None:
    """A sound archive around other bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(5) if harm != "pickle" else np.array([{}], object))
    content = buffer.getvalue()
    content = {
        "magic": b"\x92" + content[1:],
        "short": content[:-1],
        "long": content + b"\0",
        "pickle": content,
        "version": content[:6] + b"\3\0" + content[8:],
    }[harm]
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(UNREADABLE):
        read_arrays(tmp_path / "x.npz", ("a",), accept)


@pytest.mark.parametrize("form", ["record", "line"])
def test_a_seal_finds_every_changed_byte(form: str) -> None:
    """In the text, in the key, in the digits and behind them; a text without one passes unchecked."""
    plain = json.dumps({"name": "Лес", "n": [1, 2]}, indent=1 if form == "record" else None, ensure_ascii=False)
    plain += "\n" * (form == "record")
    text = seal(plain, form)  # type: ignore[arg-type]
    assert check_seal(text, form)  # type: ignore[arg-type]
    assert not check_seal(plain, form)  # type: ignore[arg-type]
    assert list(json.loads(text))[:2] == ["name", "n"]
    for place in range(len(text)):
        for other in OTHER_BYTES:
            changed = text[:place] + chr((ord(text[place]) + other) % 1000) + text[place + 1 :]
            with pytest.raises(ValueError, match="its checksum does not fit"):
                check_seal(changed, form)  # type: ignore[arg-type]


def test_a_record_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    """Any byte; one that another program wrote again is taken as it is."""
    path = tmp_path / "study.json"
    write_json(path, {"runs": ["a", "b"], "options": {"delta": 0.01}}, kind="study")
    content = path.read_bytes()
    for place in range(len(content)):
        for other in OTHER_BYTES:
            path.write_bytes(content[:place] + bytes([(content[place] + other) % 256]) + content[place + 1 :])
            with pytest.raises(RecordError, match=r"study\.json: .+\."):
                read_json(path, kind="study")
    path.write_text(json.dumps(json.loads(content) | {"runs": ["c"]}), encoding="utf-8")
    assert read_json(path, kind="study")["runs"] == ["c"]
    path.write_bytes(content.replace(b"0.01", b"0.02"))
    with pytest.raises(
        RecordError,
        match=r"study\.json: was changed after it was written \(its checksum does not fit\)\. Remove it and run "
        r"levelground study again; or remove its last key, sha256, if you changed it on purpose\.$",
    ):
        read_json(path, kind="study")
    record = json.loads(path.read_bytes())
    del record["sha256"]  # the second remedy
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    assert read_json(path, kind="study")["options"] == {"delta": 0.02}


def test_a_history_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    """Any byte of any line."""
    append_history(tmp_path, [HistoryLine(kind="val", step=n, val_miou=0.5 + n / 10) for n in (1, 2)])
    path = tmp_path / "history.jsonl"
    content = path.read_bytes()
    assert [line.step for line in read_history(tmp_path)] == [1, 2]
    for place in range(len(content)):
        for other in OTHER_BYTES:
            path.write_bytes(content[:place] + bytes([(content[place] + other) % 256]) + content[place + 1 :])
            with pytest.raises(RecordError, match=r"history\.jsonl: line \d .+ Remove the line\.$"):
                read_history(tmp_path)
