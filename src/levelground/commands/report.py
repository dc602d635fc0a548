"""Draw a comparison as one offline page and as pictures: PNG, SVG or PDF."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, PNG, Figures
from levelground.wording import decimal


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ReportConfig:
    """Options of ``report``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder with comparison.json, or the file itself; runs and data set are looked for beside it."""
    out: Path | None = None
    """Folder for report.html and figures/; without it, the folder of the comparison."""
    figures: Figures = PNG
    """Formats of the pictures in figures/, any of png, svg and pdf; without a format none is drawn."""


def report(config: ReportConfig) -> Path:
    """Draw a comparison that was written before.

    Args:
        config: What to draw.
    Returns:
        The page.
    Raises:
        RecordError: There is no comparison, or it is damaged.
        DiskError: The page or a picture cannot be written.
    """
    from levelground.comparison.inputs import with_question
    from levelground.comparison.record import FILE, read_comparison
    from levelground.console import say, say_counted

    path = config.study if config.study.suffix == ".json" else config.study / FILE
    comparison = with_question(read_comparison(path), path.parent)
    from levelground.reporting.figures import draw_figures  # matplotlib takes a second
    from levelground.reporting.page import render_report

    out = config.out or path.parent
    if config.figures:
        drawn = draw_figures(comparison, path.parent, out / "figures", formats=config.figures)
        say_counted("%(n)s picture in %(path)s", "%(n)s pictures in %(path)s", len(drawn), path=out / "figures")
    page = render_report(comparison, path.parent, out / "report.html")
    say("Written: %(page)s (%(size)s MB)", page=page, size=decimal(f"{page.stat().st_size / 1000000.0:.1f}"))
    return page
