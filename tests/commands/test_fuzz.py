"""Mutated inputs of every kind end with status 0 or 2, in one line, without half-written files; see ``make fuzz``."""

import itertools

import pytest
from builders.fuzz import inputs

SECONDS = 25


@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore")  # of libraries, about what they are given
def test_mutated_inputs_are_read_or_refused() -> None:
    """As many as fit into the time; the same numbers, so the same inputs, each time."""
    counts, faults = inputs(itertools.count(), SECONDS)
    assert faults == []
    assert {name.partition(":")[0] for name in counts} >= {"jpeg", "counts", "onnx", "geopackage"}
