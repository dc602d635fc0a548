"""What ``prepare`` can be asked for; light, for doors and their help."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

GroupsFrom = Literal["auto", "pixels", "folders", "file", "none"]
SplitRule = Literal["auto", "origin", "lists", "random", "grouped", "folders"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PrepareOptions:
    """What to prepare, and how."""

    out: Path
    """Folder that gets dataset.json; a study folder."""

    data: Path | None = None
    """Folder with the scenes; may be left out with --download."""

    layout: Literal["auto", "kaggle", "folders", "index", "geotiff", "raster"] = "auto"
    """How the folder is laid out; auto looks and says what it found."""

    legend: Path | None = None
    """Legend file (TOML); by default legend.toml in the data folder, else what the layout implies."""

    split: SplitRule = "auto"
    """Which scenes train, validate, test; auto: train/ val/ test/ folders, strips of one raster, else grouped."""

    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the random and grouped splits."""

    lists: Path | None = None
    """Folder with train.txt, val.txt (or crossvali.txt) and test.txt, one file name a line; for --split lists."""

    groups: GroupsFrom = "auto"
    """Which scenes belong together: auto takes groups.csv in the data folder, else folders and pixels together."""

    snap_colours: Annotated[int, Field(ge=0, le=255)] = 0
    """Mask colours that are no class become the nearest class up to this difference in each channel, in grey levels."""

    skip_bad: bool = False
    """Leave out scenes with errors and list them in dataset.json; by default the first one stops."""

    block: Annotated[int, Field(ge=1)] = 256
    """Side of the blocks that one large raster is cut into, in pixels."""

    cache: Path | None = None
    """Folder for decoded scenes; by default $LEVELGROUND_CACHE, else levelground in the user's cache folder."""

    download: Literal["kaggle"] | None = None
    """Fetch DeepGlobe with kagglehub first, where you have access."""
