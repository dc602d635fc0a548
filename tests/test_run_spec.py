"""When a run is validated, and how its batches are loaded."""

import pytest
from training_builder import RUNTIME

from levelground.training.run_spec import default_workers, validation_steps


@pytest.mark.parametrize(
    ("validations", "steps", "per_epoch", "expected"),
    [
        (5, 100, 7, {20, 40, 60, 80, 100}),
        (3, 10, 7, {4, 7, 10}),
        (5, 3, 7, {1, 2, 3}),
        (1, 9, 2, {9}),
        (0, 10, 4, {4, 8, 10}),
        (0, 3, 4, {3}),
        (0, 8, 4, {4, 8}),
    ],
)
def test_validation_steps(validations: int, steps: int, per_epoch: int, expected: set[int]) -> None:
    """Evenly, or at the end of every epoch; the last step always."""
    assert validation_steps(validations, steps, per_epoch) == expected


def test_no_loader_processes_on_a_cpu() -> None:
    """They would take the cores from the network."""
    assert default_workers(RUNTIME) == 0
