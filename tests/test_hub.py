"""The hub: its cache first, one try, seconds to fail; a loopback server plays the hub."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save

from levelground.errors import WeightsError
from levelground.models.pretrained import (
    StateDict,
    check_hub_reachable,
    download_encoder,
    normalisation,
)
from levelground.models.spec import IMAGENET_MEAN, IMAGENET_STD

LITE0 = "tu-tf_efficientnet_lite0"
WAYS = r"Offline ways: --encoder tu-tf_efficientnet_lite0 --encoder-weights package, --encoder-weights FILE, or "


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request with one status."""

    status = 404

    def do_HEAD(self) -> None:
        """Refuse."""
        self.send_error(self.status)

    do_GET = do_HEAD  # noqa: N815 - the name is the base class's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay quiet."""


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache, and no proxy between us and loopback."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "*")


def point_hub_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client and our own question go to another address."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on loopback that answers every request with the status given by the test."""
    handler = type("Handler", (Refusing,), {"status": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        point_hub_at(endpoint, monkeypatch)
        yield endpoint
        server.shutdown()


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("encoder", ["resnet18", LITE0])
def test_a_closed_machine_fails_within_seconds(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: one line with the offline ways, and no retries."""
    point_hub_at("http://127.0.0.1:9", monkeypatch)
    started = time.monotonic()
    message = (
        rf"^--encoder-weights imagenet: {encoder} is not in the local cache and http://127\.0\.0\.1:9 is out of reach "
        rf"\(.*Connection refused\)\. {WAYS}"
    )
    with pytest.raises(WeightsError, match=message):
        download_encoder(encoder)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("hub", [503], indirect=True)
def test_a_hub_in_trouble_counts_as_out_of_reach(hub: str) -> None:
    """Its client would try again for half a minute."""
    started = time.monotonic()
    with pytest.raises(WeightsError, match=rf"{hub} is out of reach \(Service Unavailable\)\. {WAYS}"):
        download_encoder(LITE0)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("hub", [404], indirect=True)
@pytest.mark.parametrize("encoder", ["resnet18", LITE0])
def test_a_hub_without_the_weights_is_one_line(hub: str, encoder: str) -> None:
    """It answers, but has nothing: the download is tried once."""
    started = time.monotonic()
    message = rf"^--encoder-weights imagenet: {encoder} did not download \(.+\)\. {WAYS}"
    with pytest.raises(WeightsError, match=message):
        download_encoder(encoder)
    assert time.monotonic() - started < 10


def test_an_address_that_is_none_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped HF_ENDPOINT is one line too."""
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    with pytest.raises(WeightsError, match=r"no address is out of reach \(unknown url type: 'no address'\)\."):
        check_hub_reachable("resnet18")


def test_an_encoder_without_imagenet_weights_says_what_is_published() -> None:
    """Before anything is asked of the hub."""
    message = r"^--encoder-weights imagenet: timm-skresnet18x has none \(published: nothing\)\. Offline ways: "
    with pytest.raises(WeightsError, match=message):
        download_encoder("timm-skresnet18x")


def test_a_timm_encoder_without_published_weights_says_so() -> None:
    """Not every network of timm has been trained."""
    name = next(name for name in timm.list_models("resnet*") if not timm.is_model_pretrained(name))
    with pytest.raises(WeightsError, match=rf"tu-{name} has none \(published: nothing\)\. {WAYS}"):
        download_encoder(f"tu-{name}")


class Serving(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does: a commit, an entity tag, the bytes."""

    files: dict[str, bytes]

    def do_HEAD(self) -> None:
        """Answer without the bytes."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with the bytes."""
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        revision, _, name = self.path.partition("/resolve/")[2].partition("/")
        content = self.files.get(name)
        self.send_response(200 if content is not None else 404)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision if len(revision) == 40 else "0" * 40)
        self.end_headers()
        return content

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay quiet."""


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("encoder", ["xception", LITE0])
def test_a_download_is_kept_and_found_again(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub gives is the encoder's state; once in the cache the hub is not asked again."""
    network = smp.encoders.get_encoder(encoder, weights=None)
    state: StateDict = {name: value.contiguous() for name, value in network.state_dict().items()}
    sent = {name.removeprefix("model."): value for name, value in state.items()} if encoder == LITE0 else state
    config = json.dumps({"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}).encode()
    handler = type("Handler", (Serving,), {"files": {"model.safetensors": save(sent), "config.json": config}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_hub_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        results = [download_encoder(encoder)]
        server.shutdown()
    results.append(download_encoder(encoder))
    for received, path in results:
        assert received.keys() == state.keys()
        assert all(torch.equal(received[name], value) for name, value in state.items())
        expected = ((0.5,) * 3, (0.5,) * 3) if encoder == LITE0 else ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
        assert normalisation(encoder, path) == expected


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"mean": [1, 2], "std": [1, 2]}', '{"mean": 0.5, "std": 0.5}'])
def test_a_configuration_without_normalisation_means_torchvisions(tmp_path: Path, text: str) -> None:
    """Most of segmentation_models_pytorch's encoders were trained with those values."""
    (tmp_path / "config.json").write_text(text)
    assert normalisation("resnet18", tmp_path / "config.json") == (IMAGENET_MEAN, IMAGENET_STD)


def test_no_configuration_means_torchvisions_too(tmp_path: Path) -> None:
    """A plain file of weights has none beside it."""
    (tmp_path / "weights.pth").touch()
    assert normalisation("resnet18") == (IMAGENET_MEAN, IMAGENET_STD)
    assert normalisation("resnet18", tmp_path / "weights.pth" / "config.json") == (IMAGENET_MEAN, IMAGENET_STD)


def test_timm_knows_the_normalisation_of_its_own() -> None:
    """Whatever its weights' publisher chose."""
    assert normalisation("tu-resnet18") == (IMAGENET_MEAN, IMAGENET_STD)
    assert normalisation(LITE0) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
