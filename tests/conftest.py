"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real imagery (``deepglobe/ dubai/ naip/``), or a skip that says why."""
    value = os.environ.get("LEVELGROUND_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("LEVELGROUND_DATA names no folder with real imagery")
    return Path(value).resolve()
