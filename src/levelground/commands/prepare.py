"""Find and verify scenes, split them, and decode them once."""

from typing import TYPE_CHECKING

from levelground.config import PrepareOptions
from levelground.records import one_writer

if TYPE_CHECKING:
    from levelground.datasets.dataset import Dataset

PrepareConfig = PrepareOptions


def prepare(config: PrepareConfig) -> "Dataset":
    """Prepare a data folder: verify, decode, group and split its scenes, and write ``dataset.json``.

    Args:
        config: What to prepare, and how.
    Returns:
        The record as written.
    Raises:
        LevelgroundError: A file is wrong, the scenes cannot be split as asked, or another process writes there.
    """
    from levelground.datasets.prepare import prepare_dataset

    with one_writer(config.out):
        return prepare_dataset(config)
