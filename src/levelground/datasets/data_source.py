"""The data folder that a command is given, checked or downloaded before anything else is done."""

import importlib
import importlib.util
import sys
from pathlib import Path

from levelground.config import PrepareOptions
from levelground.console import say
from levelground.errors import ConfigError, DataError, SceneError

KAGGLE_NAME = "balraj98/deepglobe-land-cover-classification-dataset"
BY_HAND = (
    f"To get it by hand: accept the terms at kaggle.com/datasets/{KAGGLE_NAME}, unpack the archive, and pass its "
    "folder as --data."
)
_NO_KAGGLEHUB = f"--download kaggle: kagglehub is not installed (pip install levelground[download]). {BY_HAND}"


def check_data(options: PrepareOptions) -> None:
    """Refuse what is wrong about the data's place before anything is loaded, downloaded or made.

    Raises:
        ConfigError: No folder is given, or two sources are.
        SceneError: It is not a folder.
        DataError: What downloads is not installed.
    """
    if options.download and options.data:
        raise ConfigError(f"--data {options.data}: given with --download {options.download}. Drop one.")
    if options.download:
        if sys.modules.get("kagglehub") is None and importlib.util.find_spec("kagglehub") is None:
            raise DataError(_NO_KAGGLEHUB)
        return
    if options.data is None:
        raise ConfigError("--data: no folder given. Pass the folder with the scenes, or --download kaggle.")
    data = options.data.expanduser().resolve()
    if not data.is_dir():
        raise SceneError(f"{data}: is not a folder. Give the folder with the scenes as --data.")


def data_folder(options: PrepareOptions) -> Path:
    """Return the folder with the scenes, absolute; it is downloaded where that is asked for.

    Raises:
        ConfigError: No folder is given, or two sources are.
        SceneError: It is not a folder.
        DataError: It cannot be downloaded.
    """
    check_data(options)
    return options.data.expanduser().resolve() if options.data else download_kaggle()


def download_kaggle() -> Path:
    """Fetch DeepGlobe with kagglehub, or find what it fetched before.

    Returns:
        The folder with ``train/``.
    Raises:
        DataError: kagglehub is not installed, there is no network, or the user has no access; the message says what to
            do by hand.
    """
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError(_NO_KAGGLEHUB) from error
    say("fetching %(kaggle_name)s with kagglehub (about 3 GB)", kaggle_name=KAGGLE_NAME)
    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME)).resolve()
    except Exception as error:  # kagglehub, requests and urllib3 raise their own kinds; all mean: not fetched
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"--download kaggle: not fetched ({reason}). {BY_HAND}") from error
