"""The server as clients see it: a real process on loopback, real jobs, its OpenAPI description, its refusals."""

import dataclasses
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bad_files import tiff_of_size
from builders.onnx_files import write_onnx
from builders.prediction import draw_pixels, write_pixels
from PIL import Image

from levelground.cli import main
from levelground.models.spec import numbered_spec
from levelground.serving.guard import is_loopback

pytestmark = pytest.mark.timeout(300)


MODELS = ("first.onnx", "second.onnx", "fine.onnx")


class Server:
    """A server of its own process, and a client of it."""

    def __init__(self, root: Path, *flags: str, models: tuple[str, ...] = MODELS) -> None:
        """Start it in ``root`` and wait until it says where it listens."""
        command = [sys.executable, "-m", "levelground", "serve", *models, "--port", "0", "--threads", "1", *flags]
        self.process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://\S+:(\d+)/", line):
                self.port = int(found[1])
                return
        raise AssertionError("".join(self.lines))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Send a request and return status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def order(
        self, models: list[str], raster: str | None = None, file: tuple[str, bytes] | None = None
    ) -> tuple[int, Any]:
        """Ask for a map."""
        parts = [form_field("models", name.encode()) for name in models]
        parts += [form_field("raster", raster.encode())] if raster is not None else []
        parts += [form_field("file", file[1], file[0])] if file is not None else []
        body = b"".join(parts) + b"--edge--\r\n"
        status, answer, _ = self.ask("POST", "/v1/maps", body, {"Content-Type": "multipart/form-data; boundary=edge"})
        return status, json.loads(answer)

    def state(self, id_: str) -> Any:
        """The state of a map."""
        return json.loads(self.ask("GET", f"/v1/maps/{id_}")[1])

    def wait(self, id_: str, seconds: float = 120.0) -> Any:
        """Wait until a map is finished or has failed."""
        end = time.monotonic() + seconds
        while (state := self.state(id_))["status"] not in ("done", "failed"):
            assert time.monotonic() < end, state
            time.sleep(0.05)
        return state

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(number)
        self.process.wait(120)
        assert self.process.stderr is not None
        self.process.stderr.close()


def form_field(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    shown = f'; filename="{filename}"' if filename is not None else ""
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode() + value + b"\r\n"


def build(root: Path, size: int = 150) -> None:
    """Two models and a folder of rasters: one with a place, one without, a link and one of two bands."""
    write_onnx(root / "first.onnx", n_outputs=4, activation="softmax", batch=1, sides=(64, 64))
    write_onnx(root / "second.onnx", n_outputs=5, activation="softmax", batch=1, sides=(32, 32), metadata={"k": "v"})
    spec = numbered_spec("unet", "none", n_outputs=4)
    fine = dataclasses.replace(spec, name="fine", gsd_m=0.5)
    write_onnx(root / "fine.onnx", n_outputs=4, metadata={"levelground": fine.to_json()})
    rasters = root / "rasters"
    (rasters / "sub").mkdir(parents=True)
    place = (10.0, 0.0, 500_000.0, 0.0, -10.0, 6_000_000.0)
    write_pixels(rasters / "sub" / "placed.tif", draw_pixels(size, size + 30), crs="EPSG:32633", transform=place)
    Image.fromarray(draw_pixels(90, 120)).save(rasters / "лес.png")
    write_pixels(rasters / "two.tif", draw_pixels(64, 64, 2))
    (root / "secret.tif").write_bytes((rasters / "two.tif").read_bytes())
    (rasters / "link.tif").symlink_to(root / "secret.tif")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A running server and its folder."""
    root = tmp_path_factory.mktemp("served")
    build(root)
    server = Server(root, "--rasters", "rasters", "--max-upload-mb", "0.5", "--waiting", "3")
    yield server, root
    server.stop()
    assert server.process.returncode in (0, 130, -signal.SIGTERM)


@pytest.fixture(scope="module")
def job(served: tuple[Server, Path]) -> Any:
    """A finished map by two models of a raster with a place, which tests leave as it is."""
    server, _ = served
    status, job = server.order(["first", "second"], raster="sub/placed.tif")
    assert (status, job["models"], job["width"]) == (202, ["first", "second"], 180)
    state = server.wait(job["id"])
    assert state["status"] == "done", state
    return state


def test_a_map_is_the_one_that_predict_makes(served: tuple[Server, Path], job: Any, tmp_path: Path) -> None:
    """Map, areas and polygons are those of the command, and the areas of the API those of its table."""
    server, root = served
    areas = json.loads(server.ask("GET", f"/v1/maps/{job['id']}/areas")[1])
    for number, name in enumerate(("first", "second")):
        out = tmp_path / name
        command = ["predict", str(root / f"{name}.onnx"), str(root / "rasters/sub/placed.tif"), "--out", str(out)]
        assert main([*command, "--polygons", "gpkg", "--threads", "1"]) == 0
        _, table, _ = server.ask("GET", f"/v1/maps/{job['id']}/files/{name}/areas")
        assert table == (out / "placed_areas.csv").read_bytes()
        _, written, _ = server.ask("GET", f"/v1/maps/{job['id']}/files/{name}/map")
        assert written == (out / "placed.tif").read_bytes()
        rows = [line.split(",") for line in table.decode().splitlines()[1:-1]]
        told = areas["models"][number]["classes"]
        assert [(row[1], int(row[2]), row[4]) for row in rows] == [
            (one["name"], one["pixels"], f"{one['hectares']:.4f}") for one in told
        ]


def test_disagreement_is_what_the_two_maps_say(served: tuple[Server, Path], job: Any) -> None:
    """Pixels, share and hectares of the disagreement, computed again from the downloaded maps."""
    server, _ = served
    assert job["layers"] == ["image", "first", "second", "disagreement"]
    files = [server.ask("GET", f"/v1/maps/{job['id']}/files/{name}/map")[1] for name in ("first", "second")]
    one, other = (np.asarray(Image.open(io.BytesIO(file))) for file in files)
    told = json.loads(server.ask("GET", f"/v1/maps/{job['id']}/areas")[1])["disagreement"]
    unlike = int((one != other).sum())
    assert 0 < unlike < one.size
    assert told["pixels"] == unlike
    assert told["share"] == pytest.approx(unlike / one.size)
    assert told["hectares"] == pytest.approx(unlike * 100 / 1e4)


def test_tiles_of_a_png_show_its_very_pixels(served: tuple[Server, Path]) -> None:
    """At the largest zoom a tile of a raster without a place is a window of the map in the legend's colours."""
    server, _ = served
    job = server.order(["first"], raster="лес.png")[1]
    state = server.wait(job["id"])
    assert state["tiles"]["scheme"] == "pixels"
    zoom = state["tiles"]["max_zoom"]
    _, content, headers = server.ask("GET", f"/v1/maps/{job['id']}/tiles/{zoom}/0/0?layer=first")
    assert headers["Content-Type"] == "image/png"
    tile = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    written = Image.open(io.BytesIO(server.ask("GET", f"/v1/maps/{job['id']}/files/first/map")[1]))
    colours = np.asarray(written.convert("RGB"))
    assert (tile[:90, :120, :3] == colours).all()
    assert (tile[:90, :120, 3] == 255).all() and (tile[90:, :, 3] == 0).all()
    for layer in ("image", "disagreement"):
        assert server.ask("GET", f"/v1/maps/{job['id']}/tiles/{zoom}/0/0?layer={layer}")[0] == 200
    assert server.ask("GET", f"/v1/maps/{job['id']}/tiles/{zoom + 1}/0/0")[0] == 404
    assert server.ask("GET", f"/v1/maps/{job['id']}/tiles/0/7/7")[0] == 404


def test_tiles_of_a_placed_raster_are_web_mercator(served: tuple[Server, Path], job: Any) -> None:
    """The bounds are those that rasterio computes, and the tile in their middle is not empty."""
    from rasterio.warp import transform_bounds

    server, _ = served
    grid = job["tiles"]
    assert grid["scheme"] == "WebMercatorQuad"
    bounds = transform_bounds("EPSG:32633", "EPSG:3857", 500_000, 5_998_500, 501_800, 6_000_000)
    half = 20037508.342789244
    size = 256 * 2 ** grid["max_zoom"] / (2 * half)
    expected = (
        (bounds[0] + half) * size,
        (half - bounds[3]) * size,
        (bounds[2] + half) * size,
        (half - bounds[1]) * size,
    )
    assert np.allclose(grid["bounds"], expected, atol=2.0)
    x, y = (int((grid["bounds"][n] + grid["bounds"][n + 2]) / 2 // 256) for n in (0, 1))
    status, content, _ = server.ask("GET", f"/v1/maps/{job['id']}/tiles/{grid['max_zoom']}/{x}/{y}?layer=first")
    assert status == 200
    assert np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3].any()


def huge_png() -> bytes:
    """A PNG whose header says 60 000 × 60 000 px."""
    text = io.BytesIO()
    Image.new("RGB", (4, 4)).save(text, "PNG")
    data = bytearray(text.getvalue())
    import zlib

    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


VRT = b"""<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.tif", b"this is no raster", "text.tif: "),
        ("bomb.png", huge_png(), "bomb.png: "),
        ("two.tif", None, "has 2 bands, first.onnx reads 3"),
        ("wide.tif", tiff_of_size(32, 32, bands=9), "bands"),
        ("other.vrt", VRT, "other.vrt: "),
        ("page.html", b"<html>", "page.html: "),
        ("", b"", "No raster"),
    ],
)
def test_bad_uploads_are_refused_with_the_sentence_of_predict(
    served: tuple[Server, Path], name: str, content: bytes | None, words: str
) -> None:
    """Status 422, one line that names the file as the user knows it, and nothing left behind."""
    server, root = served
    before = set((root / "served").iterdir())
    data = (root / "rasters" / name).read_bytes() if content is None else content
    status, answer = server.order(["first"], file=(name, data))
    assert status == 422
    assert words in answer["detail"]
    assert str(root) not in answer["detail"] and "\n" not in answer["detail"]
    assert set((root / "served").iterdir()) == before


def test_a_raster_of_another_ground_sample_distance_is_refused(served: tuple[Server, Path]) -> None:
    """The sentence is the one of predict."""
    server, _ = served
    status, answer = server.order(["fine"], raster="sub/placed.tif")
    assert status == 422
    assert "sub/placed.tif: has 10 m a pixel, fine learnt at 0.5 m" in answer["detail"]


@pytest.mark.parametrize(
    "name", ["../secret.tif", "link.tif", "/etc/passwd", "none.tif", "sub", "a\0b.tif", "..", "x" * 5000]
)
def test_only_rasters_of_the_folder_can_be_named(served: tuple[Server, Path], name: str) -> None:
    """Paths that leave the folder, links, folders and names that are none are not found."""
    server, _ = served
    status, answer = server.order(["first"], raster=name)
    assert status == 404
    assert "no such raster" in answer["detail"]


def test_the_list_of_rasters_follows_no_links(served: tuple[Server, Path]) -> None:
    """Names below the folder, with sizes."""
    server, _ = served
    names = [one["name"] for one in json.loads(server.ask("GET", "/v1/rasters")[1])]
    assert names == ["sub/placed.tif", "two.tif", "лес.png"]


def test_large_bodies_are_refused_by_their_length_and_while_they_stream(served: tuple[Server, Path]) -> None:
    """Status 413 for a stated length, and for chunks that go on and on."""
    server, _ = served
    head = {"Content-Type": "multipart/form-data; boundary=edge"}
    assert server.order(["first"], file=("large.tif", bytes(700_000)))[0] == 413
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def chunks() -> Iterator[bytes]:
        yield (
            form_field("models", b"first")
            + b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.tif"\r\n\r\n'
        )
        for _ in range(40):
            yield bytes(100_000)

    try:
        connection.request("POST", "/v1/maps", chunks(), head, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # it closed the connection before all was sent
        status = 413
    finally:
        connection.close()
    assert status == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "example.org"}, 400),
        ({"Host": "192.0.2.7:80"}, 400),
        ({}, 200),
    ],
)
def test_other_sites_cannot_use_the_server(served: tuple[Server, Path], headers: dict[str, str], status: int) -> None:
    """Neither a page of another site nor a name that is made to point here."""
    server, _ = served
    assert server.ask("GET", "/v1/models", headers=headers)[0] == status


def test_the_queue_is_bounded_and_a_map_can_be_removed(served: tuple[Server, Path]) -> None:
    """Too many are refused with 429; removed ones are gone with their files, waiting or running."""
    server, root = served
    made = [server.order(["first", "second"], raster="sub/placed.tif") for _ in range(8)]
    statuses = [status for status, _ in made]
    assert statuses.count(202) >= 3 and statuses[-1] == 429, statuses
    assert "wait" in made[-1][1]["detail"]
    for status, job in made:
        if status == 202:
            assert server.ask("DELETE", f"/v1/maps/{job['id']}")[0] == 204
            assert not (root / "served" / job["id"]).exists()
            assert server.ask("GET", f"/v1/maps/{job['id']}")[0] == 404
    status, job = server.order(["first"], raster="two.tif")
    assert status == 422  # and the server still answers


def test_twenty_clients_keep_memory_flat(served: tuple[Server, Path], job: Any) -> None:
    """Twenty clients that ask for the page, areas and tiles at the same time get all of it; memory stops growing."""
    server, _ = served
    grid = job["tiles"]
    zoom = grid["max_zoom"]
    corners = [int(edge // 256) for edge in grid["bounds"]]
    tiles = [(x, y) for x in range(corners[0], corners[2] + 1) for y in range(corners[1], corners[3] + 1)]

    def client(number: int) -> set[int]:
        x, y = tiles[number % len(tiles)]
        layer = ("image", "first", "second", "disagreement")[number % 4]
        paths = ("/", "/v1/maps", f"/v1/maps/{job['id']}/areas")
        asked = [*paths, f"/v1/maps/{job['id']}/tiles/{zoom}/{x}/{y}?layer={layer}"]
        return {server.ask("GET", path)[0] for path in asked}

    def rounds(n: int) -> int:
        with ThreadPoolExecutor(20) as pool:
            assert set().union(*pool.map(client, range(20 * n))) == {200}
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]

    warm = rounds(2)  # threads start, code is loaded
    assert rounds(4) - warm < 16, "MiB"


def test_its_openapi_description_holds(served: tuple[Server, Path]) -> None:
    """Schemathesis finds no answer that the description does not allow, and no error of the server."""
    server, root = served
    command = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert command is not None, "schemathesis is not installed"
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    run = subprocess.run(
        [command, "run", address, "--max-examples", "12", "--seed", "5", "--no-color"],
        cwd=root, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]


def test_the_page_and_its_files_come_from_the_server_alone(served: tuple[Server, Path]) -> None:
    """The page names no other host, and every answer has a policy that allows none."""
    server, _ = served
    for path in ("/", "/static/page.js", "/static/page.css", "/v1/models"):
        status, body, headers = server.ask("GET", path)
        assert status == 200
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert not re.search(rb"https?://(?!www\.w3\.org)", body)


def test_a_killed_server_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """The server is killed in the middle of a map; started again it finishes it, as an undisturbed one would."""
    build(tmp_path, size=600)
    server = Server(tmp_path, "--rasters", "rasters", models=("second.onnx",))
    job = server.order(["second"], raster="sub/placed.tif")[1]
    end = time.monotonic() + 120
    while not 0 < (state := server.state(job["id"]))["progress"] < 1:
        assert state["status"] in ("queued", "running") and time.monotonic() < end, state
        time.sleep(0.02)
    server.stop(signal.SIGKILL)
    (checkpoint,) = (tmp_path / "served" / job["id"] / "maps/second").glob(".*.scratch")
    again = Server(tmp_path, "--rasters", "rasters", models=("second.onnx",))
    try:
        assert again.wait(job["id"])["status"] == "done"
        assert not checkpoint.exists()
        _, written, _ = again.ask("GET", f"/v1/maps/{job['id']}/files/second/map")
    finally:
        again.stop()
    out = tmp_path / "undisturbed"
    command = ["predict", str(tmp_path / "second.onnx"), str(tmp_path / "rasters/sub/placed.tif"), "--out", str(out)]
    assert main([*command, "--polygons", "gpkg", "--threads", "1"]) == 0
    assert written == (out / "placed.tif").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "Pass --token"),
        (["--rasters", "none"], "no such folder"),
        (["--host", "192.0.2.1", "--token", "t"], "cannot be opened"),
    ],
)
def test_bad_options_are_one_line(
    served: tuple[Server, Path], flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit status 2, and no folder is made."""
    _, root = served
    assert main(["serve", str(root / "first.onnx"), "--out", str(tmp_path / "out"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_token_is_asked_for_once(tmp_path: Path) -> None:
    """Without it 401; as a header, or as part of the address, which sets a cookie for what the page asks for."""
    write_onnx(tmp_path / "first.onnx", n_outputs=4)
    server = Server(tmp_path, "--token", "a secret", models=("first.onnx",))
    try:
        assert server.ask("GET", "/v1/models")[0] == 401
        assert server.ask("GET", "/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert server.ask("GET", "/v1/models", headers={"Authorization": "Bearer a secret"})[0] == 200
        status, _, headers = server.ask("GET", f"/?token={urllib.parse.quote('a secret')}")
        assert status == 200
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert server.ask("GET", "/v1/models", headers={"Cookie": cookie.split(";")[0]})[0] == 200
    finally:
        server.stop()


def test_is_loopback_knows_this_machine() -> None:
    """Names and numbers."""
    assert is_loopback("127.0.0.9")
    assert not is_loopback("127.0.0.1.example.org")
