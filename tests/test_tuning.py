"""Tuning: a planted optimum is found, kills leave the same trials, equal terms, validation alone, bad spaces."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from levelground.cli import main
from levelground.comparison.compatibility import Evaluated, compare_protocols
from levelground.config import Budget, Recipe, StudyOptions
from levelground.errors import ConfigError, RecordError, UnfinishedError
from levelground.recipe_files import load_recipe
from levelground.runs import RunCard
from levelground.scaling.tuning import JOURNAL_FILE, ROUND, Outcome, Proposal, Range, Tuning, read_space

pytest.importorskip("optuna", reason="Optuna, of the extra tune, is not installed")

SPACE = {"lr": Range(1e-5, 1e-1, log=True), "loss": ("ce", "ce+dice", "focal+dice")}


def make_tuning(folder: Path, **fields: object) -> Tuning:
    """Return a tuning of two architectures."""
    whole: dict[str, object] = {
        "folder": folder, "space": SPACE, "recipe": Recipe(), "archs": ("unet", "fpn"), "trials": 30, "steps": 50,
        "seed": 0, "reruns": 2, "data": "d",
    }  # fmt: skip
    tuning = Tuning(**(whole | fields))  # type: ignore[arg-type]
    tuning.open()
    return tuning


def planted(proposal: Proposal) -> float:
    """Return a score that is best at a learning rate of 3e-4 with the loss ce, a little noisy by seed."""
    lr, loss = proposal.params["lr"], proposal.params["loss"]
    assert isinstance(lr, float)
    off = abs(math.log10(lr) - math.log10(3e-4))
    return 0.8 - 0.15 * off - (0.1 if loss != "ce" else 0.0) - 0.01 * proposal.seed


def run_planted(proposals: Sequence[Proposal]) -> Iterator[Outcome]:
    """Give each trial five validations on the way to its planted score; stop where its limits say so."""
    for one in proposals:
        score, curve = planted(one), list[tuple[int, float]]()
        for validation in range(1, 6):
            curve.append((10 * validation, score * validation / 5))
            if validation <= len(one.limits) and curve[-1][1] < one.limits[validation - 1]:
                break
        state = "finished" if len(curve) == 5 else "pruned"
        yield Outcome(
            one.arch, one.number, one.seed, dict(one.params), state, tuple(curve), curve[-1][1], 0.5, one.rerun
        )


def test_a_planted_optimum_is_found_on_equal_terms(tmp_path: Path) -> None:
    """Nearer than random search gets in the first round; equal proposals for both; some trials end early."""
    tuning = make_tuning(tmp_path)
    tuning.run(run_planted)
    for arch in tuning.archs:
        best = tuning.chosen(arch)
        assert best.params["loss"] == "ce" and abs(math.log10(float(best.params["lr"])) - math.log10(3e-4)) < 0.15
        first = max(planted(tuning.propose(arch, n)) for n in range(ROUND))
        assert best.value is not None and best.value > first
    trials = {arch: [tuning.outcomes[arch, False, n].params for n in range(30)] for arch in tuning.archs}
    assert trials["unet"] == trials["fpn"]
    assert trials["unet"][0] == {"lr": 2e-3, "loss": "ce+dice"}  # the recipe as it is
    states = [outcome.state for outcome in tuning.outcomes.values()]
    assert states.count("pruned") > 10 and all(tuning.outcomes["unet", False, n].state == "finished" for n in range(5))
    record = tuning.record("fpn")
    assert record.trials == 30 and record.minutes == 15.0 and record.optimism == pytest.approx(0.015)


def test_other_seeds_give_other_trials_and_more_trials_go_on(tmp_path: Path) -> None:
    """The seed decides; a longer tuning has the trials of the shorter one first."""
    short, long, other = (
        make_tuning(tmp_path / name, trials=n, seed=s) for name, n, s in (("a", 8, 0), ("b", 12, 0), ("c", 8, 1))
    )
    for tuning in (short, long, other):
        tuning.run(run_planted)
    first = [short.outcomes["unet", False, n].params for n in range(8)]
    assert first == [long.outcomes["unet", False, n].params for n in range(8)]
    assert first != [other.outcomes["unet", False, n].params for n in range(8)]
    more = make_tuning(tmp_path / "a", trials=12)
    more.run(run_planted)
    journal = [(tmp_path / name / JOURNAL_FILE).read_text().splitlines() for name in ("a", "b")]
    trials = [[line for line in lines if '"rerun": false' in line] for lines in journal]
    assert sorted(trials[0]) == sorted(trials[1])


def test_kills_leave_the_same_trials(tmp_path: Path) -> None:
    """SIGKILL five times, with a line cut short once: the journal holds what an undisturbed tuning's does."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys, time\nfrom pathlib import Path\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_tuning import make_tuning, run_planted\n"
        "def slow(proposals):\n    for one in run_planted(proposals):\n        time.sleep(0.05)\n        yield one\n"
        "make_tuning(Path(sys.argv[1])).run(slow)\n"
    )
    folder, whole = tmp_path / "killed", make_tuning(tmp_path / "whole")
    whole.run(run_planted)
    journal = folder / JOURNAL_FILE
    for kill in range(5):
        before = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen([sys.executable, str(program), str(folder)])
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.stat().st_size < before + 1500:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if kill == 2:
            journal.write_bytes(journal.read_bytes()[:-30])
    resumed = make_tuning(folder)
    assert 10 < len(resumed.outcomes) < len(whole.outcomes)
    resumed.run(run_planted)
    assert sorted(journal.read_text().splitlines()) == sorted((whole.folder / JOURNAL_FILE).read_text().splitlines())


def test_a_journal_of_another_tuning_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """What differs is named; a changed line is not taken for a result."""
    make_tuning(tmp_path).run(run_planted)
    with pytest.raises(RecordError, match=r"was begun with another steps\. Give the same again, or another --out"):
        make_tuning(tmp_path, steps=60)
    path = tmp_path / JOURNAL_FILE
    path.write_text(path.read_text().replace('"minutes": 0.5', '"minutes": 0.6', 1))
    with pytest.raises(RecordError, match=r"line 2 is damaged"):
        make_tuning(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"arch": 1}', r"line 2 is damaged \(.+\)\. Remove the line\."),
        (b'{"minutes": NaN}', r"line 2 is damaged \(.+\)\. Remove the line\."),
        (b"\xff", r"cannot be read \('utf-8' codec .+\)\. Mend or remove it\."),
    ],
)
def test_a_journal_changed_by_hand_is_one_line(tmp_path: Path, line: bytes, says: str) -> None:
    """Whatever does not fit, where no checksum tells."""
    make_tuning(tmp_path)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(RecordError, match=rf"journal\.jsonl: {says}"):
        make_tuning(tmp_path)


def test_trials_that_all_fail_are_one_line(tmp_path: Path) -> None:
    """The reason of the first one is named."""

    def fail(proposals: Sequence[Proposal]) -> Iterator[Outcome]:
        for one in proposals:
            params = dict(one.params)
            yield Outcome(one.arch, one.number, one.seed, params, "failed", (), None, 0.1, error="the loss is nan")

    with pytest.raises(UnfinishedError, match="unet: no trial of 6 was finished; the first: the loss is nan"):
        make_tuning(tmp_path, trials=6).run(fail)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no field"),
        ("lr = 1e-3", r"lr = 0.001: leaves no freedom"),
        ("lr = [1e-3]", "lr: 1 value leaves no freedom"),
        ("lr = [1e-3, 1e-3]", "lr: 1 value leaves no freedom"),
        ("lr = {low = 1e-3, high = 1e-3}", "from 0.001 to 0.001 leaves no freedom"),
        ("lr = {low = 0, high = 1, log = true}", "low = 0 has no logarithm"),
        ("lr = {low = 1e-3}", "lacks low or high"),
        ("lr = {low = 1e-3, high = 1, step = 2}", "unknown key 'step'"),
        ("lr = {low = 1e-3, high = 100}", r"lr = 100.* should be less than or equal to 10"),
        ("lr = {low = 'a', high = 1}", "lr: Input should be a valid number"),
        ("loss = ['ce', 'focal']\nrate = [1, 2]", "rate is not a field of recipes"),
        ("loss = ['ce', 'hinge']", "loss = 'hinge'"),
        ("batch = [4, 8]", "batch is the same for all models of a comparison"),
        ("scale_min = [0.5, 2.0]", "scale_min 2.0 exceeds scale_max 1.5"),
        ("scale_min = [0.5, 1.2]\nscale_max = [1.0, 2.0]", "scale_min may be 1.2 where scale_max is 1.0"),
        ("lr = ", "cannot be read"),
    ],
)
def test_bad_spaces_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    """One line that names file and field, before anything is trained."""
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_space(path, Recipe())
    assert str(caught.value).startswith(f"--space {path}: ") and "\n" not in str(caught.value)


def test_recipes_of_one_tuning_are_alike_and_others_are_named(tmp_path: Path) -> None:
    """``study --recipe-for`` takes the chosen values; unequal tuning is refused before training and named after it."""
    from levelground.pipeline import run_specs

    tuning, other = make_tuning(tmp_path / "a", trials=6), make_tuning(tmp_path / "b", trials=7)
    for one in (tuning, other):
        one.run(run_planted)
    files = {arch: tuning.write_recipe(arch) for arch in tuning.archs}
    assert load_recipe(str(files["unet"])).lr == tuning.chosen("unet").params["lr"]
    options = StudyOptions(archs=("unet", "fpn"), budget=Budget(steps=5))
    both = tuple(f"{arch}={path}" for arch, path in files.items())
    specs = run_specs(dataclasses.replace(options, recipe_for=both))
    assert [spec.recipe.lr for spec in specs] == [tuning.chosen(arch).params["lr"] for arch in ("unet", "fpn")]
    assert all(spec.tuning is not None and spec.tuning.trials == 6 for spec in specs)
    wrong = {
        both[:1]: r"unet \(6 trials of 50 steps.*\) and fpn \(not tuned\) were not tuned alike",
        (both[0], f"fpn={other.write_recipe('fpn')}"): r"fpn \(7 trials of 50 steps",
        (f"pan={files['fpn']}",): "--archs has no pan. Give one file for each of unet, fpn",
        ("unet=nowhere.toml", both[1]): "--recipe-for unet=nowhere.toml: no such file",
        ("unet",): "expected ARCH=FILE",
    }
    for given, expected in wrong.items():
        with pytest.raises(ConfigError, match=expected):
            run_specs(dataclasses.replace(options, recipe_for=given))
    cards = [
        RunCard(
            name=name, status="finished", arch=name, encoder="e", seed=0, legend_sha256="l", identity="i", tuning=told
        )
        for name, told in (("a", tuning.record("unet")), ("b", other.record("fpn")), ("c", None))
    ]
    runs = [Evaluated(card.name, type("R", (), {"card": card, "adopted": False})(), None) for card in cards]  # type: ignore[arg-type]
    assert "tuning" not in [one.field for one in compare_protocols(runs[:1] * 2)[1]]
    (unlike,) = (one for one in compare_protocols(runs)[1] if one.field == "tuning")
    assert unlike.values["c"] == "none" and str(unlike.values["b"]).startswith("7 trials of 50 steps, seed 0, loss, lr")


@pytest.mark.parametrize("cluster", [[], ["--cluster", "local:2"]])
def test_a_trial_of_several_processes_is_refused(
    cluster: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the flag and by torchrun: the second process would wait for the first one's folder and end it."""
    command = ["tune", str(tmp_path / "study"), "--space", str(tmp_path / "space.toml"), *cluster]
    assert main([*command, "--processes", "2"]) == 2
    assert capsys.readouterr().err == (
        "ConfigError: --processes 2: a trial of tune is one process. Drop the flag, or give --cluster local:2 in its "
        "place: as many trials at a time.\n"
    )
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(command) == 2
    said = capsys.readouterr().err
    jobs = "--cluster local:2: torchrun started 2 processes, and one alone starts jobs. Give the command without"
    trials = "torchrun started 2 processes: a trial of tune is one. Give the command without torchrun, with --cluster"
    assert said.startswith(f"ConfigError: {jobs if cluster else trials}")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main([*command, "--processes", "1"]) == 2
    assert "process" not in capsys.readouterr().err


def test_tune_trains_and_never_looks_at_test_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command itself, twice: recipes, journal, an unchanged log of test evaluations, and a study's page from it."""
    from builders.study import ENCODER, build_study

    study = build_study(tmp_path).folder
    log, space = study / "test_looks.jsonl", tmp_path / "space.toml"
    log.write_text('{"run": "before"}\n')
    space.write_text("lr = {low = 1e-4, high = 1e-2, log = true}")
    small = (
        f"--encoder {ENCODER} --encoder-weights none --tile 64 --halo 8 --batch 2 --device cpu --precision fp32".split()
    )
    command = ["tune", str(study), "--archs", "linknet", "--space", str(space), "--trials", "2", "--steps", "2"]
    command += ["--reruns", "1", "--precision", "fp32", "--threads", "1", "--validations", "2", *small]
    for _ in range(2):
        assert main(command) == 0
    said = capsys.readouterr().err
    assert said.count("linknet, trial 2 of 2 (lr ") == 1 and "linknet, re-run 1 of 1" in said
    assert "Trial number" in said and f"--recipe-for linknet={study / 'tune' / 'linknet.toml'}" in said
    assert log.read_text() == '{"run": "before"}\n'
    lines = [json.loads(line) for line in (study / "tune" / JOURNAL_FILE).read_text().splitlines()]
    assert [(line.get("number"), line.get("state")) for line in lines[1:]] == [
        (0, "finished"), (1, "finished"), (0, "finished"),
    ]  # fmt: skip
    assert len(lines[1]["curve"]) == 2 and not list((study / "tune").glob("*/*/runs"))
