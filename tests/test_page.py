"""The report page as text: everything is there, escaped, and nothing is loaded from outside."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from builders.fake_study import FakeStudy, build_fake_study, with_classes
from data.make_comparison import make_study
from markupsafe import escape

from levelground import wording
from levelground.comparison.record import Comparison, read_comparison
from levelground.imagery.legend import Legend, default_legend
from levelground.records import read_hashes
from levelground.reporting import gallery, run_styles
from levelground.reporting import page as page_module
from levelground.reporting.page import content_policy, explain_terms, render_report, report_html, safe_json
from levelground.runs import RunCard

HOSTILE = "a'\"><script>alert(1)</script>&amp; Поле\n\u2028{{ 7*7 }}"


class _Outline(HTMLParser):
    """Elements, ids and the addresses that a page would load."""

    VOID = frozenset({"meta", "img", "input", "br", "link", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.faults: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "srcset", "data", "action", "poster") or (name == "href" and tag != "a"):
                self.loads.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """Three architectures, two seeds, six scenes."""
    return build_fake_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def html(study: FakeStudy) -> str:
    """Its page."""
    return report_html(study.comparison, study.folder, scenes=study)


def _section(html: str, name: str) -> str:
    """The text between a section's tags."""
    return html.split(f'<section id="{name}">', 1)[1].split("</section>", 1)[0]


def test_elements_close_and_ids_are_unique(html: str) -> None:
    """Every element is closed where it should be, no id stands twice, every link inside the page leads somewhere."""
    outline = _Outline(html)
    assert (outline.faults, outline.open) == ([], [])
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)


def test_page_loads_nothing_and_carries_no_inline_handler(html: str) -> None:
    """Every address that a browser would load is a data URI; styles and handlers stand in no attribute."""
    outline = _Outline(html)
    assert outline.loads
    assert all(address.startswith("data:image/") for address in outline.loads)
    assert outline.inline == []
    assert not re.search(r"https?://|//cdn|@import|url\(", re.sub(r"data:[^\"]+", "", html))


def test_policy_names_style_and_script_by_hash(html: str) -> None:
    """The content security policy is that of exactly the page's own style and script."""
    style = html.split("<style>", 1)[1].split("</style>", 1)[0]
    script = html.rsplit("<script>", 1)[1].split("</script>", 1)[0]
    assert content_policy(style, script).replace("'", "&#39;") in html.split("<style>")[0]
    assert content_policy(style, script).startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in content_policy(style, script)


def test_sections_stand_in_order(html: str) -> None:
    """The summary comes first, the protocol and the terms last."""
    ids = re.findall(r'<section id="(\w+)">', html)
    assert ids == [
        "summary", "scores", "verdicts", "classes", "curves", "confusion", "scenes", "speed", "metrics", "cost",
        "calibration", "findings", "protocol", "glossary",
    ]  # fmt: skip


def _unmarked(html: str) -> str:
    """A page's text without the marks of explained terms."""
    return re.sub(r'<abbr tabindex="0" title="[^"]*">([^<]*)</abbr>', r"\1", html)


def test_summary_opens_with_the_headline(html: str, study: FakeStudy) -> None:
    """The title is the headline's first sentence, and the rest of it follows."""
    headline = next(item.text for item in study.comparison.findings if item.severity == "headline")
    title = re.search(r"<h1>(.*?)</h1>", html)
    assert title is not None
    assert headline.startswith(title.group(1))
    assert headline.endswith(re.findall(r'<p class="lead">(.*?)</p>', _unmarked(html))[0][-40:])


def test_every_finding_is_said(html: str, study: FakeStudy) -> None:
    """Each finding stands on the page once or more; warnings in the summary and among the findings."""
    for item in study.comparison.findings:
        if item.severity != "headline":
            assert escape(item.text) in _unmarked(html)


def test_scores_are_those_of_the_record(html: str, study: FakeStudy) -> None:
    """Each run's row holds its mIoU under each scoring with its interval."""
    table = _section(html, "scores")
    for run in study.comparison.runs:
        row = next(row for row in table.split("<tr>") if f'title="{run.name}"' in row)
        for scores in run.scores.values():
            assert scores.interval is not None
            low, high = scores.interval
            assert f"{scores.miou:.3f}" in row
            assert f"{low:.3f}–{high:.3f}" in row


def test_verdicts_are_words_and_read_from_both_sides(html: str, study: FakeStudy) -> None:
    """The matrix says in words what each row is against each column; what is better one way is worse the other."""
    rows = re.findall(r"<tr><th scope=\"row\">([^<]+)</th>(.*?)</tr>", _section(html, "verdicts").split("matrix")[-1])
    names = [name for name, _ in rows][:6]
    words = [
        [(re.findall(r'class="verdict (\w+)"', cell) or ["none"])[0] for cell in cells.split("<td")[1:]]
        for _, cells in rows[:6]
    ]
    opposite = {"better": "worse", "worse": "better", "equal": "equal", "undecided": "undecided"}
    assert len(set(names)) == 6
    arch = [name.split(" ")[0] for name in names]
    for i in range(6):
        for j in range(6):
            if arch[i] == arch[j]:  # seeds of one architecture are not compared
                assert words[i][j] == "none"
            else:
                assert words[j][i] == opposite[words[i][j]]


def test_every_verdict_has_its_word_and_sign(study: FakeStudy) -> None:
    """Better, worse, equal and undecided each read by word and sign, and the better-ranked run stands first."""
    first, second, third, fourth, *others = study.comparison.pairs
    pairs = (
        replace(first, verdict="better"),
        replace(second, verdict="worse"),
        replace(third, verdict="equal"),
        replace(fourth, verdict="undecided"),
        *others,
    )
    page = report_html(replace(study.comparison, pairs=pairs), study.folder, scenes=study)
    for word, sign in (("better", "▲"), ("worse", "▼"), ("equal", "="), ("undecided", "?")):
        assert f'class="verdict {word}"><span class="sign" aria-hidden="true">{sign}</span> {word}</span>' in page
    ranks = study.comparison.metric_sensitivity[0].ranks
    ranked = [study.comparison.labels[name] for name in sorted(ranks, key=lambda name: ranks[name] or 0)]
    named = re.findall(r'row">([^<]+) <span class="quiet">against</span> ([^<]+)<', page)
    pairs_of_runs = [pair for pair in named if pair[0] in ranked]
    assert len(pairs_of_runs) == 12
    for better, worse in pairs_of_runs:
        assert ranked.index(better) < ranked.index(worse)


def test_confusion_shows_shares_of_true_class_of_predicted_class_and_pixels(html: str, study: FakeStudy) -> None:
    """All three readings stand in each cell, and rows of shares add to about 100."""
    table = _section(html, "confusion").split("<table")[1]
    row = table.split("<tr>")[2]
    shares = [int(text) for text in re.findall(r'by-row l\d+">(\d+)<', row)]
    assert sum(shares) == pytest.approx(100, abs=3)
    assert row.count("by-column") == row.count("by-count") == 7


def test_flips_of_the_ranking_are_named(study: FakeStudy) -> None:
    """A pair that another metric ranks otherwise is named in that metric's row, with an arrow at the ranks."""
    primary, row, *others = study.comparison.metric_sensitivity
    first, second = sorted(primary.ranks, key=lambda name: primary.ranks[name] or 0)[:2]
    turned = replace(row, ranks={**row.ranks, first: 2, second: 1}, flips=((first, second),))
    changed = replace(study.comparison, metric_sensitivity=(primary, turned, *others))
    text = _section(report_html(changed, study.folder, scenes=study), "metrics")
    labels = study.comparison.labels
    assert f"{labels[second]} above {labels[first]}" in text
    assert "▲ rank 1" in text
    assert "▼ rank 2" in text


def test_hostile_names_stay_text(study: FakeStudy) -> None:
    """Ids, labels, class names, findings and card values with markup in them are shown and not obeyed."""
    known = study.comparison
    run, scene, finding = known.runs[0], known.scenes[0], known.findings[0]
    hostile = replace(
        known,
        scenes=(replace(scene, id=HOSTILE), *known.scenes[1:]),
        runs=(replace(run, label=HOSTILE, card=replace(run.card, hardware=HOSTILE)), *known.runs[1:]),
        legend=_renamed(known.legend, 2, "</script><b onclick='x'>"),
        findings=(replace(finding, text=HOSTILE), *known.findings[1:]),
    )
    opened = {HOSTILE: study.scenes["119"], **study.scenes}
    page = report_html(hostile, study.folder, scenes=FakeStudy(study.folder, hostile, opened))
    outline = _Outline(page)
    assert (outline.faults, outline.open) == ([], [])
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "49" not in page.split("<h1>")[1].split("</h1>")[0]
    assert outline.inline == []
    assert page.count(str(escape("<b onclick='x'>"))) > 10
    assert page.count(str(escape('"><script>alert(1)'))) > 10


def _renamed(legend: Legend, index: int, name: str) -> Legend:
    classes = [replace(entry, name=name, name_ru=name) if entry.index == index else entry for entry in legend.classes]
    return replace(legend, classes=tuple(classes))


def test_unpaired_surrogates_do_not_stop_the_page(study: FakeStudy, tmp_path: Path) -> None:
    """A file name that is no UTF-8 becomes a question mark instead of an error."""
    first, *others = study.comparison.runs
    changed = replace(study.comparison, runs=(replace(first, label="bad\udcffname"), *others))
    out = render_report(changed, study.folder, tmp_path / "report.html", scenes=study)
    assert "bad?name" in out.read_text(encoding="utf-8")


def test_of_many_scenes_some_are_chosen_and_the_others_have_pages(
    study: FakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six scenes three: a low score, a large spread, one more; pages of an earlier report are gone."""
    monkeypatch.setattr(gallery, "MOST_SCENES", 5)
    monkeypatch.setattr(gallery, "CHOSEN_SCENES", 3)
    (tmp_path / "report-scenes").mkdir()
    (tmp_path / "report-scenes" / "00099.html").touch()
    out = render_report(study.comparison, study.folder, tmp_path / "report.html", scenes=study)
    page, ids = out.read_text(encoding="utf-8"), [scene.id for scene in study.comparison.scenes]
    means = np.mean([run.scene_miou for run in study.comparison.runs], axis=0)
    shown = re.findall(r"<summary>(\S+) <span class=\"quiet sorted-by", page)
    assert len(shown) == 3
    assert ids[int(np.argmin(means))] in shown
    others = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "report-scenes").iterdir()}
    assert sorted(others) == [f"{number:05d}.html" for number, name in enumerate(ids) if name not in shown]
    for name, text in others.items():
        outline = _Outline(text)
        assert f'href="report-scenes/{name}"' in page
        assert f"<h1>{ids[int(name[:5])]}</h1>" in text
        assert (outline.faults, outline.open, outline.inline) == ([], [], [])
        assert len(outline.loads) == 2 + 2 * len(study.comparison.runs)
        assert all(load.startswith("data:image/webp") for load in outline.loads)
    assert {*read_hashes(tmp_path / "report.hashes.json")} == {
        "report.html",
        *(f"report-scenes/{one}" for one in others),
    }


def test_of_many_runs_the_best_are_shown(study: FakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six runs, of which four are shown in detail and two are pictured; the score table holds all."""
    for module in (page_module, run_styles):
        monkeypatch.setattr(module, "SHOWN_RUNS", 4)
    monkeypatch.setattr(run_styles, "PICTURED_RUNS", 2)
    page = report_html(study.comparison, study.folder, scenes=study)
    assert "the 4 of 6 runs with the highest scores, and pictures of the first 2;" in page
    assert _section(page, "scores").count('<th scope="row">') == 6
    assert _section(page, "protocol").count("<details") == 4
    assert _section(page, "scenes").count('data-layer="err') == 2 * len(study.comparison.scenes)
    assert _section(page, "confusion").count("<table") == 4


def test_json_cannot_end_its_element() -> None:
    """No character of the data block is one that HTML reads, and it is still the same JSON."""
    value = {"name": "</script><!--\u2028&", "runs": ["<b>"]}
    text = str(safe_json(value))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_one_run_alone_makes_a_page(tmp_path: Path) -> None:
    """One run on one group: no pair, no interval, and the page says so."""
    study = build_fake_study(tmp_path, archs={"unet": 0.2}, seeds=1, groups=["one"] * 6)
    page = report_html(study.comparison, tmp_path, scenes=study)
    assert not study.comparison.pairs
    assert "<table" not in _section(page, "verdicts")
    assert "one_group" in {finding.code for finding in study.comparison.findings}
    assert _Outline(page).faults == []


def test_long_legends_show_the_classes_with_most_pixels(study: FakeStudy) -> None:
    """With 255 classes a matrix shows those that hold most pixels, and says so."""
    counts = np.zeros((255, 255), int)
    np.fill_diagonal(counts, np.arange(255))
    long = with_classes(study.comparison, default_legend(255), counts.tolist())
    text = _section(report_html(long, study.folder, scenes=FakeStudy(study.folder, long, {})), "confusion")
    assert re.search(r"\b255\b.*\b30\b", text.split("<table")[0])
    assert "class 225" in text
    assert "class 224" not in text


def test_adopted_run_without_history_or_card_is_drawn_like_any_other(tmp_path: Path) -> None:
    """What an adopted run does not know is a dash; its curves are missing and the page says how many are drawn."""
    study = build_fake_study(tmp_path, seeds=1, adopted="sam-of-another-tool")
    page = report_html(study.comparison, tmp_path, scenes=study)
    assert "3 of 4 runs" in page
    assert "sam-of-another-tool" in _section(page, "cost")
    assert "adopted" in _section(page, "protocol")


def test_twenty_runs_with_long_names_unfold(tmp_path: Path) -> None:
    """Many pairs and matrices fold away; each run keeps a colour of its own."""
    archs = {f"deeplabv3plus-with-a-rather-long-name-{n}": 0.1 + 0.02 * n for n in range(10)}
    study = build_fake_study(tmp_path, archs=archs, scenes=("1", "2", "3"), size=40)
    page = report_html(study.comparison, tmp_path, scenes=study)
    assert "165 more pairs" in page
    assert "16 more runs" in page
    colours = re.findall(r"\.r\d+\{--run:light-dark\((#\w+),(#\w+)\)\}", page)
    assert len(colours) == 20
    assert len({light for light, _ in colours}) == len({dark for _, dark in colours}) == 20


def test_scenes_that_are_gone_are_named(study: FakeStudy) -> None:
    """Without a data set beside it the page still stands."""
    page = report_html(study.comparison, study.folder)
    assert ", ".join(scene.id for scene in study.comparison.scenes) in _section(page, "scenes")
    assert _Outline(page).faults == []


def test_runs_of_another_folder_are_found_where_the_record_says(study: FakeStudy, html: str, tmp_path: Path) -> None:
    """A comparison that was written elsewhere names its runs' folders: curves and predictions come from there."""
    runs = tuple(replace(run, folder=str(study.folder / "runs" / run.name)) for run in study.comparison.runs)
    page = report_html(replace(study.comparison, runs=runs), tmp_path, scenes=study)
    assert page == html


def _bare_card(card: RunCard) -> RunCard:
    """A card with nothing that it need not have."""
    return RunCard(
        name=card.name, status="adopted", arch="unknown", encoder="unknown", seed=None,
        legend_sha256=card.legend_sha256, identity=card.identity,
    )  # fmt: skip


def _without(known: Comparison) -> Iterator[tuple[str, Comparison]]:
    """The comparison, each time without something that it need not have."""
    nothing = replace(known.dataset, scenes=None, train=None, val=None, test=None, layout=None, n_test_groups=None)
    yield "dataset", replace(known, dataset=nothing, split_rule=None)
    yield "findings", replace(known, findings=(), power=None)
    yield "protocol", replace(known, protocol={}, protocol_differences=())
    yield "pairs", replace(known, pairs=(), architectures=(), architecture_pairs=(), pareto_front=())
    yield "metric sensitivity", replace(known, metric_sensitivity=())
    speed = replace(known.runs[0].throughput, predict_megapixels_per_s=None, interval=None, train_images_per_s=None)
    parts = {
        "throughput": speed,
        "calibration": None,
        "boundary": None,
        "loss": None,
        "seed": None,
        "convergence": None,
    }
    bare = (replace(run, card=_bare_card(run.card), **parts) for run in known.runs)
    yield "parts of runs", replace(known, runs=tuple(bare), pareto_front=())
    empty = (replace(run, value=None, interval=None, scene_miou=(None,) * len(known.scenes)) for run in known.runs)
    yield "values", replace(known, runs=tuple(empty), pareto_front=())
    gaps = tuple(replace(pair, interval=None, p=None, p_holm=None, delta=None) for pair in known.pairs)
    yield "pairs' intervals", replace(known, pairs=gaps)
    entries = (replace(entry, value=None, interval=None, ranked_first=None) for entry in known.architectures)
    yield "values of architectures", replace(known, architectures=tuple(entries))


def test_anything_optional_may_be_missing(study: FakeStudy) -> None:
    """A comparison makes a page whatever it does not know."""
    nothing = FakeStudy(study.folder, study.comparison, {})
    for name, comparison in _without(study.comparison):
        page = report_html(comparison, study.folder, scenes=nothing)
        assert _Outline(page).faults == [], name
        assert not re.search(r"\b(None|nan)\b", re.sub("(?s)<(style|script).*?</(style|script)>", "", page)), name


def test_page_is_the_same_every_time(study: FakeStudy, html: str) -> None:
    """The page holds nothing of the time or place of its making."""
    assert report_html(study.comparison, study.folder, scenes=study) == html
    assert str(study.folder) not in html


GOLD = Path(__file__).parent / "gold"
RECORD = Path(__file__).parent / "data" / "comparison.json"


@pytest.fixture(scope="module")
def recorded_study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """The study of ``tests/data/comparison.json``."""
    return make_study(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize(("language", "name"), [("en", "report.html"), ("ru", "report.ru.html")])
def test_page_is_the_one_seen_and_approved(
    recorded_study: FakeStudy, renew_gold: bool, language: str, name: str
) -> None:
    """The page of ``tests/data/comparison.json`` equals ``tests/gold/report.html``, but for pictures, style and script.

    After a change that is meant: ``make gold``, then read the difference before committing it. The record is made by
    ``tests/data/make_comparison.py`` and needs no renewal when only numbers or sentences of other parts change.
    """
    with wording.language(language):
        page = report_html(read_comparison(RECORD), recorded_study.folder, scenes=recorded_study)
    page = re.sub(r"data:image/(\w+);base64,[A-Za-z0-9+/=]+", r"data:image/\1", page)
    page = re.sub(r"(<style>|<script>).*?(</style>|</script>)", r"\1…\2", page, flags=re.DOTALL)
    page = re.sub(r"sha256-[A-Za-z0-9+/=]+", "sha256-…", page)
    if renew_gold:
        (GOLD / name).write_text(page, encoding="utf-8")
    assert page == (GOLD / name).read_text(encoding="utf-8")


class _Texts(HTMLParser):
    """The texts that a reader or a screen reader meets, but for those marked as English."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        hidden = (bool(self.open) and self.open[-1][1]) or values.get("lang") == "en" or tag in ("style", "script")
        if not hidden:
            self.texts += [values[name] or "" for name in ("aria-label", "title", "alt") if name in values]
        if tag not in _Outline.VOID:
            self.open.append((tag, hidden))

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Hold no text."""

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1][1]):
            self.texts.append(data)


UNITS = (
    "levelground", "IoU", "mIoU", "FWIoU", "F1", "MAC", "Dice", "p", "P", "t", "k", "M", "G", "px", "Cheng et al",
    "auto", "official", "kept", "all", "official.miou", "imagenet", "groups.csv", "cpu", "cuda", "fp32", "bf16",
    "val_miou", "val_loss", "last", "--steps 240", "bf16-mixed", "seed",
)  # fmt: skip
"""Units, codes and names that a Russian page has in Latin letters."""


def test_a_russian_page_says_nothing_in_english(html: str, study: FakeStudy) -> None:
    """Every text on it is Russian, but for names, units and codes; class names and numbers are Russian too."""
    comparison = study.comparison
    with wording.language("ru"):
        page = report_html(comparison, study.folder, scenes=study)
    names = [*comparison.labels.values(), *comparison.labels, *(run.arch for run in comparison.runs)]
    names += [run.card.recipe.name for run in comparison.runs if run.card.recipe]
    names += [str(value) for run in comparison.runs for value in (run.card.device, run.card.hardware)]
    names += comparison.legend.names  # beside the Russian ones, for those who have the English
    known = sorted({*names, *UNITS}, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(name)}(?![\w])" for name in known))
    texts = [text for text in _Texts(page).texts if text.strip()]
    assert len(texts) > 500
    left = {text.strip(): re.findall(r"[A-Za-z]{2,}", pattern.sub("", text)) for text in texts}
    assert {text: words for text, words in left.items() if words} == {}
    marks = [text for text in texts if re.search(r"\d\.\d", text) and comparison.version not in text]
    assert marks == []
    assert '<html lang="ru">' in page
    for entry in comparison.legend.classes:
        assert f">{entry.name_ru}<" in page
    assert report_html(comparison, study.folder, scenes=study) == html  # English again


def test_templates_hold_no_text_outside_the_catalogue() -> None:
    """Each text of a template is a message, so that no language misses it."""
    folder = Path(page_module.__file__).parent / "templates"
    found = {}
    for path in folder.glob("*.html*"):
        text = re.sub(r"{{.*?}}|{%.*?%}|{#.*?#}", "\0", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        bare = re.findall(r">([^<>]*)<", text) + re.findall(r'(?:aria-label|title|alt)="([^"]*)"', text)
        words = [one.strip() for one in bare if re.search(r"[A-Za-z]{2,}", one)]
        found[path.name] = [one for one in words if one not in ("levelground", "\0 – levelground", "mIoU\0")]
    assert {name: words for name, words in found.items() if words} == {}


def test_terms_are_explained_where_they_first_stand(html: str) -> None:
    """Each term of the glossary that the page uses is marked once, before any other use in running text."""
    body = html.split("<main>", 1)[1].split('<section id="glossary">', 1)[0]
    marked = re.findall(r'<abbr tabindex="0" title="([^"]+)">([^<]+)</abbr>', body)
    terms = [term.lower() for _, term in marked]
    assert {"miou", "95 % interval", "undecided", "p (holm)", "macs", "parameters"} <= set(terms)
    assert len(terms) == len(set(terms))
    assert {term: text for text, term in marked}["p (Holm)"].startswith("How often swapping the results")
    assert not re.search(r"<(h1|h2|a|option|summary)\b[^>]*>[^<]*<abbr", body)


def test_a_term_is_marked_once_and_outside_of_links() -> None:
    """Longer terms win over those that they hold; plurals and capitals are the same term; markup stays as it was."""
    page = (
        '<main><h2>IoU</h2><p title="IoU">a <a href="#x">IoU</a>, Groups of mIoU &lt; IoU, IoU</p>'
        '<section id="glossary"><dl><dt>IoU</dt><dd>a "share"</dd><dt>mIoU</dt><dd>its <em>mean</em></dd>'
        "<dt>Group</dt><dd>scenes</dd></dl></section></main>"
    )
    text = explain_terms(page)
    assert text.startswith(
        '<main><h2>IoU</h2><p title="IoU">a <a href="#x">IoU</a>, <abbr tabindex="0" title="scenes">'
    )
    assert '<abbr tabindex="0" title="its mean">mIoU</abbr> &lt; ' in text
    assert text.count("<abbr") == 3
    assert '<abbr tabindex="0" title="a &quot;share&quot;">IoU</abbr>, IoU</p>' in text


def test_the_script_knows_what_orders_the_scenes(study: FakeStudy, html: str) -> None:
    """Scores by run, the disagreement of the runs, and the classes that a scene has, in the order of the pictures."""
    data = json.loads(html.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert [scene["id"] for scene in data["scenes"]] == [scene.id for scene in study.comparison.scenes]
    best = study.comparison.ranked_runs[0]
    assert [scene["scores"][0] for scene in data["scenes"]] == [round(value, 4) for value in best.scene_miou if value]
    assert all(0 < scene["unlike"] < 1 for scene in data["scenes"])
    for scene, row in zip(data["scenes"], study.comparison.scenes, strict=True):
        assert scene["classes"] == [k for k, pixels in enumerate(row.class_pixels) if pixels]
