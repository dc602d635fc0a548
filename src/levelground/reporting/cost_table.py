"""Cost of the runs: the cost table, speed, calibration, training protocol and run cards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.comparison.record import Comparison
from levelground.comparison.text import MISSING, between, recorded, score, weights_kept
from levelground.records import to_json
from levelground.reporting.run_styles import StyledRun, metric_title
from levelground.reporting.summary import millions, rate
from levelground.reporting.svg_charts import DataPoint, Series, reliability_chart, scatter_chart
from levelground.runs import RunCard
from levelground.wording import gettext, pgettext, whole


@dataclass(frozen=True)
class CostColumn:
    """A column of the cost table: its heading, the unit below it, and whether it holds numbers."""

    name: str
    unit: str = ""
    number: bool = True


@dataclass(frozen=True)
class CostTable:
    """Cost of the runs.

    Attributes:
        columns: The columns that differ between runs, or that every comparison of costs needs.
        rows: Each run with its cells, each beside its column.
        common: Name and text of what is the same for all runs.
    """

    columns: tuple[CostColumn, ...]
    rows: tuple[tuple[StyledRun, tuple[tuple[CostColumn, str], ...]], ...]
    common: tuple[tuple[str, str], ...]


def _columns() -> tuple[CostColumn, ...]:
    """Return the columns that every cost table has."""
    return (
        CostColumn(gettext("parameters, M"), gettext("total / used / trained")),
        CostColumn(gettext("MACs, G"), gettext("per megapixel")),
        CostColumn(gettext("wall time"), gettext("s")),
        CostColumn(gettext("training time"), gettext("s")),
        CostColumn(gettext("memory"), gettext("MiB")),
        CostColumn(gettext("training"), gettext("images/s")),
        CostColumn(gettext("inference"), gettext("Mpx/s")),
    )


def _often_common() -> tuple[CostColumn, ...]:
    """Return what one protocol on one machine makes the same: said once, so that the table fits the page."""
    return (
        CostColumn(gettext("steps")),
        CostColumn(gettext("images"), gettext("seen")),
        CostColumn(gettext("megapixels"), gettext("seen")),
        CostColumn(gettext("device"), number=False),
        CostColumn(pgettext("of numbers", "precision"), number=False),
        CostColumn(gettext("threads"), number=False),
        CostColumn(gettext("hardware"), number=False),
        CostColumn(gettext("selected by"), number=False),
        CostColumn(gettext("tuning"), gettext("trials / minutes")),
    )


@dataclass(frozen=True)
class SpeedChart:
    """Score over throughput; ``front`` where some run is on the Pareto front."""

    chart: Markup
    runs: tuple[StyledRun, ...]
    front: bool


@dataclass(frozen=True)
class CalibrationChart:
    """A run's reliability diagram and its calibration error with interval."""

    run: StyledRun
    chart: Markup
    error: str


@dataclass(frozen=True)
class UnlikeRow:
    """A field of the protocol that differs, by its name and the recipe's, with each run's value."""

    field: str
    key: str
    cells: tuple[str, ...]


def tunings(runs: Sequence[StyledRun]) -> list[tuple[str, str]]:
    """Return what was tuned, once for each architecture: its name, and a sentence on the chosen trial."""
    found = {run.result.card.known_as or run.result.card.arch: run.result.card.tuning for run in runs}
    return [(arch, tuning.sentence()) for arch, tuning in found.items() if tuning is not None]


def make_cost_table(runs: Sequence[StyledRun]) -> CostTable:
    """Return the cost of each run, and what all of them share: budget and hardware, where they are the same."""
    fixed, often = _columns(), _often_common()
    cells = [dict(zip((*fixed, *often), (*_figures(run), *_conditions(run)), strict=True)) for run in runs]
    unlike = [column for column in often if len({row[column] for row in cells}) > 1]
    columns = (*fixed, *unlike)
    rows = tuple(
        (run, tuple((column, row[column]) for column in columns)) for run, row in zip(runs, cells, strict=True)
    )
    common = tuple(
        (f"{column.name} {column.unit}".rstrip(), cells[0][column])
        for column in often
        if column not in unlike and cells[0][column] != MISSING
    )
    return CostTable(columns, rows, common)


def _figures(run: StyledRun) -> tuple[str, ...]:
    """Return the cells of the columns that every run has."""
    card, speed = run.result.card, run.result.throughput
    parameters, macs = card.parameters, card.macs_per_megapixel
    return (
        " / ".join(map(millions, (parameters.total, parameters.used, parameters.trainable))),
        MISSING if macs is None else f"{macs / 1e9:.0f}",
        *map(_whole, (card.wall_s, card.train_s, card.peak_memory_mib)),
        rate(speed.train_images_per_s),
        rate(speed.predict_megapixels_per_s),
    )


def _conditions(run: StyledRun) -> tuple[str, ...]:
    """Return the cells of what is the same in most studies: budget and hardware."""
    card = run.result.card
    return (
        *map(_whole, (card.steps_done, card.images_seen, card.megapixels_seen)),
        plain_text(card.device),
        plain_text(card.precision),
        _whole(card.threads),
        plain_text(card.hardware),
        weights_kept(card.selection),
        MISSING if card.tuning is None else f"{card.tuning.trials} / {card.tuning.minutes:.1f}",
    )


def speed_chart(comparison: Comparison, runs: Sequence[StyledRun]) -> SpeedChart | None:
    """Draw score over throughput; ``None`` where no run was timed."""
    points, shown = [], []
    for run in runs:
        speed, value = run.result.throughput, run.result.value
        x = speed.predict_megapixels_per_s
        if x is not None and value is not None:
            text = gettext("%(run)s: %(score)s at %(rate)s Mpx/s", run=run.label, score=score(value), rate=rate(x))
            points.append(DataPoint(run.label, run.style, x, value, speed.interval, run.result.interval, text))
            shown.append(run)
    if not points:
        return None
    places = {run.name: (point.x, point.y) for run, point in zip(shown, points, strict=True)}
    front = sorted(places[name] for name in comparison.pareto_front)
    title = gettext("%(metric)s over inference speed.", metric=metric_title(comparison))
    text = f"{title} {'. '.join(point.text for point in points)}."
    chart = scatter_chart(points, text=text, x_title=gettext("inference, megapixels per second"), front=front)
    return SpeedChart(chart, tuple(shown), bool(front))


def calibration_charts(runs: Sequence[StyledRun]) -> list[CalibrationChart]:
    """Draw the reliability diagrams of the runs that gave probabilities."""
    drawn = []
    for run in runs:
        found = run.result.calibration
        if found is None:
            continue
        bins = [(x.confidence, x.accuracy, x.n) for x in found.bins if x.n]
        points = tuple((x, y) for x, y, _ in bins if x is not None and y is not None)
        total = sum(n for *_, n in bins)
        error = gettext(
            "%(value)s (%(interval)s), uncorrected %(uncorrected)s",
            value=score(found.ece),
            interval=between(found.interval),
            uncorrected=score(found.uncorrected),
        )
        text = gettext("Reliability of %(run)s; calibration error %(error)s.", run=run.label, error=error)
        line = Series(run.label, run.style, points)
        drawn.append(CalibrationChart(run, reliability_chart(line, [n / total for *_, n in bins], text=text), error))
    return drawn


def card_rows(card: RunCard) -> list[tuple[str, str]]:
    """Flatten a run card, without its legend, to pairs of dotted key and text."""
    return _flat({key: value for key, value in to_json(card).items() if key != "legend"})


def _flat(content: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a JSON object to pairs of dotted key and text."""
    rows = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", plain_text(value)))
    return rows


PROTOCOL_FIELDS = {
    "outputs": "classes with an output",
    "batch": "batch, crops",
    "default_epochs": "epochs where no budget is given",
    "optimiser": "optimiser",
    "lr": "learning rate",
    "encoder_lr_factor": "learning rate of the encoder, as a factor",
    "weight_decay": "weight decay",
    "schedule": "course of the learning rate",
    "warmup": "warm-up, share of the steps",
    "clip": "largest norm of the gradient",
    "loss": "loss function",
    "class_weights": "weights of classes",
    "scale_min": "smallest crop, in tiles",
    "scale_max": "largest crop, in tiles",
    "d4": "random turns and flips",
    "colour": "random brightness and contrast",
    "normalise": "normalised by",
    "freeze_encoder_children": "frozen parts of the encoder",
    "select": "weights kept by",
    "select_groups": "validation groups needed to choose weights",
    "average": "averaged weights, share of the run",
    "validations": "validations",
    "validation_share": "validations, largest share of the work",
    "sanity_check": "check on two scenes before training",
    "tuning": "tuning",
    "budget": "budget",
    "validation": "validated on",
    "weights": "encoder weights",
    "training scenes": "training scenes, hash",
    "split": "split, hash",
    "tile": "tile, px",
    "halo": "overlap of tiles, half, px",
}
"""Names of the fields of the training protocol, by the recipe's."""


@dataclass(frozen=True)
class ProtocolField:
    """A field of the protocol that all runs share: its name, the recipe's, and its value."""

    name: str
    key: str
    value: str


def protocol_rows(comparison: Comparison) -> list[ProtocolField]:
    """Return the training protocol and tile geometry that all runs share, field by field."""
    fields = _flat({key: value for key, value in comparison.protocol.items() if value is not None})
    return [ProtocolField(_field_name(key), key, recorded(text)) for key, text in fields]


def _field_name(key: str) -> str:
    """Return the name of a field for people; one that a record of another version holds keeps its own."""
    own = key.removeprefix("recipe.")
    return gettext(PROTOCOL_FIELDS[own]) if own in PROTOCOL_FIELDS else own.replace("_", " ")


def unlike_rows(comparison: Comparison, runs: Sequence[StyledRun]) -> list[UnlikeRow]:
    """Return the fields of the protocol that differ between the runs."""
    return [
        UnlikeRow(_field_name(entry.field), entry.field, tuple(plain_text(entry.values.get(run.name)) for run in runs))
        for entry in comparison.protocol_differences
    ]


def plain_text(value: object) -> str:
    """Format a value of a run card.

    Example:
        >>> plain_text({"cpu": "EPYC", "cores": 2}), plain_text([0, 1]), plain_text(None), plain_text(True)
        ('cpu EPYC, cores 2', '0, 1', '–', 'yes')
    """
    if value is None or value == "" or value == {} or value == []:
        return MISSING
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _whole(value: float | None) -> str:
    """Format a number without decimals, with spaces between thousands."""
    return MISSING if value is None else whole(round(value))
