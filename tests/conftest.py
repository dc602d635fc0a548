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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--gold`` writes the files in ``tests/gold`` anew instead of comparing with them (``make gold``)."""
    parser.addoption("--gold", action="store_true", help="renew tests/gold instead of comparing with it")


@pytest.fixture
def renew_gold(request: pytest.FixtureRequest) -> bool:
    """Whether gold files are to be written anew."""
    return bool(request.config.getoption("--gold"))
