"""What a server makes of damaged files of earlier maps: each is said, none hides another or keeps it from starting."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from builders.prediction import draw_pixels, write_pixels
from fastapi import HTTPException

from levelground.cli import main
from levelground.files import one_writer
from levelground.records import write_json
from levelground.runtime import make_runtime
from levelground.serving.guard import Access, Guard
from levelground.serving.jobs import ERROR_FILE, IMAGE_FILE, JOB_FILE, SUMMARY_FILE, JobStore, read_job
from levelground.serving.service import MapService, _safe_name

WHOLE, OTHER, DAMAGED = "0" * 16, "1" * 16, "2" * 16


def write_job(folder: Path, id_: str, content: bytes | None = None) -> Path:
    """A job without models, or a damaged record."""
    path = folder / id_
    path.mkdir(parents=True)
    record = {"id": id_, "raster": "a.tif", "source": "a.tif", "created": "2026-01-01T00:00:00.000+00:00", "models": []}
    write_json(path / JOB_FILE, cast("dict[str, Any]", record), kind="map")
    if content is not None:
        (path / JOB_FILE).write_bytes(content)
    return path


def service_of(folder: Path) -> MapService:
    """What the routes of a server on a folder work on."""
    return MapService({}, [], None, JobStore(folder, waiting=1), make_runtime("cpu", "fp32", threads=1))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"id": 3}'])
def test_a_job_whose_record_is_damaged_is_listed_and_can_be_removed(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """It failed, with the reason that is said when the server starts; nothing is predicted for it."""
    write_job(tmp_path, WHOLE)
    write_job(tmp_path, DAMAGED, content)
    (tmp_path / "notes").mkdir()
    server = service_of(tmp_path)
    found = {job.id: server.map_out(job) for job in server.store}
    assert [found[id_].status for id_ in (WHOLE, DAMAGED)] == ["queued", "failed"]
    shown = found[DAMAGED]
    assert (shown.raster, shown.models, shown.tiles) == (DAMAGED, [], None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Warning: {shown.error}"
    assert f"{DAMAGED}/{JOB_FILE}: " in line
    server.store.remove(DAMAGED)
    assert not (tmp_path / DAMAGED).exists() and (tmp_path / WHOLE).exists()


def test_a_job_without_a_record_and_a_copied_one_are_listed_as_damaged(tmp_path: Path) -> None:
    """An upload that a kill cut off, and a folder that somebody copied: removing the copy leaves the original."""
    write_job(tmp_path, WHOLE)
    (write_job(tmp_path, DAMAGED) / JOB_FILE).unlink()
    copy = write_job(tmp_path, OTHER)
    (copy / JOB_FILE).write_bytes((tmp_path / WHOLE / JOB_FILE).read_bytes())
    store = JobStore(tmp_path, waiting=1)
    assert store.progress(DAMAGED).status == store.progress(OTHER).status == "failed"
    assert f"is of map {WHOLE}. Remove the folder {OTHER}." in str(store.progress(OTHER).error)
    store.remove(OTHER)
    assert read_job(tmp_path / WHOLE).id == WHOLE


def test_why_a_job_failed_is_said_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """A reason that is not UTF-8 keeps no server from starting."""
    (write_job(tmp_path, WHOLE) / ERROR_FILE).write_bytes(b"no room \xff\n")
    store = JobStore(tmp_path, waiting=1)
    store.start()
    store.stop()
    assert (store.progress(WHOLE).status, store.progress(WHOLE).error) == ("failed", "no room \ufffd")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"models": 1}'])
def test_areas_that_are_damaged_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    """With the file and what to do."""
    (write_job(tmp_path, WHOLE) / SUMMARY_FILE).write_bytes(content)
    server = service_of(tmp_path)
    with pytest.raises(HTTPException) as refused:
        server.areas(server.job(WHOLE))
    text = f"a.tif: {SUMMARY_FILE}, a file of its map, is damaged. Remove the map and make it again."
    assert (refused.value.status_code, refused.value.detail) == (404, text)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of affine, by rio-tiler
def test_an_image_that_is_damaged_does_not_hide_the_list(tmp_path: Path) -> None:
    """Its map has failed, and its tiles are refused; others are shown."""
    for id_ in (WHOLE, DAMAGED):
        path = write_job(tmp_path, id_)
        write_pixels(path / IMAGE_FILE, draw_pixels(40, 40, 4), crs=None, transform=None)
        (path / SUMMARY_FILE).write_text(json.dumps({}))
    (tmp_path / DAMAGED / IMAGE_FILE).write_bytes(b"II*\0no")
    server = service_of(tmp_path)
    shown = {job.id: server.map_out(job) for job in server.store}
    assert [shown[id_].status for id_ in (WHOLE, DAMAGED)] == ["done", "failed"]
    assert shown[WHOLE].tiles is not None and shown[DAMAGED].tiles is None
    assert f"a.tif: {IMAGE_FILE}, a file of its map, is damaged." in str(shown[DAMAGED].error)
    with pytest.raises(HTTPException, match=f"{IMAGE_FILE}, a file of its map, is damaged"):
        server.tile(server.job(DAMAGED), "image", (0, 0, 0))
    assert server.tile(server.job(WHOLE), "image", (0, 0, 0)).startswith(b"\x89PNG")


def test_two_servers_do_not_share_a_folder_of_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each would take up the other's unfinished maps."""
    (tmp_path / "m.onnx").write_bytes(b"")
    out = tmp_path / "served"
    with one_writer(out):
        assert main(["serve", str(tmp_path / "m.onnx"), "--port", "0", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"BusyError: {out}: held by process ")


@pytest.mark.parametrize("headers", [{"host": "["}, {"host": "[::1"}, {"host": "127.0.0.1", "origin": "http://["}])
def test_addresses_that_are_none_are_refused(headers: dict[str, str]) -> None:
    """As those of others, not as a fault of the server."""
    guard = Guard(cast("Any", None), Access("127.0.0.1", None, 1))
    refusal = guard._refusal({}, headers)
    assert refusal is not None and refusal[0] in (400, 403)


def test_letters_whose_marks_are_written_apart_stay_in_names() -> None:
    """As file names come from some systems."""
    assert _safe_name("Лесно\u0438\u0306 e\u0301.tif") == "Лесной_é.tif".replace("Лесной", "Лесно\u0439")
