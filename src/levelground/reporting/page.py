"""The report: one offline HTML file that reads a comparison aloud; it formats and draws, and computes no statistics.

The file loads nothing: style and script stand inside and are named by hash in a content security policy that forbids
everything else, pictures are data URIs. Texts from outside (ids, names, sentences) are escaped on their way in.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from levelground.comparison.text import p_number, score
from levelground.imagery.legend import Legend
from levelground.records import Record, atomic_path
from levelground.reporting import cost_table as ledger
from levelground.reporting import pairwise
from levelground.reporting import per_class as classwise
from levelground.reporting import summary as answer
from levelground.reporting.gallery import Gallery, SceneSource, make_gallery, study_scenes
from levelground.reporting.learning_curves import learning_curves
from levelground.reporting.run_styles import RunLook, metric_title, run_looks
from levelground.reporting.svg_charts import key_symbol


def render_report(record: Record, study_folder: Path, out: Path, *, scenes: SceneSource | None = None) -> Path:
    """Write the report page.

    Args:
        record: The comparison, as ``comparison.json`` holds it.
        study_folder: Where ``runs/`` and ``dataset.json`` lie.
        out: The HTML file to write.
        scenes: Gives images and labels; by default the study's data set. Scenes that cannot be opened are named on
            the page in place of their pictures.
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
    """The report page as text; see :func:`render_report`."""
    legend, looks = Legend.from_json(record["legend"]), run_looks(record)
    folders = [look.folder(study_folder) for look in looks]
    source = scenes or study_scenes(study_folder, folders)
    ids = [scene["id"] for scene in record.get("scenes") or []]
    gallery = Gallery((), 0, tuple(ids))
    if source is not None:
        gallery = make_gallery(ids, folders, legend, source, split=record["split"])
    style = _template_text("report.css") + run_style(looks) + class_style(legend)
    script = _template_text("report.js")
    template = _environment().get_template("report.html.j2")
    return template.render(
        page_view(record, legend, looks),
        curves=learning_curves(looks, folders),
        gallery=gallery,
        style=Markup(style),  # noqa: S704  our own files and colours
        script=Markup(script),  # noqa: S704  our own file
        policy=content_policy(style, script),
    )


def page_view(record: Record, legend: Legend, looks: Sequence[RunLook]) -> dict[str, Any]:
    """What the template shows of the record alone, by name."""
    title, rest = answer.answer_texts(record)
    return {
        "record": record,
        "legend": legend,
        "looks": looks,
        "title": title,
        "rest": rest,
        "metric": metric_title(record),
        "delta": score(record.get("delta")),
        "findings": answer.texts_of(record, "finding"),
        "warnings": answer.texts_of(record, "warning"),
        "decide": answer.text_of(record, answer.DECIDES),
        "facts": answer.facts(record),
        "standing": answer.standing(record, looks),
        "run_forest": answer.run_forest(record, looks),
        "scores": answer.score_rows(record, looks),
        "other_columns": answer.other_columns(record),
        **_pairs_view(record, legend, looks),
        "classes": classwise.class_chart(record, looks, legend),
        "confusions": classwise.confusion_tables(looks, legend),
        "scene_scores": classwise.scene_scores(record, looks),
        "pareto": ledger.pareto(record, looks),
        "multiverse": ledger.multiverse_rows(record, looks),
        "ledger": ledger.ledger_rows(looks),
        "calibrations": ledger.calibrations(looks),
        "protocol": ledger.protocol_rows(record),
        "unlike": ledger.unlike_rows(record, looks),
        "cards": [ledger.card_rows(look.card) for look in looks],
        "data": safe_json(viewer_data(legend, looks)),
    }


def _pairs_view(record: Record, legend: Legend, looks: Sequence[RunLook]) -> dict[str, Any]:
    """The verdicts about runs, and about architectures where there are any."""
    labels, delta = {look.name: look.label for look in looks}, float(record.get("delta") or 0.0)
    ranked = answer.ranked_architectures(record)
    runs = pairwise.oriented_pairs(record, "pairs", list(labels))
    architectures = pairwise.oriented_pairs(record, "architecture_pairs", ranked)
    return {
        "run_labels": list(labels.values()),
        "run_matrix": pairwise.verdict_matrix(runs, list(labels)),
        "pair_forest_runs": pairwise.pair_forest(runs, labels, delta, looks),
        "architecture_names": ranked,
        "architecture_rows": answer.architecture_rows(record),
        "least_p": p_number(runs[0].get("p_min")) if runs else "",
        "architecture_matrix": pairwise.verdict_matrix(architectures, ranked),
        "pair_forest_architectures": pairwise.pair_forest(architectures, {}, delta, looks),
        "differences": pairwise.class_differences(architectures or runs, labels, legend, looks)
        or pairwise.class_differences(runs, labels, legend, looks),
    }


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


def _key(look: RunLook, stroke: bool = False) -> Markup:
    """The symbol of a run, for the template."""
    return key_symbol(look.number, look.mark, stroke=stroke)


def viewer_data(legend: Legend, looks: Sequence[RunLook]) -> dict[str, Any]:
    """What the script needs to know beside the pictures."""
    return {
        "classes": [
            {"name": entry.name, "colour": list(entry.colour), "counted": entry.counted} for entry in legend.classes
        ],
        "runs": [look.label for look in looks],
    }


def safe_json(value: object) -> Markup:
    r"""JSON that may stand inside a ``<script>`` element: nothing in it can end the element or open a comment.

    Example:
        >>> print(safe_json({"id": "</script><!--"}))
        {"id": "\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no character that HTML reads is left


def content_policy(style: str, script: str) -> str:
    """The content security policy of a page with exactly this style and this script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def run_style(looks: Sequence[RunLook]) -> str:
    """Each run's colour as a class."""
    return "".join(f".r{look.number}{{--run:light-dark({look.mark.light},{look.mark.dark})}}\n" for look in looks)


def class_style(legend: Legend) -> str:
    """Each class's colour as a class."""
    return "".join(f".c{c.index}{{--class:rgb({c.colour[0]} {c.colour[1]} {c.colour[2]})}}\n" for c in legend.classes)


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _template_text(name: str) -> str:
    return resources.files("levelground.reporting").joinpath("templates", name).read_text(encoding="utf-8")
