"""``predict``: a model over images and rasters -> class maps, and what else is asked for.

Every input goes the same way: rows of tiles into a scratch folder, from there a plain GeoTIFF, from that the products,
and last the map under its name. A job that was stopped goes on with the same command: a record of the folder says which
inputs are finished, a scratch folder which rows of the one that was being mapped.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levelground import __version__
from levelground.console import say
from levelground.errors import ConfigError, RecordError, SceneError
from levelground.imagery.geotiff import bounded_cache, copy_to_cog
from levelground.imagery.raster_reader import RasterReader
from levelground.inference.sliding_window import average_d4
from levelground.models.model import Predictor
from levelground.prediction.area_table import Areas, join_areas
from levelground.prediction.inputs import find_targets
from levelground.prediction.outputs import AREAS_FILE, product_files, write_products
from levelground.prediction.pipeline import Pace, Work, open_layers, run_job
from levelground.prediction.plan import Plan, Settings, bytes_needed, check_room, plan_maps
from levelground.prediction.readers import Grid, ImageGrid, RasterGrid, ResampledGrid, Source
from levelground.prediction.resume import Scratch
from levelground.prediction.write_raster import (
    Canvas,
    write_category_names,
    write_class_raster,
    write_mask_png,
    write_probs_raster,
)
from levelground.records import one_writer, read_json, write_json
from levelground.runtime import Runtime

UNFINISHED_FILE = ".unfinished.json"
"""In the folder of maps, while a job is not done: which of its inputs are."""


@dataclass(frozen=True)
class Mapped:
    """What became of one input.

    Attributes:
        classes: The class map.
        megapixels: Its size.
        pace: What was run for it, and how fast; nothing where it was finished before.
        areas: Pixels of each class, and their areas on the ground.
    """

    classes: Path
    megapixels: float
    pace: Pace
    areas: Areas

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class of the legend among pixels with data."""
        return tuple(self.areas.shares.tolist())

    @property
    def empty(self) -> float:
        """Share of pixels without data."""
        return self.areas.empty / max(1, self.areas.empty + int(self.areas.pixels.sum()))


def predict_maps(
    predictor: Predictor, inputs: Sequence[str], out: Path, *, settings: Settings, runtime: Runtime
) -> list[Mapped]:
    """Map images and rasters.

    Args:
        predictor: The model, on the runtime's device.
        inputs: Files, folders and patterns.
        out: Folder of the maps.
        settings: What else the user decides.
        runtime: Device and precision.
    Returns:
        What became of each input, in the order of the inputs; those that an earlier call finished are left out.
    Raises:
        SceneError: An input is not there, does not fit the model, or broke off; the others are mapped.
        ConfigError: A map is there already, or flags cannot work.
        DiskError: The disk is too small or full.
        KeyboardInterrupt: It was stopped; the same call goes on.
    """
    targets = find_targets(inputs, out)
    plans = plan_maps(predictor, targets, settings, device=runtime.device.type, precision=runtime.precision)
    with one_writer(out):
        ledger = _Ledger(out, settings)
        todo = [plan for plan in plans if not ledger.holds(plan)]
        if len(todo) < len(plans):
            say(f"{out}: {len(plans) - len(todo)} of {len(plans)} inputs are finished already and kept.")
        _check_absent(todo, settings)
        check_room(out, bytes_needed(todo, settings))
        mapped, broken = [], []
        for plan in todo:
            try:
                mapped.append(_map(plan, settings, runtime))
            except SceneError as error:
                if len(plans) == 1:
                    raise
                say(str(error))
                broken.append(plan.target.name)
                continue
            except KeyboardInterrupt:
                say("The same command goes on from there.")
                raise
            ledger.add(plan)
            say(summary(mapped[-1], plan))
        if broken:
            raise SceneError(
                f"{len(broken)} of {len(plans)} inputs broke off, the first {broken[0]}; the others are mapped. "
                "Mend them and give the same command."
            )
        if len(plans) > 1:
            tables = [product_files(plan.target, settings.products).areas for plan in plans]
            join_areas(out / AREAS_FILE, [(plan.target.name, table) for plan, table in zip(plans, tables, strict=True)])
        ledger.remove()
    return mapped


def summary(mapped: Mapped, plan: Plan) -> str:
    """One line about a finished map."""
    hectares = mapped.areas.hectares
    named = [
        f"{name} {mapped.shares[index]:.1%}" + ("" if hectares is None else f" ({hectares[index]:,.2f} ha)")
        for index, name in enumerate(plan.predictor.legend.names)
        if mapped.shares[index]
    ]
    empty = [f"no data {mapped.empty:.1%}"] if mapped.empty else []
    rate = f", {mapped.pace.megapixels_per_s:.2f} megapixels/s" if mapped.pace.pixels else ""
    return f"{mapped.classes}: {mapped.megapixels:.1f} megapixels{rate}; {', '.join(named + empty)}."


def outputs(plan: Plan, settings: Settings) -> list[Path]:
    """The files that an input becomes."""
    probs = [plan.target.probs] if settings.probs != "none" else []
    return [plan.target.classes, *probs, *product_files(plan.target, settings.products).all]


def _check_absent(plans: Sequence[Plan], settings: Settings) -> None:
    """Refuse to replace maps unasked."""
    written: dict[Path, Plan] = {}
    for plan in plans:
        for path in outputs(plan, settings):
            other = written.setdefault(path, plan)
            if other is not plan:
                raise ConfigError(
                    f"{other.target.source} and {plan.target.source}: both would become {path}. "
                    "Map them into two folders."
                )
    # Where there are scratch files and no map yet, other files are what the unfinished job wrote before it was stopped.
    begun = {plan.target.classes for plan in plans if plan.scratch.exists() and not plan.target.classes.exists()}
    there = [path for path, plan in written.items() if path.exists() and plan.target.classes not in begun]
    if there and not settings.overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(f"{there[0]}{more}: exists already. Pass --overwrite, or choose another --out.")


def _map(plan: Plan, settings: Settings, runtime: Runtime) -> Mapped:
    """Map one input."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(bounded_cache(plan.cache, threads=runtime.device.type != "cpu"))
        scratch = stack.enter_context(Scratch(plan.scratch, plan.identity, plan.rows, plan.cols))
        if scratch.replaced:
            say(f"{plan.target.name}: rows of another job (model, input or settings) are thrown away.")
        work = _work(plan, settings, runtime)
        pace = Pace(0, 0.0)
        if not scratch.done:
            grid = _open_grid(plan, stack)
            source = Source(grid if plan.factor == 1 else ResampledGrid(grid, plan.factor), plan.predictor.mean)
            pace = run_job(work, source, scratch, plan.rows, plan.cols, runtime)
        areas = _write(plan, settings, scratch, work)
    scratch.remove()
    return Mapped(
        classes=plan.target.classes,
        megapixels=plan.info.height * plan.info.width / 1e6,
        pace=pace,
        areas=areas,
    )


def _work(plan: Plan, settings: Settings, runtime: Runtime) -> Work:
    model = plan.predictor
    forward, activated = model.forward, model.activated
    if settings.symmetries:
        forward = average_d4(forward, activated=activated, channels_last=runtime.channels_last)
        activated = True
    return Work(
        plan.target.name, forward, activated, model.outputs, model.mean, model.std, plan.geometry, settings.probs
    )


def _open_grid(plan: Plan, stack: contextlib.ExitStack) -> Grid:
    if plan.target.kind == "image":
        return ImageGrid(plan.target.source, plan.bands, zero=plan.validity.zero)
    return RasterGrid(stack.enter_context(RasterReader(plan.target.source)), plan.bands, plan.validity)


def _write(plan: Plan, settings: Settings, scratch: Scratch, work: Work) -> Areas:
    """Make the files of a finished scratch folder; the class map comes last, so that where it is all is."""
    legend, target = plan.predictor.legend, plan.target
    canvas, layers = Canvas(plan.info, plan.made), open_layers(scratch, work)
    tags = {"TIFFTAG_SOFTWARE": f"levelground {__version__}", "MODEL": plan.predictor.name}
    tags["MODEL_SHA256"] = plan.predictor.digest
    with bounded_cache(threads=True), contextlib.ExitStack() as stack:
        photograph = _open_grid(plan, stack) if settings.products.overlay else None
        if layers.probs is not None:
            names = [legend.names[index] for index in work.outputs]
            plain = scratch.folder / "probs.tif" if settings.cog else target.probs
            write_probs_raster(plain, layers.probs, canvas, names, tags, draft=settings.cog)
            if settings.cog:
                predictor = 2 if settings.probs == "uint8" else 3
                copy_to_cog(plain, target.probs, overviews="average", predictor=predictor)
                plain.unlink()
        if target.kind == "image":
            plain = scratch.folder / "classes.png"
            write_mask_png(plain, layers.classes, canvas, legend)
            areas = write_products(plain, photograph, legend, target, settings.products)
            plain.replace(target.classes)
            return areas
        plain = scratch.folder / "classes.tif"
        write_class_raster(plain, layers.classes, canvas, legend, tags, draft=settings.cog)
        areas = write_products(plain, photograph, legend, target, settings.products)
        if settings.cog:
            copy_to_cog(plain, target.classes, overviews="mode")
        else:
            plain.replace(target.classes)
        write_category_names(target.classes, legend)
    return areas


class _Ledger:
    """Which inputs of a job are finished; it goes when the job is done."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self._path, self._settings = out / UNFINISHED_FILE, settings
        self._finished: dict[str, str] = {}
        with contextlib.suppress(RecordError):
            self._finished = dict(read_json(self._path, kind="prediction")["finished"])

    def holds(self, plan: Plan) -> bool:
        """Whether an earlier call with the same settings finished an input."""
        there = all(path.exists() for path in outputs(plan, self._settings))
        return there and self._finished.get(str(plan.target.classes)) == plan.identity

    def add(self, plan: Plan) -> None:
        """Note that an input is finished."""
        self._finished[str(plan.target.classes)] = plan.identity
        write_json(self._path, {"finished": self._finished}, kind="prediction")

    def remove(self) -> None:
        """The job is done."""
        self._path.unlink(missing_ok=True)
