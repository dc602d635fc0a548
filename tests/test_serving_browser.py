"""The server's page in a real browser: upload, progress, swipe, areas, on phone and desktop, in both themes."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_serving import MODELS, Server, build

pytestmark = [pytest.mark.usefixtures("browser"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A running server and its folder."""
    root = tmp_path_factory.mktemp("browsed")
    build(root, size=300)
    shutil.copytree(root / "rasters", root / "shown", symlinks=True)
    server = Server(root, "--rasters", "shown", models=MODELS[:2])
    yield server, root
    server.stop()


def colours(page: Page) -> np.ndarray:
    """The pixels of the map as the browser shows them."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#map").screenshot())).convert("RGB")).astype(int)


def wait_for_tiles(page: Page) -> None:
    """Wait until nothing more is loaded."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)


@pytest.mark.parametrize(
    ("width", "height", "scheme", "language", "uploads"),
    [
        (390, 800, "dark", "en", True),
        (1920, 1000, "dark", "ru", True),
        (1920, 1000, "light", "en", False),
        (390, 800, "light", "ru", False),
    ],
)
def test_upload_progress_swipe_areas(
    served: tuple[Server, Path], browser: Browser, width: int, height: int, scheme: str, language: str, uploads: bool
) -> None:
    """A file is uploaded or its map opened again, the line moves, and the table says what the CSV of the map says."""
    server, root = served
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale=language)
    page = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.locator("#models input").nth(1).wait_for()
        if uploads:
            page.set_input_files("#file", str(root / "rasters/sub/placed.tif"))
            page.locator("#new button[type=submit]").click()
            page.locator("#bar").wait_for()
        else:
            page.locator("#maps button").first.click()
        page.locator("#shown").wait_for()
        page.locator("#areas tbody tr").first.wait_for(timeout=200_000)
        wait_for_tiles(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

        before = colours(page)
        page.locator("#swipe").focus()
        page.keyboard.press("Home")
        wait_for_tiles(page)
        right = colours(page)
        page.keyboard.press("End")
        wait_for_tiles(page)
        left = colours(page)
        middle = before.shape[1] // 2
        assert (np.abs(left - right).sum(axis=2) > 60).any(), "the two maps look the same"
        # With the line in the middle the left half is that of the left map, the right half that of the right map.
        assert (np.abs(before - left).sum(axis=2)[:, 60 : middle - 20] < 40).mean() > 0.99
        assert (np.abs(before - right).sum(axis=2)[:, middle + 20 : -20] < 40).mean() > 0.99

        link = page.locator("#files a[href*='/first/areas']").get_attribute("href")
        assert link is not None
        table = server.ask("GET", link)[1].decode().splitlines()[1:-1]
        shown = page.locator("#areas tbody tr").all()
        for row in table:
            name, hectares = row.split(",")[1], float(row.split(",")[4])
            cells = next(one for one in shown if one.locator("td").first.inner_text().strip() == name).locator("td")
            text = cells.nth(1).inner_text().replace("\u00a0", "").replace(",", "." if language == "ru" else "")
            assert float(text) == pytest.approx(hectares, abs=0.005)

        page.locator("#map").focus()
        whole = colours(page)
        page.keyboard.press("+")
        page.keyboard.press("ArrowLeft")
        wait_for_tiles(page)
        assert (np.abs(colours(page) - whole).sum(axis=2) > 60).any()
        page.keyboard.press("0")
        wait_for_tiles(page)
        assert (np.abs(colours(page) - whole).sum(axis=2) < 40).mean() > 0.99
        page.emulate_media(media="print")
        assert page.locator("#map").is_visible() and page.locator("#areas").is_visible()
        assert not any(page.locator(hidden).is_visible() for hidden in ("#new", "#swipe", "#files", "#remove"))
        assert page.pdf()[:5] == b"%PDF-"
        assert faults == []
        assert all(url.startswith(f"http://127.0.0.1:{server.port}/") for url in asked)
    finally:
        context.close()


def test_a_refused_raster_is_said_in_the_form(served: tuple[Server, Path], browser: Browser) -> None:
    """The sentence of predict stands beside the button, and another raster can be chosen at once."""
    server, _ = served
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.locator("#models input").nth(1).wait_for()
        page.locator("#new button[type=submit]").click()
        expect(page.locator("#problem")).to_have_text("Choose a raster, or a file to upload.")
        page.select_option("#raster", "two.tif")
        page.locator("#new button[type=submit]").click()
        expect(page.locator("#problem")).to_contain_text("2 bands")
        assert page.locator("#new button[type=submit]").is_enabled()
    finally:
        page.close()
