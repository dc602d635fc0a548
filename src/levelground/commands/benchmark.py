"""Put models and data sets on one page: verdicts within each set, and what holds across sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from levelground.comparison.benchmark_record import Benchmark


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BenchmarkConfig:
    """Options of ``benchmark``."""

    studies: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="STUDIES ...")]
    """Study folders with comparison.json, one a data set, two or more."""
    out: Path
    """Folder for report.html and benchmark.json, .csv, .md and .tex."""


def benchmark(config: BenchmarkConfig) -> "Benchmark":
    """Compare the models that several studies have in common, across their data sets.

    Args:
        config: The studies, and where to write.
    Returns:
        The benchmark, already on disk beside its tables and its page.
    Raises:
        RecordError: A study has no comparison, or it is damaged.
        ConfigError: Fewer than two studies, or fewer than two models in all of them.
        UnlikeError: The studies were compared by unlike metrics.
        DiskError: A file cannot be written.
    """
    from levelground.comparison.benchmark import in_current_language, make_benchmark
    from levelground.comparison.benchmark_record import benchmark_tables, write_benchmark
    from levelground.comparison.record import FILE, Comparison, read_comparison
    from levelground.console import say, say_table
    from levelground.errors import ConfigError, RecordError
    from levelground.reporting.page import render_benchmark
    from levelground.wording import gettext

    found: dict[Path, Comparison] = {}
    for study in config.studies:
        if study.resolve() in {path.resolve() for path in found}:
            raise ConfigError(f"{study}: is given twice. Give each study once.")
        if not (study / FILE).is_file():
            raise RecordError(f"{study}: no {FILE}. Run levelground compare {study} first.")
        found[study] = read_comparison(study)
        if (config.out / FILE).resolve() == (study / FILE).resolve():
            raise ConfigError(
                f"--out {config.out}: is a study, whose report.html would be replaced. Give a new folder."
            )
    result = make_benchmark(found, config.out)
    shown = in_current_language(result)
    write_benchmark(result, config.out, shown=shown)
    page = render_benchmark(shown, config.out)
    for table in benchmark_tables(shown)[:2]:
        say_table(table.title, table.header, table.rows)
    for finding in shown.findings:
        warns = finding.severity == "warning"
        say(gettext("Warning: %(text)s", text=finding.text) if warns else finding.text)
    say("Written: %(page)s, %(path)s, .csv, .md, .tex", page=page, path=config.out / "benchmark.json")
    return result
