"""Which runs are seeds of one architecture, and the shortest names that tell architectures apart."""

from pathlib import Path
from typing import Any

import pytest
from builders.runs import RECIPE, adopted_card, build_run, noisy_counts

from levelground.comparison.compatibility import compare_protocols, name_architectures, run_labels
from levelground.comparison.inputs import gather

COUNTS = noisy_counts(2, 0.2, seed=0)


def names_of(study: Path, *runs: dict[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
    """Architectures, labels and twins of runs given by arch, seed and card."""
    built = [
        build_run(
            study, f"run{number}", COUNTS, arch=run.get("arch", "unet"), seed=run.get("seed", 0), card=run.get("card")
        )
        for number, run in enumerate(runs)
    ]
    evaluated = gather(built, "test")
    _, unlike = compare_protocols(evaluated)
    archs, twin_of = name_architectures(evaluated, unlike)
    return archs, run_labels(evaluated, archs), twin_of


def test_seeds_of_one_architecture_share_its_name(tmp_path: Path) -> None:
    """The encoder goes without saying where all have the same, and the seed of what was trained once."""
    archs, labels, twins = names_of(tmp_path, {}, {"seed": 1}, {"arch": "fpn"})
    assert archs == ["unet", "unet", "fpn"]
    assert labels == ["unet s0", "unet s1", "fpn"]
    assert twins == {}


def test_encoders_are_named_where_they_differ(tmp_path: Path) -> None:
    """The tu- of timm's encoders is left out, as in the names of runs."""
    archs, _, _ = names_of(tmp_path, {}, {"card": {"encoder": "tu-tf_efficientnet_lite0"}})
    assert archs == ["unet resnet18", "unet tf_efficientnet_lite0"]


@pytest.mark.parametrize(
    ("card", "names"),
    [
        ({"recipe": RECIPE | {"name": "origin", "lr": 0.0002}}, ["unet (default)", "unet (origin)"]),
        ({"halo": 0}, ["unet (halo 32)", "unet (halo 0)"]),
        ({"budget": {"asked": "4 epochs", "steps": 9}}, ["unet (budget 100 steps)", "unet (budget 4 epochs)"]),
    ],
)
def test_an_unlike_protocol_is_another_architecture(tmp_path: Path, card: dict[str, Any], names: list[str]) -> None:
    """Runs made otherwise are no seeds of each other; the name says what differs."""
    archs, _, _ = names_of(tmp_path, {}, {"seed": 1, "card": card})
    assert archs == names


def test_the_same_seed_again_is_no_second_seed(tmp_path: Path) -> None:
    """A repeated training stands for itself."""
    archs, labels, _ = names_of(tmp_path, {}, {}, {"seed": 1})
    assert archs == ["unet (no. 1)", "unet (no. 2)", "unet (no. 1)"]
    assert labels == ["unet (no. 1) s0", "unet (no. 2)", "unet (no. 1) s1"]


@pytest.mark.parametrize("same", ["weights", "counts"])
def test_the_same_training_under_another_seed_is_no_second_training(tmp_path: Path, same: str) -> None:
    """The same weights or predictions adopted twice; a training that has the claimed seed counts."""
    known = adopted_card() | {"known_as": "GLNet"}
    weights = [{"weights_sha256": digit * 64} for digit in ("aab" if same == "weights" else "abc")]
    counts = [noisy_counts(2, 0.2, seed=seed) for seed in ((0, 0, 1) if same == "counts" else (0, 1, 2))]
    runs = [
        build_run(tmp_path, f"run{n}", counts[n], arch="unknown", seed=seed, card=known | weights[n])
        for n, seed in enumerate((0, 1, 1))
    ]
    evaluated = gather(runs, "test")
    archs, _ = name_architectures(evaluated, [])
    assert archs == ["GLNet (no. 1)", "GLNet (no. 2)", "GLNet (no. 1)"]
    assert run_labels(evaluated, archs) == ["GLNet (no. 1) s0", "GLNet (no. 2)", "GLNet (no. 1) s1"]


def test_adopted_runs_and_runs_without_a_seed_stand_alone(tmp_path: Path) -> None:
    """Nobody knows that they were made as the others were."""
    archs, labels, _ = names_of(tmp_path, {}, {"card": adopted_card() | {"seed": None}}, {"card": {"seed": None}})
    assert archs == ["unet", "run1", "run2"]
    assert labels == ["unet", "run1", "run2"]


def test_a_twin_has_a_name_of_its_own_and_knows_its_original(tmp_path: Path) -> None:
    """The control's second name."""
    archs, labels, twins = names_of(tmp_path, {}, {"seed": 1000, "card": {"twin": True}})
    assert archs == ["unet", "unet twin"]
    assert labels == ["unet", "unet twin"]
    assert twins == {"unet twin": "unet"}
