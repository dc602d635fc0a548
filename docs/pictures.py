"""Draw the documentation's pictures and run its notebooks, all from a finished demo study.

``python docs/pictures.py --study demo`` takes the pictures of ``docs/images/`` from the study's report page, in
Chromium, and the map over an image from ``levelground predict``. ``--notebooks`` runs the notebooks in a temporary
folder and keeps their outputs, reduced.
"""

import argparse
import base64
import io
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageOps
from playwright.sync_api import Locator, Page, sync_playwright

from levelground.cli import main as levelground

DOCS = Path(__file__).parent
IMAGES, NOTEBOOKS = DOCS / "images", ("training", "evaluation", "visualisation")
LIMIT = 2_000_000  # bytes of all pictures together
SIDE = 1000  # px, the widest picture in a notebook


@contextmanager
def opened(page_file: Path, width: int, height: int, scheme: str = "light") -> Iterator[Page]:
    """Open a page in Chromium at a width, in a colour scheme, at twice the pixels."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("pictures: no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        context = started.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=2, color_scheme=scheme
        )
        page = context.new_page()
        page.goto(page_file.resolve().as_uri())
        page.locator("#v-reading li").first.wait_for()
        yield page
        started.close()


def save(picture: bytes | Image.Image, name: str, *, width: int, quality: int = 82) -> None:
    """Write a picture as WebP, no wider than ``width`` pixels."""
    image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    IMAGES.mkdir(exist_ok=True)
    image.save(IMAGES / f"{name}.webp", quality=quality, method=6)


def most_varied(scenes: list[dict[str, Any]]) -> int:
    """Return the position of the scene whose true classes are spread most evenly."""

    def entropy(scene: dict[str, Any]) -> float:
        total = sum(scene["class_pixels"])
        shares = [pixels / total for pixels in scene["class_pixels"] if pixels]
        return -sum(share * math.log(share) for share in shares)

    return max(range(len(scenes)), key=lambda n: entropy(scenes[n]))


def with_margin(locator: Locator, margin: int = 24) -> Image.Image:
    """Return a screenshot of an element with some of its own ground around it."""
    image = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return ImageOps.expand(image, margin, image.getpixel((0, 0)))


def page_pictures(study: Path, scene: int) -> None:
    """Take the pictures that are parts of the report page."""
    report = study / "report.html"
    with opened(report, 1100, 880) as page:
        save(page.screenshot(), "report", width=1400)
        save(with_margin(page.locator("#verdicts")), "forest", width=1400)
    with opened(report, 390, 780, "dark") as page:
        save(page.screenshot(), "report-phone-dark", width=600)
    with opened(report, 900, 1000) as page:
        page.select_option("#v-scene", str(scene))
        page.select_option("#v-left", "run0")
        page.select_option("#v-right", "image")
        page.locator("#v-sweep").fill("560")
        save(page.locator("#v-stage").screenshot(), "slider", width=900)
    with opened(report, 720, 900) as page:
        # the list lays itself out lazily, and would move under the camera
        page.evaluate("for (const e of document.querySelectorAll('.scene')) e.style.contentVisibility = 'visible'")
        details = page.locator(f"details.scene[data-index='{scene}']")
        details.evaluate("element => { element.open = true; }")
        details.evaluate("element => Promise.all([...element.querySelectorAll('img')].map(image => image.decode()))")
        page.wait_for_timeout(500)  # decoded is not painted yet
        save(with_margin(details.locator(".pictures")), "errors", width=1400)


def map_picture(study: Path, run: str, image: Path) -> None:
    """Predict one image and take the map laid over it, with its legend."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--out", folder, "--overlay", "--picture-side", "1024"]
        if levelground(["predict", str(study / "runs" / run), str(image), *flags]):
            raise SystemExit("pictures: the prediction failed")
        save(Image.open(next(Path(folder).glob("*_overlay.png"))), "map", width=900)


def small_png(encoded: str) -> str:
    """Return a PNG of an output, in base64, with at most 128 colours and ``SIDE`` pixels across."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    kept = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def cleaned(output: dict[str, Any], folder: str) -> dict[str, Any] | None:
    """Return an output without what changes from run to run: progress lines, execution counts, the folder's path."""
    if output.output_type == "stream" and output.name == "stderr":
        return None
    text = json.dumps(output).replace(folder + "/", "").replace(folder, ".")
    output = nbformat.from_dict(json.loads(re.sub(r" at 0x[0-9a-f]+", "", text)))
    if "execution_count" in output:
        output.execution_count = None
    if "image/png" in output.get("data", {}):
        output.data["image/png"] = small_png(output.data["image/png"])
        output.metadata = {}
    return output


def joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs with printed lines, which the console gives one by one as HTML, joined to plain text."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        data = output.get("data", {})
        if data.get("text/html", "").startswith('<pre style="white-space:pre'):
            plain = re.sub(r"\x1b\[[0-9;]*m", "", data["text/plain"])
            output = nbformat.v4.new_output("stream", name="stdout", text=plain)
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def run_notebooks() -> None:
    """Run the notebooks in their order, in one temporary folder, and write their outputs into them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in NOTEBOOKS:
            path = DOCS / "notebooks" / f"{name}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
            for cell in notebook.cells:
                cell.metadata = {}
                if cell.cell_type == "code":
                    outputs = (cleaned(output, str(Path(folder).resolve())) for output in cell.outputs)
                    cell.outputs, cell.execution_count = joined([output for output in outputs if output]), None
            notebook.metadata.pop("language_info", None)
            nbformat.write(notebook, path)
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size / 1000:.0f} kB\n")


def main() -> int:
    """Draw all pictures; run the notebooks where asked; 1 where the pictures are too large."""
    parser = argparse.ArgumentParser(description="Draw the documentation's pictures from a finished demo study.")
    parser.add_argument("--study", type=Path, help="folder that `levelground demo` made")
    parser.add_argument("--notebooks", action="store_true", help="run the notebooks and keep their outputs")
    options = parser.parse_args()
    if options.study:
        comparison = json.loads((options.study / "comparison.json").read_text(encoding="utf-8"))
        scenes, runs = comparison["scenes"], comparison["runs"]
        scene, best = most_varied(scenes), max(runs, key=lambda run: run["value"])
        page_pictures(options.study, scene)
        map_picture(options.study, best["name"], options.study / "scenes" / f"{scenes[scene]['id']}_sat.jpg")
    if options.notebooks:
        run_notebooks()
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.iterdir())}
    sys.stdout.writelines(f"images/{name}: {size / 1000:.0f} kB\n" for name, size in sizes.items())
    return 1 if sum(sizes.values()) > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
