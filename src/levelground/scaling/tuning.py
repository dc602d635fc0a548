"""Tuning: the same space, trials and budget for every architecture, on validation scenes only, with a journal on disk.

A trial is decided by its number and the results of earlier rounds of its architecture alone: whether trials run one
after the other, on a cluster or through kills plays no part. Proposals are Optuna's (TPE), imported when it is asked.
"""

import dataclasses
import hashlib
import importlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from levelground.config import Recipe
from levelground.console import say
from levelground.errors import ConfigError, RecordError, UnfinishedError, first_line
from levelground.files import append_text, atomic_path
from levelground.reading import check_seal, parse_json, parse_toml, read_text, seal
from levelground.recipe_files import BASE_TABLE, TUNING_TABLE, TuningRecord, check_recipe
from levelground.records import sha256_json

TUNE_FOLDER, JOURNAL_FILE = "tune", "journal.jsonl"

ROUND = 5
"""Trials of an architecture that know nothing of each other: a later round knows all of the earlier ones."""
FIRST_PRUNED = 2
"""The first validation at which a trial may be ended, counted from 1."""

TUNABLE = (
    "optimiser", "lr", "encoder_lr_factor", "weight_decay", "schedule", "warmup", "clip", "loss", "class_weights",
    "scale_min", "scale_max", "d4", "colour", "normalise", "average",
)  # fmt: skip
"""Recipe fields that a space may have: none that changes what a step costs or how a model is judged."""

State = Literal["finished", "pruned", "failed"]
Value = float | str | bool


@dataclass(frozen=True)
class Range:
    """Values from ``low`` to ``high``, evenly or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | tuple[Value, ...]]
"""What a trial may choose, by recipe field: a range or a list of values."""


@dataclass(frozen=True)
class Proposal:
    """A trial that is to run.

    Attributes:
        arch: Its architecture.
        number: Its number, from 0; of a re-run, which one.
        seed: Seed of its training.
        params: Its values by recipe field.
        limits: Least best validation mIoU so far at each validation, below which it ends; -1 never ends it.
        rerun: Whether it is the chosen trial again, with another seed.
    """

    arch: str
    number: int
    seed: int
    params: Mapping[str, Value]
    limits: tuple[float, ...] = ()
    rerun: bool = False

    @property
    def place(self) -> str:
        """Its folder below that of the tuning."""
        return f"{self.arch.replace('/', '-').replace(':', '-')}/{'rerun' if self.rerun else 'trial'}-{self.number}"


@checked_dataclass(frozen=True)
class Outcome:
    """A trial that has run: a line of the journal."""

    arch: str
    number: int
    seed: int
    params: dict[str, Value]
    state: State
    curve: tuple[tuple[int, float], ...]
    """Step and mIoU of each validation."""
    value: float | None
    """Validation mIoU of the weights that were kept; ``None`` of a trial that failed."""
    minutes: float
    rerun: bool = False
    error: str = ""

    def best_at(self, validation: int) -> float | None:
        """Return the best mIoU up to a validation, counted from 1; ``None`` where it was not reached."""
        return max(value for _, value in self.curve[:validation]) if len(self.curve) >= validation else None


def read_space(path: Path, recipe: Recipe) -> dict[str, Range | tuple[Value, ...]]:
    """Read a space: a TOML file with a list of values or ``{low, high, log}`` for each recipe field that is free.

    Args:
        path: The file.
        recipe: What the fields that are not free are; contradictions with it are refused.
    Raises:
        ConfigError: It is not TOML, names a field that does not exist or must not be tuned, or leaves no freedom.
    """
    try:
        content = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--space {path}: cannot be read ({error}). Give a TOML file.") from error
    if not content:
        raise ConfigError(f"--space {path}: has no field. Name at least one, such as lr = {{low = 1e-4, high = 1e-2}}.")
    known = {one.name for one in dataclasses.fields(Recipe)}
    space: dict[str, Range | tuple[Value, ...]] = {}
    for name, given in content.items():
        if name not in TUNABLE:
            why = "is not a field of recipes" if name not in known else "is the same for all models of a comparison"
            raise ConfigError(f"--space {path}: {name} {why}. Fields that may be free: {', '.join(TUNABLE)}.")
        space[name] = _read_freedom(f"--space {path}: {name}", given)
    for ends in ({name: _end(free, last) for name, free in space.items()} for last in (False, True)):
        check_recipe(dataclasses.asdict(recipe) | ends, source=f"--space {path}")
    _check_scales(path, space, recipe)
    for name, free in space.items():
        for value in () if isinstance(free, Range) else free:
            check_recipe(dataclasses.asdict(Recipe()) | {name: value}, source=f"--space {path}")
    return space


def _check_scales(path: Path, space: Space, recipe: Recipe) -> None:
    """Refuse smallest and largest scales that may be the wrong way round."""
    largest, smallest = (
        _end(space[name], last) if name in space else getattr(recipe, name)
        for name, last in (("scale_min", True), ("scale_max", False))
    )
    if float(largest) > float(smallest):
        raise ConfigError(
            f"--space {path}: scale_min may be {largest} where scale_max is {smallest}. Keep their ranges apart."
        )


def _end(free: Range | tuple[Value, ...], last: bool) -> Value:
    """Return the lowest or highest value; of values without order the first or last."""
    if isinstance(free, Range):
        return free.high if last else free.low
    ordered = sorted(free, key=lambda value: (isinstance(value, str), value))
    return ordered[-1 if last else 0]


def _read_freedom(where: str, given: object) -> Range | tuple[Value, ...]:
    if isinstance(given, list):
        values = tuple(dict.fromkeys(given))
        if len(values) < 2:
            raise ConfigError(f"{where}: {len(values)} value leaves no freedom. Give two or more, or drop the field.")
        return values
    if not isinstance(given, dict):
        raise ConfigError(f"{where} = {given!r}: leaves no freedom. Give a list of values or {{low = …, high = …}}.")
    unknown = sorted(set(given) - {"low", "high", "log"})
    if unknown or not {"low", "high"} <= set(given):
        what = f"unknown key {unknown[0]!r}" if unknown else "lacks low or high"
        raise ConfigError(f"{where}: {what}. Expected {{low = …, high = …, log = true or false}}.")
    try:
        found: Range = TypeAdapter(Range).validate_python(given)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.errors()[0]['msg']}. Expected numbers.") from error
    if not found.low < found.high:
        raise ConfigError(f"{where}: from {found.low:g} to {found.high:g} leaves no freedom. Let low be below high.")
    if found.log and found.low <= 0:
        raise ConfigError(f"{where}: low = {found.low:g} has no logarithm. Let it be above 0, or drop log.")
    return found


def import_optuna() -> Any:
    """Import Optuna, silent.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("tune: optuna is not installed. Say pip install 'levelground[tune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass
class Tuning:
    """Trials of all architectures, and what is known of them.

    Attributes:
        folder: Where the journal is.
        space: What a trial may choose.
        recipe: What it does not choose; trial 0 takes all of it, where the space has it.
        archs: The architectures.
        trials: Trials of each.
        steps: Training steps of each trial.
        seed: Seed of the proposals and of the trials' training.
        reruns: How often the chosen trial is trained again, each time with another seed.
        data: Hash of the data set.
    """

    folder: Path
    space: Space
    recipe: Recipe
    archs: tuple[str, ...]
    trials: int
    steps: int
    seed: int
    reruns: int
    data: str
    outcomes: dict[tuple[str, bool, int], Outcome] = field(default_factory=dict)

    @property
    def space_sha256(self) -> str:
        """Hash of the space."""
        free = {n: dataclasses.asdict(f) if isinstance(f, Range) else list(f) for n, f in self.space.items()}
        return sha256_json(free)

    def open(self) -> None:
        """Read the journal, or begin it.

        Raises:
            RecordError: It is of another tuning, or damaged.
        """
        fields = {n: v for n, v in dataclasses.asdict(self.recipe).items() if n != "name"}
        head: dict[str, object] = {"space": self.space_sha256, "recipe": sha256_json(fields), "data": self.data}
        head |= {"steps": self.steps, "seed": self.seed, "round": ROUND}
        path = self.folder / JOURNAL_FILE
        lines = list(_journal_lines(path)) if path.exists() else []
        if lines and lines[0] != head:
            unlike = [name for name, value in head.items() if lines[0].get(name) != value]
            raise RecordError(
                f"{path}: was begun with another {' and another '.join(unlike)}. Give the same again, or another --out."
            )
        for number, line in enumerate(lines[1:], start=2):
            try:
                outcome: Outcome = TypeAdapter(Outcome).validate_python(line)
            except ValidationError as error:
                fault = error.errors()[0]
                where = ".".join(map(str, fault["loc"]))
                raise RecordError(
                    f"{path}: line {number} is damaged ({where}: {fault['msg']}). Remove the line."
                ) from error
            self.outcomes[outcome.arch, outcome.rerun, outcome.number] = outcome
        with atomic_path(path) as temporary:  # without a line that a kill cut short
            temporary.write_text("".join(map(_journal_text, lines or [head])), encoding="utf-8")

    def note(self, outcome: Outcome) -> None:
        """Write the outcome of a trial."""
        content = TypeAdapter(Outcome).dump_python(outcome, mode="json")
        append_text(self.folder / JOURNAL_FILE, _journal_text(content), durable=True)
        self.outcomes[outcome.arch, outcome.rerun, outcome.number] = outcome

    def run(self, train: Callable[[Sequence[Proposal]], Iterator[Outcome]]) -> None:
        """Run all trials that are not in the journal, round by round, then the re-runs of the chosen ones.

        Args:
            train: Runs trials that know nothing of each other, and yields their outcomes.
        Raises:
            UnfinishedError: All trials of an architecture failed.
        """
        for first in range(0, self.trials, ROUND):
            numbers = range(first, min(first + ROUND, self.trials))
            self._run([self.propose(arch, n) for arch in self.archs for n in numbers], train)
        for arch in self.archs:
            self.chosen(arch)
        again = [
            Proposal(arch, n, self.seed + 1 + n, self.chosen(arch).params, rerun=True)
            for arch in self.archs
            for n in range(self.reruns)
        ]
        self._run(again, train)

    def _run(self, proposals: Sequence[Proposal], train: Callable[[Sequence[Proposal]], Iterator[Outcome]]) -> None:
        missing = [one for one in proposals if not self._is_known(one)]
        for outcome in train(missing) if missing else ():
            self.note(outcome)
            say(self._line(outcome))

    def _is_known(self, proposal: Proposal) -> bool:
        known = self.outcomes.get((proposal.arch, proposal.rerun, proposal.number))
        return known is not None and known.params == dict(proposal.params) and known.seed == proposal.seed

    def _line(self, outcome: Outcome) -> str:
        kind = "re-run" if outcome.rerun else "trial"
        number = f"{outcome.number + 1} of {self.reruns if outcome.rerun else self.trials}"
        values = ", ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in outcome.params.items())
        end = "no score" if outcome.value is None else f"validation mIoU {outcome.value:.3f}"
        return f"{outcome.arch}, {kind} {number} ({values}): {outcome.state}, {outcome.error or end}"

    def _earlier(self, arch: str, number: int) -> list[Outcome]:
        """Return the outcomes of the rounds before that of a trial, by number."""
        found = [self.outcomes.get((arch, False, n)) for n in range(number // ROUND * ROUND)]
        return [one for one in found if one is not None]

    def propose(self, arch: str, number: int) -> Proposal:
        """Return a trial; the same whenever it is asked for."""
        earlier = self._earlier(arch, number)
        params = self._own_values() if number == 0 else None
        return Proposal(arch, number, self.seed, params or self._ask(number, earlier), self._limits(earlier))

    def _own_values(self) -> dict[str, Value] | None:
        """Return the recipe's own values, where the space has all of them."""
        own = {name: getattr(self.recipe, name) for name in self.space}
        inside = all(
            free.low <= own[name] <= free.high if isinstance(free, Range) else own[name] in free
            for name, free in self.space.items()
        )
        return own if inside else None

    def _ask(self, number: int, earlier: Sequence[Outcome]) -> dict[str, Value]:
        optuna = import_optuna()
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND)
            if earlier
            else optuna.samplers.RandomSampler(seed=seed)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        forms = {name: _distribution(optuna, free) for name, free in self.space.items()}
        for one in earlier:
            # A trial that was ended early or failed counts as what it had reached.
            value = one.value if one.value is not None else 0.0
            study.add_trial(optuna.trial.create_trial(params=one.params, distributions=forms, value=value))
        return dict(study.ask(forms).params)

    def _limits(self, earlier: Sequence[Outcome]) -> tuple[float, ...]:
        """Return the medians of what earlier trials had at each validation; -1 where a trial is not ended."""
        limits: list[float] = []
        for validation in range(1, max((len(one.curve) for one in earlier), default=0)):  # not at the last one
            reached = [best for one in earlier if (best := one.best_at(validation)) is not None]
            enough = validation >= FIRST_PRUNED and len(reached) >= ROUND
            limits.append(statistics.median(reached) if enough else -1.0)
        return tuple(limits)

    def chosen(self, arch: str) -> Outcome:
        """Return the best finished trial of an architecture.

        Raises:
            UnfinishedError: All failed.
        """
        done = [self.outcomes.get((arch, False, n)) for n in range(self.trials)]
        finished = [one for one in done if one is not None and one.state == "finished" and one.value is not None]
        if not finished:
            reason = next((one.error for one in done if one is not None and one.error), "none ended")
            raise UnfinishedError(f"{arch}: no trial of {self.trials} was finished; the first: {reason}")
        return max(finished, key=lambda one: (one.value or 0.0, -one.number))

    def record(self, arch: str) -> TuningRecord:
        """Return what run cards say of the tuning of an architecture."""
        best = self.chosen(arch)
        runs = [o for n in range(self.trials) if (o := self.outcomes.get((arch, False, n))) is not None]
        again = [self.outcomes.get((arch, True, n)) for n in range(self.reruns)]
        return TuningRecord(
            fields=tuple(sorted(self.space)),
            space=self.space_sha256[:12],
            trials=self.trials,
            steps=self.steps,
            seed=self.seed,
            minutes=round(sum(one.minutes for one in runs), 3),
            trial=best.number + 1,
            value=best.value or 0.0,
            reruns=tuple(one.value for one in again if one is not None and one.value is not None),
        )

    def write_recipe(self, arch: str) -> Path:
        """Write the recipe file of an architecture: the chosen values, what they were chosen from, and beside what."""
        path = self.folder / f"{arch.replace('/', '-').replace(':', '-')}.toml"
        record = dataclasses.asdict(self.record(arch))
        record.pop("extra", None)
        base = {n: v for n, v in dataclasses.asdict(self.recipe).items() if n != "name" and n not in self.space}
        lines = [f"# Recipe of {arch} that levelground tune chose; for levelground study --recipe-for {arch}=FILE"]
        lines += [f"{name} = {_toml(value)}" for name, value in self.chosen(arch).params.items()]
        lines += ["", f"[{TUNING_TABLE}]", *(f"{name} = {_toml(value)}" for name, value in record.items())]
        lines += ["", f"[{BASE_TABLE}]", *(f"{name} = {_toml(value)}" for name, value in base.items())]
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _distribution(optuna: Any, free: Range | tuple[Value, ...]) -> Any:
    if isinstance(free, Range):
        return optuna.distributions.FloatDistribution(free.low, free.high, log=free.log)
    return optuna.distributions.CategoricalDistribution(free)


def _journal_text(content: object) -> str:
    return seal(json.dumps(content, allow_nan=False), "line") + "\n"


def _journal_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal; a last one that a kill cut short is left out.

    Raises:
        RecordError: One was changed after it was written, or the file cannot be read.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({first_line(error)}). Mend or remove it.") from error
    lines = [line for line in text.split("\n") if line]
    for number, line in enumerate(lines, start=1):
        try:
            content = parse_json(line, finite=True)
            check_seal(line, "line")
            if not isinstance(content, dict):
                raise ValueError("is not an object")
        except ValueError as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            raise RecordError(f"{path}: line {number} is damaged ({error}). Remove the line.") from error
        content.pop("crc32", None)
        yield content
