"""Fetch DeepGlobe from Kaggle for users who have access to it."""

import importlib
from pathlib import Path

from levelground.console import say
from levelground.errors import DataError

HANDLE = "balraj98/deepglobe-land-cover-classification-dataset"
BY_HAND = (
    f"To get it by hand: accept the terms at kaggle.com/datasets/{HANDLE}, unpack the archive, and pass its folder "
    "as --data."
)


def download_kaggle() -> Path:
    """Fetch the set with kagglehub, or find what it fetched before.

    Returns:
        The folder with ``train/``.
    Raises:
        DataError: kagglehub is not installed, there is no network, or the user has no access; says what to do by hand.
    """
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError(
            f"--download kaggle: kagglehub is not installed (pip install levelground[download]). {BY_HAND}"
        ) from error
    say(f"fetching {HANDLE} with kagglehub (about 3 GB)")
    try:
        return Path(kagglehub.dataset_download(HANDLE)).resolve()
    except Exception as error:  # kagglehub, requests and urllib3 raise their own kinds; all mean: not fetched
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"--download kaggle: not fetched ({reason}). {BY_HAND}") from error
