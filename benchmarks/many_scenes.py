"""How `prepare` grows with the number of scenes: time, memory, a second call, and planted leaks that must be found.

Run from the project's root: ``python benchmarks/many_scenes.py [--quick] [--scenes N …] [--seed 11] [--real FOLDER]``.
Each set holds chips of 64 px cut from generated ground, a chip's width apart, so that chips of a place are alike
without touching. Among them lie 52 borders that touch and 50 near duplicates (compressed anew, brightened, turned or
mirrored). The borders are those of 13 squares of four chips that meet at a corner, the least that a tiler cuts out of
a larger image. Beside them lie 50 lone pairs of neighbours, as chips drawn at random from such tiles leave behind:
what touches at an even field continues other fields as well, and no target is set for them.
``--real`` cuts the chips from the images of a folder in the DeepGlobe layout instead.

Targets, on two cores: the largest set in under 6 minutes with memory that grows by less than 20 KB a scene, the second
call in under 30 s, an exponent of the CPU time under 1.15, every leak found and none invented.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from levelground.imagery.legend import DEEPGLOBE, encode_colours
from levelground.synthetic.scenes import generate_scene

SIDE, PLACE, LEAKS, SQUARES = 64, 224, 50, 13
FAR = PLACE - SIDE  # where the second chip of a place begins: a planted neighbour of the first does not touch it
SECONDS, SECOND_CALL, KILOBYTES, EXPONENT = 360.0, 30.0, 20.0, 1.15

Picture = NDArray[np.uint8]
Chip = tuple[Picture, Picture]  # image and colour mask


@dataclass(frozen=True)
class Ground:
    """What chips are cut from: generated ground of a seed, or images."""

    seed: int
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One command: seconds by the clock, seconds of the processor, and the largest memory, KB."""

    wall_s: float
    cpu_s: float
    memory_kb: float


def place(number: int, ground: Ground) -> Chip:
    """Return ground of 224 px with its mask: generated, or the part of that number of the images given."""
    files = ground.files
    if not files:
        image, labels = generate_scene(ground.seed, number, PLACE)
        return image, encode_colours(labels, DEEPGLOBE)
    file = files[number % len(files)]
    image = simplejpeg.decode_jpeg(file.read_bytes())
    mask = cv2.imread(str(file.with_name(file.name.replace("_sat.jpg", "_mask.png"))))
    assert mask is not None
    across = image.shape[1] // (PLACE + SIDE)
    row, column = (PLACE + SIDE) * (number // len(files) // across), (PLACE + SIDE) * (number // len(files) % across)
    if row + PLACE > len(image):
        raise SystemExit(f"--real: {len(files)} images are not enough for so many chips")
    part = np.s_[row : row + PLACE, column : column + PLACE]
    return image[part], mask[part][..., ::-1]


def chips(number: int, ground: Ground) -> Iterator[tuple[str, Chip]]:
    """Cut a place: four chips a chip's width apart, of which the first has leaks where the number is small."""
    image, mask = place(number, ground)
    for row in (0, FAR):
        for column in (0, FAR):
            part = np.s_[row : row + SIDE, column : column + SIDE]
            yield f"{4 * number + 2 * (row > 0) + (column > 0):06d}", (image[part], mask[part])
    parts = {"right": np.s_[:SIDE, SIDE : 2 * SIDE], "under": np.s_[SIDE : 2 * SIDE, :SIDE]}
    if number < LEAKS:
        part = parts["right" if number % 2 else "under"]
        yield f"{4 * number:06d}lone", (image[part], mask[part])
    elif number < 2 * LEAKS:
        yield f"{4 * number:06d}copy", copy(number, image[:SIDE, :SIDE], mask[:SIDE, :SIDE])
    elif number < 2 * LEAKS + SQUARES:
        parts["corner"] = np.s_[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
        for name, part in parts.items():
            yield f"{4 * number:06d}{name}", (image[part], mask[part])


def copy(number: int, image: Picture, mask: Picture) -> Chip:
    """Return a near duplicate: as it is, compressed harder, brighter, turned or mirrored."""
    brighter = (255 * (image / 255.0) ** 0.7).astype(np.uint8)
    coded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=70)
    return (
        (brighter, mask),
        (np.rot90(image), np.rot90(mask)),
        (image[:, ::-1], mask[:, ::-1]),
        (simplejpeg.decode_jpeg(coded), mask),
    )[number % 4]


def write_places(folder: Path, numbers: range, ground: Ground) -> None:
    """Write the chips of some places as ``NAME_sat.jpg`` and ``NAME_mask.png``."""
    cv2.setNumThreads(1)
    for number in numbers:
        for name, (image, mask) in chips(number, ground):
            coded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=92)
            (folder / f"{name}_sat.jpg").write_bytes(coded)
            cv2.imwrite(str(folder / f"{name}_mask.png"), np.ascontiguousarray(mask[..., ::-1]))


def write_set(folder: Path, scenes: int, ground: Ground) -> int:
    """Write a set of about that many scenes; return how many there are."""
    folder.mkdir(parents=True)
    places = (scenes - 2 * LEAKS - 3 * SQUARES) // 4
    with ProcessPoolExecutor(2) as pool:
        parts = [range(start, min(start + 100, places)) for start in range(0, places, 100)]
        list(pool.map(write_places, [folder] * len(parts), parts, [ground] * len(parts)))
    return sum(path.name.endswith("_sat.jpg") for path in folder.iterdir())


def measure(*arguments: object, stderr: int | None = None) -> Measured:
    """Run ``levelground`` in a process of its own."""
    command, start = [sys.executable, "-m", "levelground", *map(str, arguments)], time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{arguments[0]} ended with status {child.returncode}")
    return Measured(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)


def prepare(data: Path, work: Path) -> Measured:
    """Measure ``levelground prepare``."""
    folders = ("--data", data, "--out", work / "study", "--cache", work / "cache")
    return measure("prepare", *folders, stderr=subprocess.DEVNULL)


@dataclass(frozen=True)
class Found:
    """How many of the planted leaks are in one group, and the links that nobody planted."""

    touching: int
    copies: int
    lone: int
    invented: tuple[str, ...]


def leaks(study: Path) -> Found:
    """Count the leaks that were found: borders of squares, near duplicates, lone pairs."""
    scenes = json.loads((study / "dataset.json").read_text())["scenes"]
    group = {scene["id"]: scene["group"] for scene in scenes}
    members: dict[str, list[str]] = {}
    for scene in sorted(group):
        members.setdefault(group[scene], []).append(scene)
    pairs: dict[str, list[tuple[str, str]]] = {"right": [], "copy": [], "lone": []}
    for scene in group:
        first, kind = scene[:6], scene[6:]
        if kind in ("copy", "lone"):
            pairs[kind].append((first, scene))
        elif kind == "corner":
            right, under = f"{first}right", f"{first}under"
            pairs["right"] += [(first, right), (first, under), (right, scene), (under, scene)]
    touching, copies, lone = (sum(group[a] == group[b] for a, b in some) for some in pairs.values())
    together = [sorted({name[:6] for name in names}) for names in members.values()]
    return Found(touching, copies, lone, tuple(" ".join(names) for names in together if len(names) > 1))


def main() -> int:
    """Print the figures of each set and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="500, 1 000 and 2 000 scenes in place of 5 000 to 20 000")
    parser.add_argument("--scenes", type=int, nargs="+", help="sizes of the sets")
    parser.add_argument("--real", type=Path, help="folder with NAME_sat.jpg and NAME_mask.png to cut chips from")
    parser.add_argument("--seed", type=int, default=11, help="seed of generated ground; other seeds plant other leaks")
    parser.add_argument("--keep", type=Path, help="folder that keeps the sets for another run")
    options = parser.parse_args()
    sizes = options.scenes or ([500, 1000, 2000] if options.quick else [5000, 10_000, 20_000])
    ground = Ground(options.seed, tuple(sorted(options.real.glob("*_sat.jpg"))) if options.real else ())
    measured: dict[int, Measured] = {}
    holds = True
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            data = (options.keep or Path(temporary)) / f"data{'-real' if ground.files else f'-{ground.seed}'}-{size}"
            work = Path(temporary) / f"work-{size}"
            n = sum(path.name.endswith("_sat.jpg") for path in data.iterdir()) if data.exists() else 0
            n = n or write_set(data, size, ground)
            measured[n] = first = prepare(data, work)
            second = prepare(data, work)
            found = leaks(work / "study")
            print(
                f"{n:6d} scenes: {first.wall_s:6.1f} s, {first.cpu_s:6.1f} s of CPU, {first.memory_kb / 1024:6.0f} MB; "
                f"second call {second.wall_s:5.1f} s, {second.cpu_s:5.1f} s of CPU, {second.memory_kb / 1024:5.0f} MB; "
                f"touching {found.touching} of {4 * SQUARES}, copies {found.copies} of {LEAKS}, "
                f"lone pairs {found.lone} of {LEAKS}, invented {len(found.invented)}",
                *found.invented[:5],
                flush=True,
            )
            holds &= (found.touching, found.copies, found.invented) == (4 * SQUARES, LEAKS, ())
            holds &= first.wall_s < SECONDS and second.wall_s < SECOND_CALL
    if len(measured) > 1:
        n = np.array(sorted(measured))
        seconds, memory = (np.array([getattr(measured[k], name) for k in n]) for name in ("cpu_s", "memory_kb"))
        exponent = float(np.polyfit(np.log(n), np.log(seconds), 1)[0])
        kilobytes = float(np.polyfit(n, memory, 1)[0])
        print(f"exponent of the CPU time {exponent:.2f}    target < {EXPONENT}")
        print(f"memory a scene {kilobytes:.1f} KB    target < {KILOBYTES:.0f}")
        holds &= exponent < EXPONENT and kilobytes < KILOBYTES
    print("holds" if holds else "FALLS SHORT")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
