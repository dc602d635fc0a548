"""Predict class maps of images and rasters, and write probabilities, areas, polygons and pictures.

Every input takes the same way: rows of tiles into a checkpoint folder, from there a plain GeoTIFF, from that the other
outputs, and last the map under its name. A job that was stopped is resumed by the same command: a record in the folder
of outputs says which inputs are finished, a checkpoint folder which rows of the unfinished one are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levelground.config import PredictOptions
from levelground.console import say
from levelground.errors import ConfigError, SceneError
from levelground.imagery.geotiff import bounded_cache
from levelground.models.model import Model
from levelground.prediction.areas import ClassAreas, class_areas, join_areas, write_areas
from levelground.prediction.inputs import find_inputs
from levelground.prediction.pipeline import Throughput, open_block_files, predict_missing_rows
from levelground.prediction.plan import PredictionPlan, bytes_needed, check_free_space, plan_predictions
from levelground.prediction.polygons import write_polygons
from levelground.prediction.previews import write_colours, write_overlay
from levelground.prediction.resume import Checkpoint, FinishedInputs
from levelground.prediction.write_raster import publish_map, write_draft_map, write_probs
from levelground.records import one_writer
from levelground.runtime import Runtime

JOINT_AREAS_FILE = "areas.csv"
"""The areas of all inputs, in the folder of outputs, where a call has several inputs."""


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
    model: Model, inputs: Sequence[str], out: Path, options: PredictOptions, runtime: Runtime
) -> list[PredictedMap]:
    """Predict class maps of images and rasters.

    Args:
        model: The model, on the runtime's device.
        inputs: Files, folders and patterns.
        out: Folder of the outputs.
        options: How inputs are read, predicted and written.
        runtime: Device and precision.
    Returns:
        The maps in the order of the inputs; maps that an earlier call finished are left out.
    Raises:
        SceneError: An input does not exist, does not fit the model, or is truncated; the others are predicted.
        ConfigError: A map exists already, or options cannot work.
        DiskError: The disk is too small or full.
        KeyboardInterrupt: The job was stopped; the same call resumes it.
    """
    plans = plan_predictions(model, find_inputs(inputs, out, options), options, runtime)
    with one_writer(out):
        finished = FinishedInputs(out)
        todo = [plan for plan in plans if not finished.holds(plan.input, plan.identity)]
        if len(todo) < len(plans):
            say(f"{out}: {len(plans) - len(todo)} of {len(plans)} inputs are finished already and kept.")
        _check_new(todo)
        check_free_space(out, bytes_needed(todo))
        maps = _predict_all(todo, finished, total=len(plans))
        if len(plans) > 1:
            join_areas(out / JOINT_AREAS_FILE, [(plan.input.name, plan.input.outputs.areas) for plan in plans])
        finished.remove()
    return maps


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
        bounded_cache(plan.cache_bytes, threads=plan.runtime.device.type != "cpu"),
        Checkpoint(plan.input.checkpoint, plan.identity, plan.rows, plan.cols) as checkpoint,
    ):
        if checkpoint.replaced:
            say(f"{plan.input.name}: rows of another job (model, input or settings) are thrown away.")
        if not checkpoint.done:
            with plan.open_pixels() as reader:
                throughput = predict_missing_rows(plan, reader, checkpoint)
        with bounded_cache(threads=True):
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
        count = write_polygons(classes, legend, paths.polygons, smallest=options.smallest_area)
        lost = f"; {count.left_out} small ones without a large neighbour are left out" if count.left_out else ""
        say(f"{paths.polygons}: {count.written} polygons{lost}.")
    if paths.picture is not None:
        write_colours(classes, legend, paths.picture, side=options.picture_side)
    if paths.overlay is not None:
        with plan.open_pixels() as image:
            write_overlay(classes, image, legend, paths.overlay, side=options.picture_side)
    return areas
