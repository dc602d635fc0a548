"""Hostile files for the tables of bad input: each function spoils a sound folder, or makes an unsound file."""

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from builders.scene_files import kaggle_pair, noise, random_labels, save, save_raster

PREPARE = "prepare --data data --out study --cache cache"

Spoil = Callable[[Path], object]
"""Takes the folder of a case, in which ``data/`` or ``study/`` is sound so far."""


@dataclass(frozen=True)
class Case:
    """What is spoilt, the command, and the whole line that it ends with."""

    base: Spoil | None
    spoil: Spoil | None
    text: str
    command: str = PREPARE
    touched: tuple[str, ...] = ()
    """Files that say how it ended."""


MARK = "code-was-run"
"""What code hidden in a pickle would write into the current folder."""


def kaggle(root: Path) -> None:
    """Six sound scenes in the Kaggle layout."""
    for number in range(6):
        kaggle_pair(root / "data", f"{number}", seed=number)


def rasters(root: Path) -> None:
    """Four sound GeoTIFF scenes with labels."""
    for number in range(4):
        save_raster(root / "data" / f"{number}.tif", noise(16, 16, seed=number), placed=False)
        labels = random_labels(16, 16, n_classes=2, seed=number)[..., None]
        save_raster(root / "data" / f"{number}_label.tif", labels, placed=False)


def indices(root: Path) -> None:
    """Four sound scenes with index masks and a legend of two classes."""
    for number in range(4):
        save(root / "data" / "images" / f"{number}.png", noise(16, 16, seed=number))
        save(root / "data" / "masks" / f"{number}.png", random_labels(16, 16, n_classes=2, seed=number))
    legend(*TWO)(root)


def colours(root: Path) -> None:
    """Four sound scenes with colour masks and a legend of two classes."""
    for number in range(4):
        save(root / "data" / "images" / f"{number}.png", noise(16, 16, seed=number))
        palette = np.uint8([(10, 20, 30), (200, 100, 0)])
        save(root / "data" / "masks" / f"{number}.png", palette[random_labels(16, 16, n_classes=2, seed=number)])
    legend(*TWO)(root)


TWO = (("field", "0A141E"), ("wood", "C86400"))


def legend(*classes: tuple[str, str], numbers: tuple[int, ...] | None = None, more: str = "") -> Spoil:
    """Write ``legend.toml``: names and colours by index."""

    def write(root: Path) -> None:
        entries = [
            f'[[class]]\nindex = {index}\nname = "{name}"\ncolour = "{colour}"\n'
            for index, (name, colour) in zip(numbers or range(len(classes)), classes, strict=True)
        ]
        (root / "data").mkdir(exist_ok=True)
        (root / "data" / "legend.toml").write_text(more + "".join(entries), encoding="utf-8")

    return write


def many_classes(root: Path) -> None:
    """A legend of 256 classes."""
    legend(*((f"c{i}", f"{i:06X}") for i in range(256)))(root)


def content(name: str, data: bytes | str) -> Spoil:
    """Put bytes or text under a name."""

    def write(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def cut(name: str, share: float = 0.5) -> Spoil:
    """Keep the first part of a file."""
    return lambda root: (root / name).write_bytes(
        (root / name).read_bytes()[: int((root / name).stat().st_size * share)]
    )


def remove(*names: str) -> Spoil:
    """Remove files."""
    return lambda root: [(root / name).unlink() for name in names]


def picture(name: str, array: Any, mode: str | None = None, **options: object) -> Spoil:
    """Write a JPEG or PNG."""
    return lambda root: save(root / name, array, mode, **options)


def raster(name: str, array: Any) -> Spoil:
    """Write a TIFF."""
    return lambda root: save_raster(root / name, array, placed=False)


def link(name: str, target: str) -> Spoil:
    """Make a symbolic link; the target may lie beside the data folder."""
    return lambda root: (root / name).symlink_to(root / target)


def both(*steps: Spoil) -> Spoil:
    """One after the other."""
    return lambda root: [step(root) for step in steps]


def outside(root: Path) -> None:
    """A sound pair and a folder with one beside the data folder."""
    kaggle_pair(root / "elsewhere", "7")


def turned(name: str) -> Spoil:
    """A JPEG that is stored on its side and says so in its EXIF."""

    def write(root: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.asarray(noise(20, 30, seed=9), np.uint8)).save(root / name, exif=exif, quality=95)

    return write


def jpeg_of_size(name: str, width: int, height: int) -> Spoil:
    """Let a sound JPEG's header claim another size."""

    def write(root: Path) -> None:
        data = bytearray((root / name).read_bytes())
        frame = data.index(b"\xff\xc0")  # marker, length, precision, height, width
        data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        (root / name).write_bytes(data)

    return write


def tiff_of_size(width: int, height: int, *, bands: int = 3, tile: int = 0) -> bytes:
    """A TIFF whose header claims a size, and a tile's, with next to no data behind it."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 2 if bands == 3 else 1, 277: bands, 284: 1}
    tags |= {322: tile, 323: tile, 324: 8, 325: 64} if tile else {273: 8, 278: 64, 279: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(tags)) + entries + bytes(4)


def lists(train: str, val: str, test: str) -> Spoil:
    """Split lists, names parted by spaces."""

    def write(root: Path) -> None:
        for name, ids in {"train": train, "val": val, "test": test}.items():
            content(f"lists/{name}.txt", "".join(f"{scene}\n" for scene in ids.split()))(root)

    return write


def unreadable(folder: str) -> Spoil:
    """Take away the permission to list a folder."""
    return lambda root: (root / folder).chmod(0)


class _Evil:
    """Unpickling it runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARK}",)


def pickled(name: str, *, checksum: bool = False) -> Spoil:
    """A pickle that runs a command when it is read; with the checksum that a training state carries."""

    def write(root: Path) -> None:
        data = pickle.dumps({"schema": 1, "state": _Evil()}, protocol=2)
        head = hashlib.sha256(data).hexdigest().encode() + b"\n" if checksum else b""
        content(name, head + data)(root)

    return write


def edit(file: str, /, **changes: object) -> Spoil:
    """Change keys of a JSON record."""

    def write(root: Path) -> None:
        path = root / file
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(record | changes), encoding="utf-8")

    return write


def flip(file: str, /, before: bytes = b"") -> Spoil:
    """Change a bit of a file: in the last letter of the quoted ``before``, or in the file's last byte."""

    def write(root: Path) -> None:
        content = bytearray((root / file).read_bytes())
        content[content.index(before) + len(before) - 2 if before else -1] ^= 1
        (root / file).write_bytes(content)

    return write


def copy_file(source: str, target: str) -> Spoil:
    """Put a file in the place of another."""

    def write(root: Path) -> None:
        shutil.copyfile(root / source, root / target)

    return write


def forget_cache(root: Path) -> None:
    """Remove the cached scenes."""
    shutil.rmtree(root / "cache")
