"""Predict class maps of images and rasters, and write probabilities, areas, polygons and pictures.

Every input takes the same way: rows of tiles into a checkpoint folder, from there a plain GeoTIFF, from that the other
outputs, and last the map under its name. A job that was stopped is resumed by the same command: a record in the folder
of outputs says which inputs are finished, a checkpoint folder which rows of the unfinished one are.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from levelground.config import PredictOptions
from levelground.console import say, say_counted
from levelground.errors import ConfigError, ModelError, SceneError
from levelground.imagery.geotiff import bounded_cache
from levelground.imagery.legend import IGNORE, LabelMap, Legend, hex_colour
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.thumbnails import Picture, reduced_size
from levelground.inference.parity import proof_tiles, proved
from levelground.models.model import Model
from levelground.prediction.areas import JOINT_AREAS_FILE, STRIP_ROWS, ClassAreas, class_areas, join_areas, write_areas
from levelground.prediction.inputs import InputFile, PixelReader, find_inputs
from levelground.prediction.pipeline import Throughput, model_pixels, open_block_files, predict_missing_rows
from levelground.prediction.plan import PredictionPlan, bytes_needed, check_free_space, plan_predictions
from levelground.prediction.resume import Checkpoint, FinishedInputs
from levelground.prediction.write_raster import publish_map, write_draft_map, write_probs
from levelground.records import atomic_path, one_writer
from levelground.runtime import Runtime

_WIDE = 4096  # columns of the image read at a time
_SHOWN = 0.45  # how much of a class's colour covers the image
_LOW, _HIGH = 2.0, 98.0  # percentiles that become black and white
_PAPER, _INK, _EMPTY = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def write_colours(classes: Path, legend: Legend, out: Path, *, side: int) -> None:
    """Write a class map as a palette PNG in the legend's colours; no data is transparent.

    Args:
        classes: One band of legend indices, 255 without data.
        legend: Its classes; the file's text ``Legend`` lists their names and colours.
        out: The PNG.
        side: Its longest side at most, in pixels.
    Raises:
        DiskError: The disk is full.
    """
    image = Image.fromarray(reduced_classes(classes, side))
    image.putpalette(_palette(legend).tobytes())
    text = PngImagePlugin.PngInfo()
    names = [f"{entry.index} {hex_colour(entry.colour)} {entry.name}" for entry in legend.classes]
    text.add_itxt("Legend", "\n".join(names))
    with atomic_path(out) as temporary:
        image.save(temporary, "PNG", transparency=IGNORE, pnginfo=text)


def write_overlay(classes: Path, image: PixelReader, legend: Legend, out: Path, *, side: int) -> None:
    """Write the image with its classes drawn over it, half transparent and outlined, and the classes' names below.

    Args:
        classes: One band of legend indices, 255 without data.
        image: The image, of the same height and width; its first three bands are shown, or the first alone in grey,
            each from its 2nd to its 98th percentile.
        legend: The classes.
        out: The PNG.
        side: Longest side of the image in it at most, in pixels.
    Raises:
        DiskError: The disk is full.
    """
    labels = reduced_classes(classes, side)
    picture = draw_overlay(reduced_image(image, (labels.shape[0], labels.shape[1])), labels, legend)
    with atomic_path(out) as temporary:
        Image.fromarray(add_names(picture, labels, legend)).save(temporary, "PNG")


def reduced_classes(classes: Path, side: int) -> LabelMap:
    """Reduce a class map to a longest side of at most ``side`` by the nearest pixel, ``(H, W)``."""
    with RasterReader(classes) as reader:
        full = (reader.info.height, reader.info.width)
        size = reduced_size(*full, side)
        rows, cols = (((np.arange(n) + 0.5) * of / n).astype(np.intp) for n, of in zip(size, full, strict=True))
        labels = np.empty(size, np.uint8)
        for first in range(0, full[0], STRIP_ROWS):
            here = np.flatnonzero((rows >= first) & (rows < first + STRIP_ROWS))
            if here.size:
                strip = reader.read(slice(first, min(full[0], first + STRIP_ROWS)), slice(0, full[1]), [1])
                labels[here] = strip[rows[here, None] - first, cols, 0]
    return labels


def reduced_image(image: PixelReader, size: tuple[int, int]) -> Picture:
    """Reduce an image to a smaller size and stretch its values: each pixel is the mean of its pixels with data.

    Args:
        image: The image, at least as large.
        size: Height and width of the result.
    Returns:
        ``(H, W, 3)``; grey where nothing has data.
    """
    height, width, bands = image.shape
    shown = 3 if bands >= 3 else 1
    # Pixels row_edges[i] to row_edges[i + 1] of the image become pixel i.
    row_edges, col_edges = (np.arange(n + 1) * of // n for n, of in zip(size, (height, width), strict=True))
    some_rows, some_cols = max(1, STRIP_ROWS * size[0] // height), max(1, _WIDE * size[1] // width)
    sums, counts = np.zeros((*size, shown)), np.zeros(size)
    for top, left in product(range(0, size[0], some_rows), range(0, size[1], some_cols)):
        down, across = row_edges[top : top + some_rows + 1], col_edges[left : left + some_cols + 1]
        pixels, mask = image.read(slice(int(down[0]), int(down[-1])), slice(int(across[0]), int(across[-1])))
        values = pixels[..., :shown].astype(np.float64 if pixels.dtype.kind == "f" else np.int64)
        known = np.ones(values.shape[:2], np.int64)
        if mask is not None:
            values[mask], known[mask] = 0, 0
        place = slice(top, top + some_rows), slice(left, left + some_cols)
        starts = down[:-1] - down[0], across[:-1] - across[0]
        sums[place] = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
        counts[place] = np.add.reduceat(np.add.reduceat(known, starts[0], axis=0), starts[1], axis=1)
    return _stretched(sums / np.maximum(counts, 1)[..., None], counts > 0)


def _stretched(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> Picture:
    """Convert values ``(H, W, 1 or 3)`` to colours, each band from its 2nd to 98th percentile; grey without data."""
    if valid.any():
        low, span = stretch_of(values[valid])
        values = 255 * (values - low) / span
    picture = np.broadcast_to(values.clip(0, 255).astype(np.uint8), (*valid.shape, 3)).copy()
    picture[~valid] = _EMPTY
    return picture


def stretch_of(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what becomes black, and how much more becomes white: each band from its 2nd to its 98th percentile.

    Args:
        values: Pixels with data, ``(N, C)``, at least one.
    Returns:
        Two arrays, ``(C,)``.
    """
    low, high = np.percentile(values, (_LOW, _HIGH), axis=0)
    return low, np.maximum(high - low, 1e-9)


def draw_overlay(image: Picture, labels: LabelMap, legend: Legend) -> Picture:
    """Draw classes over an image: their colours half transparent, and opaque where two classes meet.

    Args:
        image: ``(H, W, 3)``.
        labels: ``(H, W)``; nothing is drawn where they have no data.
        legend: The classes' colours.
    """
    palette = _palette(legend)
    meets = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    meets[:, 1:] |= across
    meets[:, :-1] |= across
    meets[1:] |= down
    meets[:-1] |= down
    weight = np.where(meets, 1.0, _SHOWN) * (labels != IGNORE)
    mixed = image + (palette[labels].astype(np.float64) - image) * weight[..., None]
    return np.asarray(mixed.round(), np.uint8)


def add_names(picture: Picture, labels: LabelMap, legend: Legend) -> Picture:
    """Add a legend below a picture: a square of colour and the name of each class that is in it, and of no data.

    Args:
        picture: ``(H, W, 3)``.
        labels: ``(H, W)``, the classes it shows.
        legend: The classes.
    Returns:
        A higher picture, also wider if a name would not fit.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    entries = [(entry.colour, entry.name) for entry in legend.classes if counts[entry.index]]
    entries += [(_EMPTY, "no data")] if counts[IGNORE] else []
    size = int(np.clip(picture.shape[1] // 48, 12, 48))
    font, gap = _font(size), size // 2
    lengths = [size + gap // 2 + round(font.getlength(name)) for _, name in entries]
    width = max([picture.shape[1], *(length + 2 * gap for length in lengths)])
    places, x, y = [], gap, gap
    for length in lengths:
        if x > gap and x + length + gap > width:
            x, y = gap, y + size + gap
        places.append((x, y))
        x += length + 2 * gap
    height = picture.shape[0]
    whole = Image.new("RGB", (width, height + (y + size + gap if entries else 0)), _PAPER)
    whole.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(whole)
    for (colour, name), (x, y) in zip(entries, places, strict=True):
        box = (x, height + y, x + size - 1, height + y + size - 1)
        draw.rectangle(box, fill=colour, outline=_INK)
        draw.text((x + size + gap // 2, height + y + size / 2), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(whole)


def _palette(legend: Legend) -> NDArray[np.uint8]:
    """Return colours for all 256 values, ``(256, 3)``: the legend's, else black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: legend.n_classes] = legend.colours
    return palette


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font that comes with matplotlib, without importing it: Pillow's own font has no Cyrillic."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


@dataclass(frozen=True)
class PredictedMap:
    """The finished map of one input.

    Attributes:
        classes: The class map.
        megapixels: Its size.
        throughput: How many pixels this call predicted, and how fast; none if an earlier call had predicted all.
        areas: Pixels of each class, and their areas on the ground.
    """

    classes: Path
    megapixels: float
    throughput: Throughput
    areas: ClassAreas

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class of the legend among pixels with data."""
        return tuple(self.areas.shares.tolist())

    @property
    def nodata_share(self) -> float:
        """Share of pixels without data."""
        nodata = self.areas.nodata_pixels
        return nodata / max(1, nodata + int(self.areas.pixels.sum()))


def predict_maps(
    model: Model, inputs: Sequence[InputFile], out: Path, options: PredictOptions, runtime: Runtime
) -> list[PredictedMap]:
    """Predict class maps of images and rasters.

    Args:
        model: The model, on the runtime's device.
        inputs: What :func:`levelground.prediction.inputs.find_inputs` found.
        out: Folder of the outputs, the one that the inputs were found for.
        options: How inputs are read, predicted and written.
        runtime: Device and precision.
    Returns:
        The maps in the order of the inputs; maps that an earlier call finished are left out.
    Raises:
        SceneError: An input does not fit the model, or is truncated; the others are predicted.
        ConfigError: A map exists already, or options cannot work.
        DiskError: The disk is too small or full.
        KeyboardInterrupt: The job was stopped; the same call resumes it.
    """
    plans = _with_proved_engine(plan_predictions(model, inputs, options, runtime))
    with one_writer(out):
        finished = FinishedInputs(out)
        todo = [plan for plan in plans if not finished.holds(plan.input, plan.identity)]
        if len(todo) < len(plans):
            say(
                "%(out)s: %(done)s of %(n)s inputs are finished already and kept.",
                out=out,
                done=len(plans) - len(todo),
                n=len(plans),
            )
        _check_new(todo)
        check_free_space(out, bytes_needed(todo))
        maps = _predict_all(todo, finished, total=len(plans))
        if len(plans) > 1:
            join_areas(out / JOINT_AREAS_FILE, [(plan.input.name, plan.input.outputs.areas) for plan in plans])
        finished.remove()
    return maps


def predict_one(
    model: Model, inputs: Sequence[str], out: Path, options: PredictOptions, runtime: Runtime, name: str, state: Path
) -> None:
    """Predict one of the inputs, as a job beside those of the others; see :func:`predict_maps`.

    Args:
        model: The model, on the runtime's device.
        inputs: All files, folders and patterns, which decide where outputs go.
        out: Folder of the outputs; the process that queued the job holds it.
        options: How inputs are read, predicted and written.
        runtime: Device and precision.
        name: The input, as :func:`levelground.prediction.inputs.find_inputs` names it.
        state: The job's own folder, which says afterwards that the input is finished.
    """
    files = [file for file in find_inputs(inputs, out, options) if file.name == name]
    if not files:
        raise SceneError(f"{name}: is not on this worker. Put the inputs on storage that all workers mount.")
    plans = _with_proved_engine(plan_predictions(model, files, options, runtime))
    finished = FinishedInputs(state)
    todo = [plan for plan in plans if not finished.holds(plan.input, plan.identity)]
    if not todo:
        say("%(name)s: is finished already and kept.", name=name)
        return
    _check_new(todo)
    check_free_space(out, bytes_needed(todo))
    _predict_all(todo, finished, total=1)


def _with_proved_engine(plans: list[PredictionPlan]) -> list[PredictionPlan]:
    """Decide on some tiles of the first input that can be read which engine runs the model, for all inputs."""
    for plan in plans if plans[0].model.reference else ():
        try:
            chosen = proved(plan.model, functools.partial(_some_tiles, plan), plan.runtime)
        except SceneError:  # it is named when its turn comes
            continue
        return [dataclasses.replace(one, model=one.model.run_as(chosen)) for one in plans]
    return plans


def _some_tiles(plan: PredictionPlan) -> NDArray[np.generic]:
    with bounded_cache(plan.cache_bytes), plan.open_pixels() as reader:
        return proof_tiles(model_pixels(plan, reader), plan.geometry)


def _predict_all(plans: Sequence[PredictionPlan], finished: FinishedInputs, *, total: int) -> list[PredictedMap]:
    """Predict one input after the other; of several, those that are truncated are left out and named at the end."""
    maps, broken = [], []
    for plan in plans:
        try:
            predicted = _predict_input(plan)
        except SceneError as error:
            if total == 1:
                raise
            say(str(error))
            broken.append(plan.input.name)
            continue
        except KeyboardInterrupt:
            say("The same command goes on from there.")
            raise
        finished.add(plan.input, plan.identity)
        say(_summary(predicted, plan))
        maps.append(predicted)
    if broken:
        raise SceneError(
            f"{len(broken)} of {total} inputs broke off, the first {broken[0]}; the others are predicted. "
            "Mend them and give the same command."
        )
    return maps


def _summary(predicted: PredictedMap, plan: PredictionPlan) -> str:
    """Describe a finished map in one line."""
    hectares = predicted.areas.hectares
    named = [
        f"{name} {predicted.shares[index]:.1%}" + ("" if hectares is None else f" ({hectares[index]:,.2f} ha)")
        for index, name in enumerate(plan.model.spec.legend.names)
        if predicted.shares[index]
    ]
    nodata = [f"no data {predicted.nodata_share:.1%}"] if predicted.nodata_share else []
    throughput = predicted.throughput
    rate = f", {throughput.megapixels_per_s:.2f} megapixels/s" if throughput.pixels else ""
    return f"{predicted.classes}: {predicted.megapixels:.1f} megapixels{rate}; {', '.join(named + nodata)}."


def _check_new(plans: Sequence[PredictionPlan]) -> None:
    """Refuse two inputs that would write the same file, and to replace files unasked."""
    written: dict[Path, PredictionPlan] = {}
    for plan in plans:
        for path in plan.input.outputs.all:
            other = written.setdefault(path, plan)
            if other is not plan:
                raise ConfigError(
                    f"{other.input.path} and {plan.input.path}: both would become {path}. "
                    "Write their maps into two folders."
                )
    # If there is a checkpoint and no map yet, the unfinished job wrote the other files before it was stopped.
    begun = [plan.input for plan in plans if plan.input.checkpoint.exists() and not plan.input.outputs.classes.exists()]
    existing = [path for path, plan in written.items() if path.exists() and plan.input not in begun]
    if existing and not plans[0].options.overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ConfigError(f"{existing[0]}{more}: exists already. Pass --overwrite, or choose another --out.")


def _predict_input(plan: PredictionPlan) -> PredictedMap:
    """Predict one input and write its outputs; the class map comes last, so that where it exists all others do."""
    throughput = Throughput(0, 0.0)
    with (
        bounded_cache(plan.cache_bytes, threads=plan.runtime.device_kind != "cpu"),
        Checkpoint(plan.input.checkpoint, plan.identity, plan.rows, plan.cols) as checkpoint,
    ):
        if checkpoint.damage:
            say(
                "%(name)s: its finished rows are damaged (%(damage)s) and are predicted anew.",
                name=plan.input.name,
                damage=checkpoint.damage,
            )
        elif checkpoint.replaced:
            say("%(name)s: rows of another job (model, input or settings) are thrown away.", name=plan.input.name)
        if not checkpoint.done:
            try:
                with plan.open_pixels() as reader:
                    throughput = predict_missing_rows(plan, reader, checkpoint)
            except ModelError:  # the same command would end here again
                checkpoint.remove()
                raise
        with bounded_cache(threads=True, side_files=plan.input.kind == "image"):
            files = open_block_files(plan, checkpoint)
            if files.probs is not None:
                write_probs(plan, files.probs, checkpoint.folder)
            draft = write_draft_map(plan, files.classes, checkpoint.folder)
            areas = _write_other_outputs(plan, draft)
            publish_map(plan, draft)
    checkpoint.remove()
    return PredictedMap(plan.input.outputs.classes, plan.info.height * plan.info.width / 1e6, throughput, areas)


def _write_other_outputs(plan: PredictionPlan, classes: Path) -> ClassAreas:
    """Write the areas, polygons and pictures of a finished class map."""
    paths, legend, options = plan.input.outputs, plan.model.spec.legend, plan.options
    areas = class_areas(classes, legend)
    write_areas(paths.areas, areas)
    warning = areas.warning(plan.input.name)
    if warning:
        say(warning)
    if paths.polygons is not None:
        from levelground.prediction.polygons import write_polygons  # SciPy takes as long to load as all else

        count = write_polygons(classes, legend, paths.polygons, smallest=options.smallest_area)
        say_counted("%(path)s: %(n)s polygon.", "%(path)s: %(n)s polygons.", count.written, path=paths.polygons)
        if count.left_out:
            say_counted(
                "%(path)s: %(n)s small polygon without a large neighbour is left out.",
                "%(path)s: %(n)s small polygons without a large neighbour are left out.",
                count.left_out,
                path=paths.polygons,
            )
    if paths.picture is not None:
        write_colours(classes, legend, paths.picture, side=options.picture_side)
    if paths.overlay is not None:
        with plan.open_pixels() as image:
            write_overlay(classes, image, legend, paths.overlay, side=options.picture_side)
    return areas
