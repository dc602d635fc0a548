"""Find and verify scenes, split them, and decode them once."""

from levelground.dataset import Dataset
from levelground.prepare import PrepareOptions, prepare_dataset
from levelground.records import one_writer

PrepareConfig = PrepareOptions


def prepare(config: PrepareConfig) -> Dataset:
    """Prepare a data folder: verify, decode, group and split its scenes, and write ``dataset.json``.

    Args:
        config: What to prepare, and how.
    Returns:
        The record as written.
    Raises:
        LevelgroundError: A file is wrong, the scenes cannot be split as asked, or another process writes there.
    """
    with one_writer(config.out):
        return prepare_dataset(config)
