"""The child process of one job: predict its maps, then measure where they differ.

``python -m levelground.serving.job_process FOLDER [THREADS [CODE ...]]``, 0 threads leave their number to it; it ends
when its standard input closes, which happens when the server dies, and leaves a checkpoint from which the next one goes
on.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.config import DeviceOptions
from levelground.errors import INTERRUPTED, USER_FAULT, LevelgroundError, one_line
from levelground.files import one_writer_after
from levelground.imagery.geotiff import RasterInfo, RasterMetadata, bounded_cache, copy_to_cog, raster_writer
from levelground.imagery.legend import IGNORE, Legend, hex_colour
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.thumbnails import Picture
from levelground.models.loading import open_predictor
from levelground.prediction.areas import STRIP_ROWS, ClassAreas, cell_areas, class_areas
from levelground.prediction.inputs import PixelReader
from levelground.prediction.plan import PredictionPlan, plan_predictions
from levelground.prediction.predict import predict_maps, stretch_of
from levelground.prediction.write_raster import BLOCK_PX, OutputGrid
from levelground.serving.jobs import (
    DISAGREEMENT_FILE,
    IMAGE_FILE,
    OPTIONS,
    Job,
    input_of,
    read_job,
    write_summary,
)
from levelground.signals import stop_with_starter

_WAIT_S = 60.0  # how long an earlier child may take to end
_SAMPLE_ROWS = 64  # rows, spread over the image, that its stretch is taken from


@dataclass(frozen=True)
class _Map:
    """A finished map of a job."""

    name: str
    classes: Path
    legend: Legend
    areas: ClassAreas


def run_job(folder: Path, threads: int | None = None, code: Sequence[str] = ()) -> None:
    """Predict the maps of a job that are not there yet, and write the areas and where the maps differ.

    Args:
        folder: The job's folder.
        threads: Threads of the CPU.
        code: Code of networks of the user's own, ``FILE.py:FUNCTION`` each.
    Raises:
        LevelgroundError: The raster does not fit a model, or is damaged.
        KeyboardInterrupt: The process was asked to end; the next one goes on.
    """
    give_up = time.monotonic() + _WAIT_S  # the child of a server that died may still hold the folder
    with one_writer_after(folder, lambda: time.monotonic() < give_up, poll_s=0.2):
        job = read_job(folder)
        device = DeviceOptions(threads=threads)
        _name_networks(code)
        maps = [_predict(folder, job, number, device) for number in range(len(job.models))]
        differing = _write_disagreement(maps, folder / DISAGREEMENT_FILE)
        write_summary(folder, _summary(job.raster, maps, differing))


def _name_networks(code: Sequence[str]) -> None:
    """Take the networks of the user's own that the server was given; torch is imported only where there are any."""
    if code:
        from levelground.models.own_networks import name_network

        for source in code:
            name_network(source)


def _predict(folder: Path, job: Job, number: int, device: DeviceOptions) -> _Map:
    """Predict one map, unless it is finished; before the first, write the image as the page shows it."""
    chosen = job.models[number]
    file = input_of(folder, job, chosen)
    model, runtime = open_predictor(Path(chosen.path), OPTIONS, device)  # the engine that predict takes
    if not (folder / IMAGE_FILE).exists():
        _write_image(plan_predictions(model, [file], OPTIONS, runtime)[0], folder / IMAGE_FILE)
    if not file.outputs.classes.exists():
        predict_maps(model, [file], folder / "maps" / chosen.name, OPTIONS, runtime)
    legend = model.spec.legend
    return _Map(chosen.name, file.outputs.classes, legend, class_areas(file.outputs.classes, legend))


def _write_image(plan: PredictionPlan, out: Path) -> None:
    """Write the image's first three bands, each from its 2nd to its 98th percentile, with overviews."""
    info = replace(plan.info, bands=4, dtype="uint8", nodata=None, band_nodata=(), masked=False, alpha=None)
    draft = out.with_name(f".{out.name}.draft")
    with bounded_cache(), plan.open_pixels() as reader:
        shown = [0, 1, 2] if reader.shape[2] >= 3 else [0, 0, 0]
        low, span = _stretch(reader, shown)
        with raster_writer(draft, info, RasterMetadata(), tile=BLOCK_PX, level=1) as writer:
            for rows, cols in OutputGrid(plan.info, plan.predicted_shape).windows():
                pixels, mask = reader.read(rows, cols)
                values = (pixels[..., shown].astype(np.float64) - low) / span
                writer.write(rows.start, cols.start, _shown(values, mask))
    copy_to_cog(draft, out, overviews="average")
    draft.unlink()


def _stretch(reader: PixelReader, shown: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the stretch of an image's values, from rows all over it."""
    (height, width, _), values = reader.shape, []
    for row in np.unique(np.linspace(0, height - 1, _SAMPLE_ROWS).astype(int)):
        pixels, mask = reader.read(slice(int(row), int(row) + 1), slice(0, width))
        known = pixels.reshape(-1, pixels.shape[-1]) if mask is None else pixels[~mask]
        values.append(known[:, shown].astype(np.float64))
    whole = np.concatenate(values)
    return stretch_of(whole) if len(whole) else (np.zeros(3), np.ones(3))


def _shown(values: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> Picture:
    """Return values of 0 to 1 as colours with a fourth band that is 0 where there are no data, ``(H, W, 4)``."""
    picture = np.full((*values.shape[:2], 4), 255, np.uint8)
    picture[..., :3] = (255 * np.nan_to_num(values)).clip(0, 255)
    if mask is not None:
        picture[mask] = 0
    return picture


def _write_disagreement(maps: Sequence[_Map], out: Path) -> tuple[int, int, float]:
    """Write where the maps differ: 0 where all agree, 1 where not, 255 where one has no data.

    Returns:
        Pixels that all maps know, those where they differ, and the area of the latter in m².
    """
    names = list(dict.fromkeys(name for one in maps for name in one.legend.names))
    tables = []
    for one in maps:
        table = np.full(256, IGNORE, np.uint8)
        table[: one.legend.n_classes] = [names.index(name) for name in one.legend.names]
        tables.append(table)
    readers = [RasterReader(one.classes) for one in maps]
    try:
        return _compare(readers, tables, out)
    finally:
        for reader in readers:
            reader.close()


def _compare(readers: Sequence[RasterReader], tables: Sequence[NDArray[np.uint8]], out: Path) -> tuple[int, int, float]:
    first = readers[0].info
    ground, draft = cell_areas(first).row_m2, out.with_name(f".{out.name}.draft")
    info = RasterInfo(first.height, first.width, 1, "uint8", nodata=float(IGNORE), crs=first.crs)
    info = replace(info, transform=first.transform)
    known, differing, area = 0, 0, 0.0
    with raster_writer(draft, info, RasterMetadata(), tile=BLOCK_PX, level=1) as writer:
        for top in range(0, first.height, STRIP_ROWS):
            rows = slice(top, min(first.height, top + STRIP_ROWS))
            strips = [
                table[reader.read(rows, slice(0, first.width), [1])[..., 0]]
                for reader, table in zip(readers, tables, strict=True)
            ]
            unlike = np.zeros(strips[0].shape, np.uint8)
            for other in strips[1:]:
                unlike |= other != strips[0]
            unlike[np.any([strip == IGNORE for strip in strips], axis=0)] = IGNORE
            known += int((unlike != IGNORE).sum())
            differs = (unlike == 1).sum(axis=1)
            differing += int(differs.sum())
            area += float(ground[rows] @ differs)
            writer.write(top, 0, unlike[..., None])
    copy_to_cog(draft, out, overviews="mode")
    draft.unlink()
    return known, differing, area


def _summary(raster: str, maps: Sequence[_Map], differing: tuple[int, int, float]) -> dict[str, object]:
    """Return areas by model and class, and the share on which the models disagree."""
    pixels, unlike, area = differing
    basis = maps[0].areas.basis
    return {
        "basis": basis,
        "notes": [note] if (note := maps[0].areas.warning(raster)) else [],
        "disagreement": {
            "pixels": unlike,
            "share": unlike / max(1, pixels),
            "hectares": None if basis == "none" else area / 1e4,
        },
        "models": [
            {"name": one.name, "nodata_pixels": one.areas.nodata_pixels, "classes": _classes(one)} for one in maps
        ],
    }


def _classes(one: _Map) -> list[dict[str, object]]:
    areas, hectares = one.areas, one.areas.hectares
    return [
        {
            "name": entry.name,
            "colour": f"#{hex_colour(entry.colour)}",
            "name_ru": entry.name_ru,
            "pixels": int(areas.pixels[entry.index]),
            "share": float(areas.shares[entry.index]),
            "hectares": None if hectares is None else float(hectares[entry.index]),
        }
        for entry in one.legend.classes
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the job whose folder is named, and return the exit status."""
    stop_with_starter()
    try:
        threads = int(arguments[1]) if len(arguments) > 1 else 0
        run_job(Path(arguments[0]), threads or None, arguments[2:])
    except LevelgroundError as error:
        sys.stderr.write(f"{type(error).__name__}: {one_line(str(error))}\n")
        return USER_FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
