"""The report page in a real browser: nothing overlaps, the slider works by mouse, touch and keys, script or not."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders.fake_study import build_fake_study
from playwright.sync_api import Browser, BrowserContext, Page

from levelground.reporting.page import render_report

pytestmark = pytest.mark.usefixtures("browser")
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three architectures, two seeds and six scenes, one of them with a long id."""
    folder = tmp_path_factory.mktemp("study")
    scenes = ("119", "6399", "a rather long name of a place/part 7", "104113", "180902", "482365")
    study = build_fake_study(folder, scenes=scenes, adopted="a-network-of-another-tool-with-a-long-name")
    return render_report(study.comparison, folder, folder / "report.html", scenes=study)


class Seen:
    """A page that is open, and what it complained of or asked for."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def seen(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Seen]:
    """The report at phone and at desktop width; at the end it must not have complained."""
    context = browser.new_context(viewport=request.param, has_touch=request.param is PHONE)
    opened = Seen(context, report)
    opened.page.locator("#v-reading li").first.wait_for()
    yield opened
    faults = opened.faults
    context.close()
    assert faults == []


def _sweep_share(page: Page) -> float:
    """Where the slider's line stands, as a share of the picture's width."""
    return float(
        page.evaluate(
            """() => {
              const stage = document.getElementById("v-stage").getBoundingClientRect();
              const line = document.querySelector("#v-stage .line").getBoundingClientRect();
              return (line.left + line.width / 2 - stage.left) / stage.width;
            }"""
        )
    )


def test_page_asks_for_nothing(seen: Seen) -> None:
    """Only the file itself is loaded; all else is inside it."""
    assert [url for url in seen.asked if not url.startswith("data:")] == [seen.page.url]


def test_page_is_as_wide_as_the_window(seen: Seen) -> None:
    """Nothing sticks out sideways, folded parts unfolded; wide tables scroll in their own frames."""
    seen.page.evaluate(UNFOLD)
    assert seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


UNFOLD = """() => document.querySelectorAll("details").forEach((part) => {
  part.open = true;
  part.style.contentVisibility = "visible"; // lay out what lies below the window too
})"""

OVERLAPS = """() => {
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const clipped = (element) => element && getComputedStyle(element).clipPath !== "none"; // for screen readers only
  const hidden = (element) => element.closest(".unseen, .skip, #v-stage, select") || clipped(element.closest("thead"));
  const texts = [...document.querySelectorAll("main *, header *, nav *, footer *")]
    .filter((element) => own(element) && shown(element) && !hidden(element) && element.tagName !== "TITLE");
  const boxes = texts.map((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1)
      .map((box) => {
        const frame = element.closest(".wide")?.getBoundingClientRect(); // beyond its edge a wide table is cut
        const right = Math.min(box.right, frame?.right ?? Infinity) - 1;
        return { element, left: box.left + 1, right, top: box.top + 3, bottom: box.bottom - 3 };
      })
      .filter((box) => box.right > box.left);
  }).flat().sort((a, b) => a.top - b.top);
  const found = [];
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom; j++) {
      const b = boxes[j];
      if (a.left >= b.right || b.left >= a.right) continue;
      if (a.element.contains(b.element) || b.element.contains(a.element)) continue;
      found.push([a, b].map((box) => box.element.textContent.trim().slice(0, 40)).join(" | "));
    }
  });
  return found;
}"""


def test_no_text_lies_on_other_text(seen: Seen) -> None:
    """No two texts overlap, folded parts unfolded."""
    seen.page.evaluate(UNFOLD)
    assert seen.page.evaluate(OVERLAPS) == []


def test_slider_follows_pointer_and_keys(seen: Seen) -> None:
    """A press moves the line there, dragging moves it on, arrow keys step."""
    stage = seen.page.locator("#v-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    seen.page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    seen.page.mouse.down()
    assert _sweep_share(seen.page) == pytest.approx(0.25, abs=0.02)
    seen.page.mouse.move(box["x"] + 0.8 * box["width"], middle, steps=4)
    assert _sweep_share(seen.page) == pytest.approx(0.8, abs=0.02)
    seen.page.mouse.up()
    before = _sweep_share(seen.page)
    seen.page.locator("#v-sweep").press("ArrowLeft")
    assert _sweep_share(seen.page) == pytest.approx(before - 0.02, abs=0.005)


def test_touch_moves_the_slider(browser: Browser, report: Path) -> None:
    """A tap on a phone moves the line to the finger and reads the classes under it."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = Seen(context, report).page
    page.locator("#v-reading li").first.wait_for()
    page.locator("#v-stage").scroll_into_view_if_needed()
    box = page.locator("#v-stage").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.wait_for_timeout(100)
    assert _sweep_share(page) == pytest.approx(0.3, abs=0.02)
    assert re.match(r"row \d+, column \d+", page.locator("#v-reading li").first.inner_text())
    context.close()


def test_any_two_layers_of_any_scene_can_be_swept(seen: Seen) -> None:
    """Each choice changes what is seen: scene, left, right; swapping swaps; errors show orange."""
    page = seen.page
    page.select_option("#v-scene", "2")
    page.select_option("#v-left", "err1")
    page.select_option("#v-right", "truth")
    page.wait_for_timeout(200)
    assert page.locator("#v-left-name").inner_text().endswith("errors")
    assert page.locator("#v-right-name").inner_text() == "truth"
    colours = page.evaluate(
        """() => ["v-over", "v-under"].map((id) => {
          const canvas = document.getElementById(id);
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          const found = new Set();
          for (let i = 0; i < pixels.length; i += 4) found.add(`${pixels[i]},${pixels[i + 1]},${pixels[i + 2]}`);
          return [...found];
        })"""
    )
    assert "255,138,61" in colours[0]
    assert {"255,255,0", "0,0,255"} <= set(colours[1])
    page.click("#v-swap")
    assert page.locator("#v-left-name").inner_text() == "truth"
    page.click("#v-next")
    assert page.input_value("#v-scene") == "3"


def test_pointer_reads_the_class_of_each_layer(seen: Seen) -> None:
    """Under the pointer stand the names of the true class and of both layers' classes, and whether they are right."""
    page = seen.page
    page.select_option("#v-left", "run0")
    page.select_option("#v-right", "run2")
    page.locator("#v-sweep").focus()
    page.keyboard.press("ArrowDown")
    texts = page.locator("#v-reading li").all_inner_texts()
    assert len(texts) == 4
    names = "Urban land|Agriculture land|Rangeland|Forest land|Water|Barren land|Unknown|no data"
    assert re.fullmatch(rf"truth: ({names})", texts[1])
    assert all(re.search(rf": ({names})( ✓| ✗ wrong)?$", text) for text in texts[2:])
    assert "% left. row" in (page.get_attribute("#v-sweep", "aria-valuetext") or "")


def test_highlighting_a_class_fades_the_others(seen: Seen) -> None:
    """A click on a class in the legend is a toggle that can be seen and is said."""
    button = seen.page.locator(".class-keys button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


def test_scenes_are_sorted_and_filtered(seen: Seen) -> None:
    """By score, disagreement or one run's lead, which each scene then shows; a class leaves out scenes without it."""
    page = seen.page
    page.select_option("#v-order", "worst")
    values = [float(text) for text in page.locator("details.scene .sorted-by").all_text_contents()]
    assert len(values) == 6 and values == sorted(values)
    page.select_option("#v-order", "unlike")
    shares = [float(text.split()[-2]) for text in page.locator("details.scene .sorted-by").all_text_contents()]
    assert shares == sorted(shares, reverse=True)
    page.select_option("#v-order", "ahead")
    page.select_option("#v-behind", "3")
    leads = [text.replace("−", "-") for text in page.locator("details.scene .sorted-by").all_text_contents()]
    assert [float(lead) for lead in leads] == sorted(map(float, leads), reverse=True)
    listed = page.locator("details.scene").evaluate_all("all => all.map((scene) => scene.dataset.index)")
    options = page.locator("#v-scene option").evaluate_all("all => all.map((option) => option.value)")
    assert options == listed and page.input_value("#v-scene") == listed[0]
    page.click("#v-next")
    assert page.input_value("#v-scene") == listed[1]
    page.select_option("#v-order", "given")
    assert page.locator("details.scene .sorted-by").first.text_content() == ""


def test_a_class_filters_the_scenes(browser: Browser, tmp_path: Path) -> None:
    """Scenes without it are left out and counted; a link from a chart to one of them shows all again."""
    study = build_fake_study(tmp_path)
    labels = [replace(scene, class_pixels=(9, 0 if n else 9, *scene.class_pixels[2:]))
              for n, scene in enumerate(study.comparison.scenes)]  # fmt: skip
    path = render_report(
        replace(study.comparison, scenes=tuple(labels)), tmp_path, tmp_path / "report.html", scenes=study
    )
    context = browser.new_context(viewport=DESKTOP)
    opened = Seen(context, path)
    page = opened.page
    page.locator("#v-reading li").first.wait_for()
    page.select_option("#v-class", "1")
    assert page.locator("details.scene:visible").count() == 1
    assert page.locator("#v-count").inner_text() == f"Scenes: 1 of {len(labels)}"
    page.click("#v-next")
    assert page.input_value("#v-scene") == "0"
    page.evaluate("location.hash = '#scene-2'")
    page.wait_for_timeout(200)
    assert page.locator("details.scene:visible").count() == len(labels)
    assert page.input_value("#v-scene") == "2"
    assert opened.faults == []
    context.close()


def test_wide_tables_say_that_they_scroll(browser: Browser, report: Path) -> None:
    """On a phone, in words above the table; on a wide window, which holds them, nothing is said."""
    shown = {}
    for width in (390, 1920):
        context = browser.new_context(viewport={"width": width, "height": 900})
        page = Seen(context, report).page
        page.locator("#v-reading li").first.wait_for()
        page.wait_for_timeout(200)
        shown[width] = page.evaluate(
            """() => [...document.querySelectorAll(".wide")].filter((e) => e.checkVisibility()).map((e) => [
              e.scrollWidth > e.clientWidth + 8, !!e.previousElementSibling?.matches(".scroll-note:not([hidden])"),
            ])"""
        )
        frames = page.evaluate("[...document.querySelectorAll('.wide')].map((e) => e.parentElement.className)")
        assert "matrices" not in frames  # the note would take a cell of their grid
        context.close()
    assert all(scrolls == said for rows in shown.values() for scrolls, said in rows)
    assert any(scrolls for scrolls, _ in shown[390])
    assert not any(scrolls for scrolls, _ in shown[1920])


def test_contents_are_short_on_a_phone(browser: Browser, report: Path) -> None:
    """Five links and the way to the others; on a desktop all of them."""
    context = browser.new_context(viewport=PHONE)
    page = Seen(context, report).page
    assert page.locator("nav a:visible").count() == 5
    page.locator('label[for="all-sections"]').click()
    assert page.locator("nav a:visible").count() >= 13
    page.set_viewport_size(DESKTOP)
    assert page.locator("nav a:visible").count() >= 13
    context.close()


def test_a_term_explains_itself_to_keys_and_fingers(browser: Browser, report: Path) -> None:
    """The explanation stands inside the window when the term has the focus."""
    context = browser.new_context(viewport=PHONE)
    page = Seen(context, report).page
    term = page.locator("abbr").first
    term.focus()
    shown = page.evaluate("getComputedStyle(document.activeElement, '::after').content")
    assert shown.strip('"') == term.get_attribute("title")
    context.close()


def test_click_on_a_picture_brings_it_to_the_slider(seen: Seen) -> None:
    """A prediction in the list of scenes becomes the left layer."""
    seen.page.locator("details.scene").nth(1).locator("summary").click()
    seen.page.locator("details.scene").nth(1).locator('img[data-layer="run1"]').click()
    assert seen.page.input_value("#v-scene") == "1"
    assert seen.page.input_value("#v-left") == "run1"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_reads_without_script(browser: Browser, report: Path, size: dict[str, int]) -> None:
    """With script off: tables, charts, matrices, pictures are there, the slider is not, and the switches work."""
    context = browser.new_context(viewport=size, java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert not page.locator("#viewer").is_visible()
    for part in ("#summary .forest", "#scores table", "#curves svg.area", "#speed svg.area", "details.scene img"):
        assert page.locator(part).first.is_visible()
    assert page.locator(".confusion .by-row").first.is_visible()
    page.locator('label[for="by-count"]').click()
    assert page.locator(".confusion .by-count").first.is_visible()
    assert not page.locator(".confusion .by-row").first.is_visible()
    context.close()


def test_theme_follows_the_system_and_the_switch(browser: Browser, report: Path) -> None:
    """The ground is light or dark as the system asks, and as the switch says, which is remembered."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="dark")
    page = Seen(context, report).page
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(21, 24, 27)"
    page.locator('label[for="theme-light"]').click()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    context.close()


CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      const parts = parse(colour);
      if (colour.startsWith("rgb") && (parts.length < 4 || parts[3] === 1)) return parts;
    }
    return [255, 255, 255];
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("main *, header *, nav *")]
    .filter((e) => own(e) && e.checkVisibility() && !e.closest("svg, .unseen, #v-stage"))
    .map((e) => {
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(browser: Browser, report: Path, scheme: str) -> None:
    """Every text has a contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3)."""
    context = browser.new_context(viewport=DESKTOP, color_scheme=scheme)
    page = Seen(context, report).page
    assert page.evaluate(CONTRASTS) == []
    context.close()


def test_every_control_has_a_name(browser: Browser, report: Path) -> None:
    """Buttons, fields and pictures all tell a screen reader what they are."""
    context = browser.new_context(viewport=DESKTOP)
    page = Seen(context, report).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, img, [role=img], [role=region]")]
          .filter((e) => !(e.getAttribute("aria-label") || e.alt || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    context.close()


def test_one_run_alone_has_a_working_page(browser: Browser, tmp_path: Path) -> None:
    """A single run: its prediction against the image and against the truth, and no complaint."""
    study = build_fake_study(tmp_path, archs={"unet": 0.2}, seeds=1, scenes=["only"])
    path = render_report(study.comparison, tmp_path, tmp_path / "report.html", scenes=study)
    context = browser.new_context(viewport=PHONE)
    opened = Seen(context, path)
    opened.page.locator("#v-reading li").first.wait_for()
    assert opened.page.locator("#v-left-name").inner_text() == "unet: prediction"
    assert opened.faults == []
    context.close()


def test_twenty_runs_fit_the_phone(browser: Browser, tmp_path: Path) -> None:
    """Twenty runs with long names neither stick out nor overlap."""
    archs = {f"deeplabv3plus-with-a-rather-long-name-{n}": 0.1 + 0.02 * n for n in range(10)}
    study = build_fake_study(tmp_path, archs=archs, scenes=("1", "2", "3"), size=40)
    path = render_report(study.comparison, tmp_path, tmp_path / "report.html", scenes=study)
    context = browser.new_context(viewport=PHONE)
    opened = Seen(context, path)
    opened.page.locator("#v-reading li").first.wait_for()
    opened.page.evaluate(UNFOLD)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert opened.page.evaluate(OVERLAPS) == []
    context.close()


def test_paper_shows_what_is_folded_and_no_controls(browser: Browser, report: Path) -> None:
    """Printed from the dark theme, the page is light, with the legend of the classes and their colours."""
    context = browser.new_context(color_scheme="dark")
    page = Seen(context, report).page
    page.locator("#v-reading li").first.wait_for()
    folded = page.locator("details:not([open])").count()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not any(page.locator(place).is_visible() for place in ("#viewer", ".theme", "nav", "#v-order"))
    assert page.locator(".class-legend .swatch").count() == 7 and page.locator(".class-legend").is_visible()
    look = "([place, name]) => getComputedStyle(document.querySelector(place))[name]"
    assert page.evaluate(look, ["body", "backgroundColor"]) == "rgb(255, 255, 255)"
    assert page.evaluate(look, [".swatch.c4", "printColorAdjust"]) == "exact"
    assert page.pdf()[:5] == b"%PDF-"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    context.close()
