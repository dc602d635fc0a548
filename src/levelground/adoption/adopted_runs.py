"""Run folders of adopted runs: names, folders and cards, shared by adopted weights and adopted masks."""

import re
from pathlib import Path

from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError
from levelground.runs import Run, RunCard, read_run, runs_folder


def clean_name(text: str) -> str:
    """Turn a text into a name for a folder.

    Example:
        >>> clean_name("GLNet (best) 71.6")
        'GLNet-best-71.6'
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def find_adopted(dataset: Dataset, name: str, identity: str) -> tuple[Path, Run | None]:
    """Find the folder of a run to be adopted, and the run where the very same was adopted before.

    Args:
        dataset: The data set; runs lie in the ``runs/`` beside it.
        name: The run's name.
        identity: Hash of everything that is adopted.
    Raises:
        ConfigError: Another run has this name, or it cannot name a folder.
    """
    if not name or name != clean_name(name):
        raise ConfigError(f"--name {name}: not a name for a folder. Use letters, digits, dot, minus and underscore.")
    folder = runs_folder(dataset.folder) / name
    if not (folder / "run.json").exists():
        return folder, None
    run = read_run(folder)
    if run.card.identity != identity:
        raise ConfigError(f"{folder}: holds another run. Pass another --name.")
    say(f"{name}: adopted already; its card is renewed.")
    return folder, run


def adopted_card(dataset: Dataset, name: str, identity: str) -> RunCard:
    """Make the card of an adopted run with what is known of all of them; how it was trained is not known."""
    return RunCard(
        name=name,
        status="adopted",
        arch="unknown",
        encoder="unknown",
        seed=None,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        identity=identity,
    )
