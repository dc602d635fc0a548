"""The runs of a comparison as charts and tables show them: order, names, marks, colours, and where a value stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levelground.comparing.prose import metric_words
from levelground.records import Record
from levelground.reporting.marks import Mark, assign_marks

Interval = tuple[float, float]


@dataclass(frozen=True)
class RunLook:
    """A run on the page: its number (class ``r<number>``), names, look and record."""

    number: int
    name: str
    label: str
    mark: Mark
    record: Record

    @property
    def card(self) -> Mapping[str, Any]:
        """Its run card; empty where there is none."""
        return self.record.get("card") or {}

    def scores(self, scoring: str) -> Mapping[str, Any]:
        """Its scores under a scoring; empty where there are none."""
        return (self.record.get("scores") or {}).get(scoring) or {}

    def folder(self, study_folder: Path) -> Path:
        """Its run folder: where the record says it lies, seen from the comparison, or among the study's runs."""
        return study_folder / (self.record.get("folder") or f"runs/{self.name}")


def run_looks(record: Record) -> list[RunLook]:
    """The runs, best first by the primary metric; ties keep the record's order, runs without a value come last."""
    values = {run["name"]: value_of(record, run) for run in record["runs"]}
    runs = sorted(record["runs"], key=lambda run: -(values[run["name"]] or -1.0))
    marks = assign_marks([run.get("arch") or run["name"] for run in runs])
    return [
        RunLook(number, run["name"], run.get("label") or run["name"], mark, run)
        for number, (run, mark) in enumerate(zip(runs, marks, strict=True))
    ]


def primary_scoring(record: Record) -> str:
    """The scoring of the primary metric; the first one where the metric has none of its own."""
    scoring = str(record["metric"]).partition(".")[0]
    return scoring if scoring in record["scorings"] else str(record["scorings"][0])


def value_of(record: Record, run: Mapping[str, Any]) -> float | None:
    """A run's value of the primary metric."""
    if "value" in run:
        return number_or_none(run["value"])
    scoring, _, name = str(record["metric"]).partition(".")
    return number_or_none(((run.get("scores") or {}).get(scoring) or {}).get(name))


def value_interval(record: Record, run: Mapping[str, Any]) -> Interval | None:
    """The interval of a run's value of the primary metric."""
    if "interval" in run:
        return interval_of(run)
    scoring, _, name = str(record["metric"]).partition(".")
    return interval_of((run.get("scores") or {}).get(scoring)) if name == "miou" else None


def interval_of(holder: Mapping[str, Any] | None, key: str = "interval") -> Interval | None:
    """An interval of a record, or ``None`` where it has none."""
    value = (holder or {}).get(key)
    if not isinstance(value, Sequence) or len(value) != 2 or None in value:
        return None
    return float(value[0]), float(value[1])


def number_or_none(value: object) -> float | None:
    """A number of a record, or ``None``."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def throughput_of(look: RunLook) -> float | None:
    """Predicted megapixels a second, measured on the scenes compared, else on the run's card."""
    measured = (look.record.get("throughput") or {}).get("predict_megapixels_per_s")
    return number_or_none(measured or (look.card.get("speed") or {}).get("infer_megapixels_per_s"))


def metric_title(record: Record) -> str:
    """The primary metric in words."""
    return metric_words(str(record["metric"]), record["scorings"])
