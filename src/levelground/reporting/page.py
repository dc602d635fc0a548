"""The report page: one offline HTML file of a comparison.

The page formats and draws; it computes no statistics. The file loads nothing: style and script are inside and named by
hash in a content security policy that forbids everything else; pictures are data URIs. Texts from outside (ids, names,
sentences) are escaped.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from levelground.comparison.text import p_number, score
from levelground.imagery.legend import Legend
from levelground.records import Record, atomic_path
from levelground.reporting import cost_table, pairwise, per_class, summary
from levelground.reporting.gallery import Gallery, SceneSource, make_gallery, study_scenes
from levelground.reporting.learning_curves import CurveChart, curve_charts
from levelground.reporting.run_styles import StyledRun, metric_title, styled_runs
from levelground.reporting.svg_charts import key_symbol


@dataclass(frozen=True)
class VerdictsView:
    """The section of verdicts; what is about architectures is empty where there are no seeds."""

    run_labels: list[str]
    run_matrix: list[list[pairwise.VerdictCell | None]]
    run_pairs: pairwise.PairForest | None
    architectures: list[list[str]]
    architecture_names: list[str]
    architecture_matrix: list[list[pairwise.VerdictCell | None]]
    architecture_pairs: pairwise.PairForest | None
    least_p: str


@dataclass(frozen=True)
class PageView:
    """What the template shows, by name."""

    version: str
    created: str
    scorings: list[str]
    legend: Legend
    runs: list[StyledRun]
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
    differences: pairwise.ClassDifferences | None
    classes: per_class.ClassChart
    confusions: list[per_class.ConfusionTable]
    scene_scores: dict[tuple[int, str], str]
    curves: list[CurveChart]
    gallery: Gallery
    speed: cost_table.SpeedChart | None
    metrics: list[summary.MetricTableRow]
    costs: list[cost_table.CostRow]
    calibrations: list[cost_table.CalibrationChart]
    protocol: list[tuple[str, str]]
    unlike: list[cost_table.UnlikeRow]
    cards: list[list[tuple[str, str]]]
    viewer_data: Markup


def render_report(record: Record, study_folder: Path, out: Path, *, scenes: SceneSource | None = None) -> Path:
    """Write the report page.

    Args:
        record: The comparison, as ``comparison.json`` holds it.
        study_folder: Folder of ``runs/`` and ``dataset.json``.
        out: The HTML file to write.
        scenes: Opens images and labels; by default the study's data set. The page names scenes that cannot be opened
            in place of their pictures.
    Returns:
        ``out``.
    Raises:
        DiskError: The file cannot be written.
    """
    html = report_html(record, study_folder, scenes=scenes)
    with atomic_path(out) as temporary:
        temporary.write_bytes(html.encode("utf-8", "replace"))
    return out


def report_html(record: Record, study_folder: Path, *, scenes: SceneSource | None = None) -> str:
    """Return the report page as text; see :func:`render_report`."""
    view = page_view(record, study_folder, scenes)
    style = _template_text("report.css") + run_style(view.runs) + class_style(view.legend)
    script = _template_text("report.js")
    return render_template(
        "report.html.j2",
        **vars(view),
        style=Markup(style),  # noqa: S704  our own files and colours
        script=Markup(script),  # noqa: S704  our own file
        policy=content_policy(style, script),
    )


def page_view(record: Record, study_folder: Path, scenes: SceneSource | None) -> PageView:
    """Collect what the page shows; see :func:`render_report`."""
    legend, runs = Legend.from_json(record["legend"]), styled_runs(record)
    folders = [run.folder(study_folder) for run in runs]
    title, lead = summary.headline_texts(record)
    return PageView(
        version=str(record["version"]),
        created=str(record.get("created") or ""),
        scorings=list(record["scorings"]),
        legend=legend,
        runs=runs,
        title=title,
        lead=lead,
        metric=metric_title(record),
        delta=score(record.get("delta")),
        findings=summary.texts_of(record, "finding"),
        warnings=summary.texts_of(record, "warning"),
        decide=summary.text_of(record, summary.DECIDES),
        facts=summary.facts(record),
        ranking=summary.ranking(record, runs),
        run_forest=summary.run_forest(record, runs),
        scores=summary.score_rows(record, runs),
        other_columns=summary.other_columns(record),
        verdicts=_verdicts_view(record, runs),
        differences=_class_differences(record, runs, legend),
        classes=per_class.class_chart(record, runs, legend),
        confusions=per_class.confusion_tables(runs, legend),
        scene_scores=per_class.scene_scores(record, runs),
        curves=curve_charts(runs, folders),
        gallery=_gallery(record, study_folder, folders, scenes),
        speed=cost_table.speed_chart(record, runs),
        metrics=summary.metric_rows(record, runs),
        costs=cost_table.cost_rows(runs),
        calibrations=cost_table.calibration_charts(runs),
        protocol=cost_table.protocol_rows(record),
        unlike=cost_table.unlike_rows(record, runs),
        cards=[cost_table.card_rows(run.card) for run in runs],
        viewer_data=_viewer_data(legend, runs),
    )


def _verdicts_view(record: Record, runs: Sequence[StyledRun]) -> VerdictsView:
    labels, delta = {run.name: run.label for run in runs}, float(record.get("delta") or 0.0)
    ranked = summary.ranked_architectures(record)
    run_pairs = pairwise.oriented_pairs(record, "pairs", list(labels))
    architecture_pairs = pairwise.oriented_pairs(record, "architecture_pairs", ranked)
    return VerdictsView(
        run_labels=list(labels.values()),
        run_matrix=pairwise.verdict_matrix(run_pairs, list(labels)),
        run_pairs=pairwise.pair_forest(run_pairs, labels, delta),
        architectures=summary.architecture_rows(record),
        architecture_names=ranked,
        architecture_matrix=pairwise.verdict_matrix(architecture_pairs, ranked),
        architecture_pairs=pairwise.pair_forest(architecture_pairs, {}, delta),
        least_p=p_number(run_pairs[0].get("p_min")) if run_pairs else "",
    )


def _class_differences(record: Record, runs: Sequence[StyledRun], legend: Legend) -> pairwise.ClassDifferences | None:
    """Return the differences by class of architectures, or of runs where there are none."""
    labels = {run.name: run.label for run in runs}
    ranked = summary.ranked_architectures(record)
    architecture_pairs = pairwise.oriented_pairs(record, "architecture_pairs", ranked)
    run_pairs = pairwise.oriented_pairs(record, "pairs", list(labels))
    return pairwise.class_differences(architecture_pairs, labels, legend) or pairwise.class_differences(
        run_pairs, labels, legend
    )


def _gallery(record: Record, study_folder: Path, folders: Sequence[Path], scenes: SceneSource | None) -> Gallery:
    """Make the pictures of all scenes that can be opened."""
    ids = [scene["id"] for scene in record.get("scenes") or []]
    source = scenes or study_scenes(study_folder, folders)
    if source is None:
        return Gallery((), 0, tuple(ids))
    return make_gallery(ids, folders, Legend.from_json(record["legend"]), source, split=record["split"])


def render_template(template: str, **values: object) -> str:
    """Fill a template of this package; all text in it is escaped."""
    return _environment().get_template(template).render(values)


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
    environment.globals["key"] = _key
    return environment


def _key(run: StyledRun, stroke: bool = False) -> Markup:
    """Draw the symbol of a run, for the template."""
    return key_symbol(run.style, stroke=stroke)


def _viewer_data(legend: Legend, runs: Sequence[StyledRun]) -> Markup:
    """Return what the script reads besides the pictures."""
    classes = [{"name": entry.name, "colour": list(entry.colour), "counted": entry.counted} for entry in legend.classes]
    return safe_json({"classes": classes, "runs": [run.label for run in runs]})


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


def run_style(runs: Sequence[StyledRun]) -> str:
    """Return the CSS class of each run's colour."""
    styles = [run.style for run in runs]
    return "".join(f".{style.css_class}{{--run:light-dark({style.light},{style.dark})}}\n" for style in styles)


def class_style(legend: Legend) -> str:
    """Return the CSS class of each land-cover class's colour."""
    return "".join(f".c{c.index}{{--class:rgb({c.colour[0]} {c.colour[1]} {c.colour[2]})}}\n" for c in legend.classes)


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _template_text(name: str) -> str:
    return resources.files("levelground.reporting").joinpath("templates", name).read_text(encoding="utf-8")
