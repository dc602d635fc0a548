"""Where exports of a run lie, and whether they are there already; known before anything heavy is loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from levelground.errors import ConfigError
from levelground.runs import Run

Form = Literal["onnx", "smp"]

_NAMES: dict[Form, str] = {"onnx": "model.onnx", "smp": "smp"}


def export_path(run: Run, form: Form) -> Path:
    """The file or folder that holds a run's model in a form."""
    return run.folder / "export" / _NAMES[form]


def parity_path(run: Run) -> Path:
    """The report on how a run's exports differ from its network."""
    return run.folder / "export" / "parity.json"


def refuse_existing(run: Run, forms: Iterable[Form]) -> None:
    """Refuse to write over an export.

    Raises:
        ConfigError: One of the forms is there.
    """
    for form in forms:
        if export_path(run, form).exists():
            raise ConfigError(f"{export_path(run, form)}: is there already. Pass --overwrite to replace it.")
