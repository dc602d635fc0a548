"""Fixtures that several test files share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("builders")
os.environ["LEVELGROUND_LANG"] = "en"  # whatever the locale of the machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else commands say a line more where others use the machine

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from levelground.datasets.dataset import Dataset
    from levelground.runs import Run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real imagery (``deepglobe/ dubai/ naip/``), or a skip that says why."""
    value = os.environ.get("LEVELGROUND_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("LEVELGROUND_DATA names no folder with real imagery")
    return Path(value).resolve()


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium, or a skip where the machine has none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield started
        started.close()


@pytest.fixture
def dataset(tmp_path_factory: pytest.TempPathFactory) -> "Dataset":
    """A prepared study of six small scenes and four classes, one of them uncounted, in a folder of its own.

    Two scenes train, b/1 validates; test has b/2, c/1 and c/2.
    """
    from builders.study import build_study

    return build_study(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A run of six steps on the scenes of ``dataset``, trained without interruption; tests leave it as it is."""
    from builders.study import build_study
    from builders.training import small_spec, train

    dataset = build_study(tmp_path_factory.mktemp("scenes"))
    return train(small_spec(dataset), dataset, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def finished(undisturbed: "Run", tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A copy of ``undisturbed`` in a study folder of its own, for tests that change it."""
    from levelground.runs import read_run

    study = tmp_path_factory.mktemp("finished") / "study"
    shutil.copytree(undisturbed.folder.parent.parent, study)
    return read_run(study / "runs" / undisturbed.name)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A run with ``export/model.onnx``, made by the command once: the exporter takes seconds."""
    import dataclasses

    from builders.study import add_run, build_study

    from levelground.cli import main
    from levelground.models.build import build_model
    from levelground.models.smp_backend import save_model
    from levelground.models.spec import numbered_spec
    from levelground.recipe_files import load_recipe

    encoder = "tu-test_resnet"  # fewer layers than the other tests' encoder, so three times as fast to export
    run = add_run(build_study(tmp_path_factory.mktemp("exported")), dtype="uint8", encoder=encoder)
    recipe = dataclasses.replace(load_recipe(), encoder=encoder, encoder_weights="none")
    spec = numbered_spec("linknet", encoder, n_outputs=3, mean=[100.0] * 3, std=[60.0] * 3)
    save_model(build_model(spec, recipe, seed=0), run.model_folder)
    assert main(["export", str(run.folder), "--gsd", "0.5", "--threads", "1"]) == 0
    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--gold`` writes the files in ``tests/gold`` anew instead of comparing with them (``make gold``)."""
    parser.addoption("--gold", action="store_true", help="renew tests/gold instead of comparing with it")


@pytest.fixture
def renew_gold(request: pytest.FixtureRequest) -> bool:
    """Whether gold files are to be written anew."""
    return bool(request.config.getoption("--gold"))
