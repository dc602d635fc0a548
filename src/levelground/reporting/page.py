"""The report page: one offline HTML file of a comparison, or of a benchmark over several data sets.

The page formats and draws; it computes no statistics. The file loads nothing: style and script are inside and named by
hash in a content security policy that forbids everything else; pictures are data URIs. Texts from outside (ids, names,
sentences) are escaped.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from levelground.comparison.benchmark_record import Benchmark, benchmark_tables, metric_of, ranks_between
from levelground.comparison.compare import in_current_language
from levelground.comparison.record import Comparison
from levelground.comparison.text import between, p_number, score, verdict_word
from levelground.files import in_turn
from levelground.imagery.legend import Legend
from levelground.records import HASHES_FILE, atomic_path, write_hashes
from levelground.reporting import cost_table, pairwise, per_class, summary
from levelground.reporting.gallery import (
    Gallery,
    SceneSource,
    study_gallery,
    study_scenes,
    viewer_data,
    write_scene_pages,
)
from levelground.reporting.learning_curves import (
    BudgetRow,
    CurveChart,
    budget_chart,
    budget_rows,
    curve_charts,
    curve_runs,
)  # fmt: skip
from levelground.reporting.run_styles import (
    SHOWN_RUNS,
    StyledRun,
    metric_title,
    pictured_runs,
    run_style,
    styled_runs,
)
from levelground.reporting.svg_charts import axis_strip, interval_strip, key_symbol, scale_over
from levelground.wording import current_language, decimal, gettext, ngettext, pgettext, whole


@dataclass(frozen=True)
class VerdictsView:
    """Verdicts about runs, and about architectures where each has seeds, with the differences by class."""

    run_labels: list[str]
    run_matrix: list[list[pairwise.VerdictCell | None]]
    run_pairs: pairwise.PairForest | None
    architectures: list[list[str]]
    architecture_names: list[str]
    architecture_matrix: list[list[pairwise.VerdictCell | None]]
    architecture_pairs: pairwise.PairForest | None
    least_p: str
    differences: per_class.ClassDifferences | None


@dataclass(frozen=True)
class PageView:
    """Variables of the page template, by name."""

    comparison: Comparison
    runs: list[StyledRun]
    pictured: int
    title: str
    lead: str
    metric: str
    delta: str
    findings: list[str]
    warnings: list[str]
    decide: str
    facts: list[tuple[str, str]]
    ranking: summary.Forest
    run_forest: summary.Forest
    scores: list[summary.ScoreRow]
    other_columns: list[str]
    verdicts: VerdictsView
    classes: per_class.ClassChart
    confusions: list[per_class.ConfusionTable]
    scene_scores: dict[tuple[int, str], str]
    colours: str
    curves: list[CurveChart]
    budgets: list[BudgetRow]
    budget_chart: Markup | None
    gallery: Gallery
    by_scene: list[per_class.SceneDifferences]
    heat: per_class.SceneHeat | None
    speed: cost_table.SpeedChart | None
    metrics: list[summary.MetricTableRow]
    costs: cost_table.CostTable
    tunings: list[tuple[str, str]]
    calibrations: list[cost_table.CalibrationChart]
    protocol: list[cost_table.ProtocolField]
    unlike: list[cost_table.UnlikeRow]
    cards: list[list[tuple[str, str]]]
    viewer_data: Markup


def render_report(comparison: Comparison, study_folder: Path, out: Path, *, scenes: SceneSource | None = None) -> Path:
    """Write the report page.

    Args:
        comparison: The comparison.
        study_folder: Folder of ``runs/`` and ``dataset.json``.
        out: The HTML file to write.
        scenes: Opens images and labels; by default the study's data set. The page names scenes that cannot be opened
            in place of their pictures.
    Returns:
        ``out``.
    Raises:
        DiskError: The file cannot be written.
    """
    own_pages = out.with_name(f"{out.stem}-scenes")
    shown = in_current_language(comparison)
    runs = pictured_runs(styled_runs(shown))
    folders = [run.folder(study_folder) for run in runs]
    source = scenes or study_scenes(study_folder, folders)
    html = report_html(comparison, study_folder, scenes=source, own_pages=own_pages.name)
    with in_turn(out.parent, folder=True):
        pages = write_scene_pages(shown, runs, folders, source, own_pages)
        with atomic_path(out) as temporary:
            temporary.write_bytes(html.encode("utf-8", "replace"))
        write_hashes(out.with_name(f"{out.stem}.{HASHES_FILE}"), [out, *pages])
    return out


def report_html(
    comparison: Comparison, study_folder: Path, *, scenes: SceneSource | None = None, own_pages: str | None = None
) -> str:
    """Return the report page as text, in the current language; see :func:`render_report`.

    ``own_pages`` names the folder beside it that holds pages of the scenes that it does not picture itself.
    """
    comparison = in_current_language(comparison)
    view = page_view(comparison, study_folder, scenes, own_pages)
    style = _template_text("report.css") + view.colours + class_style(comparison.legend)
    script = _template_text("report.js")
    html = render_template(
        "report.html.j2",
        **vars(view),
        style=Markup(style),  # noqa: S704  our own files and colours
        script=Markup(script),  # noqa: S704  our own file
        policy=content_policy(style, script),
    )
    return explain_terms(html)


def explain_terms(html: str) -> str:
    """Mark the terms of a page's glossary as ``<abbr>`` where each first stands in running text or a table.

    Headings, links, controls and charts are left as they are.

    Args:
        html: The page, whose ``<main>`` ends with the list ``<dl class="glossary">``.
    Returns:
        The page. A keyboard or a finger reaches the explanations too.
    """
    before, main, rest = html.partition("<main>")
    body, heading, after = rest.partition('<section id="glossary">')
    texts = {
        term: re.sub("<[^>]*>", "", text).replace('"', "&quot;")
        for terms, text in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", after, re.DOTALL)
        for term in terms.split(", ")
    }
    texts = {term[:1].lower() + term[1:] if term[1:2].islower() else term: text for term, text in texts.items()}
    parts, skipped = re.split(r"(<[^>]*>)", body), 0
    for place, part in enumerate(parts):
        tag = re.match(r"</?(\w+)", part)
        if tag is not None:
            skipped += (tag[1] in _UNMARKED) * (-1 if part.startswith("</") else 1)
        elif not skipped and texts:
            parts[place] = _marked(part, texts)
    return before + main + "".join(parts) + heading + after


_UNMARKED = {"a", "button", "h1", "h2", "h3", "label", "legend", "noscript", "option", "select", "summary", "svg"}
"""Elements in which no term is marked."""


def _marked(text: str, texts: dict[str, str]) -> str:
    """Mark the terms in a text, longer ones before those that they hold, and take them out of ``texts``."""
    terms = "|".join(re.escape(term) for term in sorted(texts, key=len, reverse=True))

    def mark(found: re.Match[str]) -> str:
        term = found[1] if found[1] in texts else found[1][:1].lower() + found[1][1:]
        meaning = texts.pop(term, None)
        return found[0] if meaning is None else f'<abbr tabindex="0" title="{meaning}">{found[0]}</abbr>'

    return re.sub(rf"(?<![\w&-])((?i:{terms}))s?(?![\w-])", mark, text)


@dataclass(frozen=True)
class ModelRow:
    """A model's row of the benchmark: its score and rank in each set, the mean, and its mean rank drawn."""

    name: str
    cells: tuple[tuple[str, str, str], ...]
    mean: str
    rank: str
    rank_interval: str
    strip: Markup


def render_benchmark(benchmark: Benchmark, folder: Path) -> Path:
    """Write the page of a benchmark, ``report.html``.

    Args:
        benchmark: The benchmark.
        folder: Where to write; links to the pages of the data sets are seen from there.
    Returns:
        The file.
    Raises:
        DiskError: The file cannot be written.
    """
    style, out = _template_text("report.css"), folder / "report.html"
    axis, rows = _model_rows(benchmark)
    title, *others = [finding.text for finding in benchmark.findings if finding.severity != "warning"]
    html = render_template(
        "benchmark.html.j2",
        benchmark=benchmark,
        title=title,
        findings=others,
        warnings=[finding.text for finding in benchmark.findings if finding.severity == "warning"],
        metric=metric_of(benchmark),
        delta=score(benchmark.delta),
        reports=[(folder / one.folder / "report.html").is_file() for one in benchmark.sets],
        models=rows,
        axis=axis,
        pairs=pairwise.benchmark_forest(benchmark),
        within=benchmark_tables(benchmark)[2],
        style=Markup(style),  # noqa: S704  our own file
        policy=content_policy(style, ""),
    )
    with in_turn(folder, folder=True):
        with atomic_path(out) as temporary:
            temporary.write_bytes(html.encode("utf-8", "replace"))
        write_hashes(folder / f"report.{HASHES_FILE}", [out])
    return out


def _model_rows(benchmark: Benchmark) -> tuple[Markup, list[ModelRow]]:
    """Draw the mean ranks with their intervals, and the axis below."""
    scale = scale_over([1, len(benchmark.models)])
    ticks = [float(rank) for rank in range(1, len(benchmark.models) + 1)]
    rows = []
    for model in benchmark.models:
        ends = model.rank_interval
        mean = decimal(f"{model.mean_rank:.2f}")
        shown = ranks_between(ends)
        text = gettext(
            "%(name)s: mean rank %(rank)s, 95 %% interval %(interval)s", name=model.name, rank=mean, interval=shown
        )
        scores = [model.scores[one.name] for one in benchmark.sets]
        cells = tuple((score(one.value), between(one.interval), decimal(f"{one.rank:g}")) for one in scores)
        strip = interval_strip(scale, model.mean_rank, ends, ticks=ticks, text=text)
        rows.append(ModelRow(model.name, cells, score(model.mean), mean, shown, strip))
    return axis_strip(scale, ticks), rows


def page_view(
    comparison: Comparison, study_folder: Path, scenes: SceneSource | None, own_pages: str | None
) -> PageView:
    """Collect what the page shows; see :func:`report_html`."""
    runs = styled_runs(comparison)
    shown, pictured = runs[:SHOWN_RUNS], pictured_runs(runs)
    folders = [run.folder(study_folder) for run in pictured]
    drawn = curve_runs(runs, study_folder)
    title, lead = summary.headline_texts(comparison)
    gallery = study_gallery(comparison, folders, scenes or study_scenes(study_folder, folders), own_pages)
    return PageView(
        comparison=comparison,
        runs=shown,
        pictured=len(pictured),
        title=title,
        lead=lead,
        metric=metric_title(comparison),
        delta=score(comparison.delta),
        findings=summary.texts_of(comparison, "finding"),
        warnings=summary.texts_of(comparison, "warning"),
        decide=summary.text_of(comparison, summary.DECIDES),
        facts=summary.facts(comparison),
        ranking=summary.ranking(comparison, runs),
        run_forest=summary.run_forest(comparison, runs),
        scores=summary.score_rows(comparison, runs),
        other_columns=summary.other_columns(comparison),
        verdicts=_verdicts_view(comparison, shown),
        classes=per_class.class_chart(comparison, shown),
        confusions=per_class.confusion_tables(shown, comparison.legend),
        scene_scores=per_class.scene_scores(comparison, pictured),
        colours=run_style([run.style for run in drawn]),
        curves=curve_charts([*drawn[: len(shown)], *drawn[len(runs) :]]),
        budgets=budget_rows(comparison),
        budget_chart=budget_chart(comparison, runs),
        gallery=gallery,
        by_scene=_scene_differences(comparison, runs, gallery),
        heat=per_class.scene_heat(comparison, runs, gallery),
        speed=cost_table.speed_chart(comparison, runs),
        metrics=summary.metric_rows(comparison, shown),
        costs=cost_table.make_cost_table(runs),
        tunings=cost_table.tunings(runs),
        calibrations=cost_table.calibration_charts(shown),
        protocol=cost_table.protocol_rows(comparison),
        unlike=cost_table.unlike_rows(comparison, shown),
        cards=[cost_table.card_rows(run.result.card) for run in shown],
        viewer_data=safe_json(viewer_data(comparison, pictured, gallery)),
    )


def _verdicts_view(comparison: Comparison, runs: Sequence[StyledRun]) -> VerdictsView:
    """Orient and draw all pairs; differences by class are those of architectures where there are any."""
    names, labels, delta = [run.name for run in runs], comparison.labels, comparison.delta
    ranked = [entry.name for entry in summary.ranked_architectures(comparison)]
    shown = [pair for pair in comparison.pairs if pair.a in names and pair.b in names]
    run_pairs = pairwise.oriented_pairs(shown, names)
    architecture_pairs = pairwise.oriented_pairs(comparison.architecture_pairs, ranked)
    by_class = architecture_pairs if any(pair.per_class for pair in architecture_pairs) else run_pairs
    return VerdictsView(
        run_labels=[run.label for run in runs],
        run_matrix=pairwise.verdict_matrix(run_pairs, names),
        run_pairs=pairwise.pair_forest(run_pairs, labels, delta),
        architectures=summary.architecture_rows(comparison),
        architecture_names=ranked,
        architecture_matrix=pairwise.verdict_matrix(architecture_pairs, ranked),
        architecture_pairs=pairwise.pair_forest(architecture_pairs, {}, delta),
        least_p=p_number(min(pair.p_min for pair in comparison.pairs)) if comparison.pairs else "",
        differences=per_class.class_differences(by_class, labels, comparison.legend),
    )


def _scene_differences(
    comparison: Comparison, runs: Sequence[StyledRun], gallery: Gallery
) -> list[per_class.SceneDifferences]:
    """Draw the pairs that carry the verdicts, the leader's first, scene by scene."""
    if comparison.about_architectures:
        ranked = [entry.name for entry in summary.ranked_architectures(comparison)]
    else:
        ranked = [run.name for run in runs]
    pairs = pairwise.oriented_pairs(comparison.decisive_pairs, ranked)
    return per_class.scene_differences(comparison, pairs, comparison.labels, gallery)


def render_template(template: str, **values: object) -> str:
    """Fill a template of this package; all text in it is escaped."""
    return _environment().get_template(template).render(values | {"lang": current_language()})


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("levelground.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "key": _key,
        "verdict_word": verdict_word,
        "decimal": decimal,
        "_": _message,
        "markup": _markup,
        "ngettext": _plural,
        "pgettext": _message_in,
    }
    return environment


def _message(message: str, **values: object) -> str:
    """Return a message of a template."""
    return gettext(message, **_texts(values))


def _message_in(context: str, message: str, **values: object) -> str:
    return pgettext(context, message, **_texts(values))


def _plural(one: str, many: str, n: int, **values: object) -> str:
    return ngettext(one, many, n, **_texts(values))


def _markup(message: str, **values: object) -> Markup:
    """Return a message that holds markup of our own; what is filled in is escaped."""
    return Markup(gettext(message, **{name: escape(text) for name, text in _texts(values).items()}))  # noqa: S704


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: whole(value) if isinstance(value, int) else str(value) for name, value in values.items()}


def _key(run: StyledRun, stroke: bool = False) -> Markup:
    """Draw the symbol of a run, for the template."""
    return key_symbol(run.style, stroke=stroke)


def safe_json(value: object) -> Markup:
    r"""Write JSON for a ``<script>`` element: nothing in it can end the element or open a comment.

    Example:
        >>> print(safe_json({"id": "</script><!--"}))
        {"id": "\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no character that HTML reads is left


def content_policy(style: str, script: str) -> str:
    """Return the content security policy of a page with exactly this style and this script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def class_style(legend: Legend) -> str:
    """Return the CSS class of each land-cover class's colour."""
    return "".join(f".c{c.index}{{--class:rgb({c.colour[0]} {c.colour[1]} {c.colour[2]})}}\n" for c in legend.classes)


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _template_text(name: str) -> str:
    return resources.files("levelground.reporting").joinpath("templates", name).read_text(encoding="utf-8")
