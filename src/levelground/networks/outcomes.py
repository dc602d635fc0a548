"""What an evaluation leaves beside its counts: predicted masks, an entry on the run card, a line among the looks."""

import json
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from levelground.comparing.setting import LOOKS_FILE
from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import SplitName
from levelground.disk import append_text, command_line
from levelground.imagery.legend import LabelMap, Legend
from levelground.records import atomic_path, sha256_file
from levelground.runs import Run, write_card


def is_evaluated(run: Run, split: SplitName, identity: str) -> bool:
    """Whether the counts on disk are whole and come of exactly this evaluation, masks included."""
    entry = (run.card.get("evaluations") or {}).get(split) or {}
    path = run.counts_path(split)
    return (
        entry.get("identity") == identity
        and path.exists()
        and run.preds_folder(split).is_dir()
        and sha256_file(path) == entry.get("counts_sha256")
    )


def forget_evaluation(run: Run, split: SplitName) -> None:
    """Remove an older evaluation, so that a new one that is broken off cannot be taken for it."""
    run.counts_path(split).unlink(missing_ok=True)
    if split in (run.card.get("evaluations") or {}):
        del run.card["evaluations"][split]
        write_card(run.folder, run.card)


def note_evaluation(run: Run, dataset: Dataset, split: SplitName, entry: Mapping[str, object]) -> None:
    """Write an evaluation's settings and speed onto the run card; on test, a line into the study's list of looks."""
    run.card.setdefault("evaluations", {})[split] = dict(entry)
    if split == "test" or "test" not in run.card["evaluations"]:
        run.card.update(tile=entry.get("tile"), halo=entry.get("halo"))
        if entry.get("megapixels_per_s"):
            speed = run.card.get("speed") or {}
            run.card["speed"] = speed | {"infer_megapixels_per_s": entry["megapixels_per_s"]}
    write_card(run.folder, run.card)
    if split == "test":
        note_look(run, dataset)


def note_look(run: Run, dataset: Dataset) -> None:
    """Write a look at the test scenes into the study's list, once for each evaluation.

    Called again where an evaluation is reused: a kill between card and list leaves it to the next command.
    """
    path, counts = dataset.folder / LOOKS_FILE, run.card["evaluations"]["test"]["counts_sha256"]
    if path.exists() and f'"counts_sha256": "{counts}"' in path.read_text(encoding="utf-8"):
        return
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"time": time, "run": run.name, "command": command_line(), "counts_sha256": counts}
    append_text(path, json.dumps(line) + "\n", durable=True)


def write_mask(path: Path, preds: LabelMap, legend: Legend) -> None:
    """Write a predicted mask as a palette PNG: legend indices, shown in the legend's colours.

    Raises:
        DiskError: It cannot be written.
    """
    image = Image.fromarray(preds)
    image.putpalette(legend.colours.tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")


def remove_other_masks(folder: Path, names: Container[str]) -> None:
    """Remove masks of scenes that are not among ``names``: those of an older split."""
    for path in folder.rglob("*.png"):
        if path.relative_to(folder).with_suffix("").as_posix() not in names:
            path.unlink()
