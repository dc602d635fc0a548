"""The report: one offline HTML file that reads a comparison aloud; it formats and draws, and computes no statistics.

The file loads nothing: style and script stand inside and are named by hash in a content security policy that forbids
everything else, pictures are data URIs. Texts from outside (ids, names, sentences) are escaped on their way in.
"""

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from levelground import curves, sections
from levelground.gallery import Gallery, SceneSource, make_gallery, study_scenes
from levelground.legend import Legend
from levelground.records import Record, atomic_path
from levelground.sections import RunLook


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
    legend = Legend.from_json(record["legend"])
    looks = sections.run_looks(record)
    source = scenes or study_scenes(study_folder)
    ids = [scene["id"] for scene in record.get("scenes") or []]
    folders = [study_folder / "runs" / look.name for look in looks]
    gallery = (
        make_gallery(ids, folders, legend, source, split=record["split"]) if source else Gallery((), 0, tuple(ids))
    )
    view = page_view(record, legend, looks, gallery, study_folder)
    style = _template_text("report.css") + run_style(looks) + class_style(legend)
    script = _template_text("report.js")
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    template = environment.from_string(_template_text("report.html.j2"))
    return template.render(
        view,
        style=Markup(style),  # noqa: S704  our own files and colours
        script=Markup(script),  # noqa: S704  our own file
        policy=content_policy(style, script),
    )


def page_view(
    record: Record, legend: Legend, looks: list[RunLook], gallery: Gallery, study_folder: Path
) -> dict[str, Any]:
    """Everything the template shows, by name."""
    architectures = [entry["name"] for entry in record.get("architectures") or []]
    return {
        "record": record,
        "legend": legend,
        "looks": looks,
        "headlines": sections.findings_of(record, "headline"),
        "findings": sections.findings_of(record, "finding"),
        "warnings": sections.findings_of(record, "warning"),
        "metric": sections.metric_name(record["metric"]),
        "scores": sections.score_rows(record, looks),
        "matrix_cells": sections.verdict_matrix(record, [look.name for look in looks], "pairs"),
        "architectures": architectures,
        "architecture_matrix": sections.verdict_matrix(record, architectures, "architecture_pairs"),
        "score_forest": sections.score_forest(record, looks),
        "pair_forest": sections.pair_forest(record, looks, "pairs"),
        "architecture_forest": sections.pair_forest(record, looks, "architecture_pairs"),
        "classes": sections.class_chart(record, looks, legend),
        "curves": curves.learning_curves(looks, study_folder),
        "confusions": sections.confusion_tables(looks, legend),
        "gallery": gallery,
        "data": safe_json(viewer_data(legend, looks)),
    }


def viewer_data(legend: Legend, looks: list[RunLook]) -> dict[str, Any]:
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


def run_style(looks: list[RunLook]) -> str:
    """Each run's colour as a class."""
    return "".join(f".r{look.number}{{--run:light-dark({look.mark.light},{look.mark.dark})}}\n" for look in looks)


def class_style(legend: Legend) -> str:
    """Each class's colour as a class."""
    return "".join(f".c{c.index}{{--class:rgb({c.colour[0]} {c.colour[1]} {c.colour[2]})}}\n" for c in legend.classes)


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _template_text(name: str) -> str:
    return resources.files("levelground").joinpath("templates", name).read_text(encoding="utf-8")
