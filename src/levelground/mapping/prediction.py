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
from levelground.imagery.legend import IGNORE
from levelground.imagery.windowed import RasterReader
from levelground.mapping.assembly import (
    Canvas,
    write_category_names,
    write_class_raster,
    write_mask_png,
    write_probs_raster,
)
from levelground.mapping.checks import check_room
from levelground.mapping.inputs import find_targets
from levelground.mapping.job import Pace, Work, open_layers, run_job
from levelground.mapping.planning import Plan, Settings, bytes_needed, plan_maps
from levelground.mapping.scratch import Scratch
from levelground.mapping.sources import Grid, ImageGrid, RasterGrid, ResampledGrid, Source
from levelground.mapping.symmetries import average_d4
from levelground.networks.predictors import Predictor
from levelground.networks.runtime import Runtime
from levelground.records import one_writer, read_json, write_json

UNFINISHED_FILE = ".unfinished.json"
"""In the folder of maps, while a job is not done: which of its inputs are."""


@dataclass(frozen=True)
class Mapped:
    """What became of one input.

    Attributes:
        classes: The class map.
        megapixels: Its size.
        pace: What was run for it, and how fast; nothing where it was finished before.
        shares: Share of each class of the legend among pixels with data.
        empty: Share of pixels without data.
    """

    classes: Path
    megapixels: float
    pace: Pace
    shares: tuple[float, ...]
    empty: float


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
        ledger = _Ledger(out)
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
        ledger.remove()
    return mapped


def summary(mapped: Mapped, plan: Plan) -> str:
    """One line about a finished map."""
    named = [
        f"{name} {share:.1%}" for name, share in zip(plan.predictor.legend.names, mapped.shares, strict=True) if share
    ]
    empty = [f"no data {mapped.empty:.1%}"] if mapped.empty else []
    rate = f", {mapped.pace.megapixels_per_s:.2f} megapixels/s" if mapped.pace.pixels else ""
    return f"{mapped.classes}: {mapped.megapixels:.1f} megapixels{rate}; {', '.join(named + empty)}."


def outputs(plan: Plan, settings: Settings) -> list[Path]:
    """The files that an input becomes."""
    # Products name theirs here too, so that none is overwritten unasked.
    return [plan.target.classes] + ([plan.target.probs] if settings.probs != "none" else [])


def _check_absent(plans: Sequence[Plan], settings: Settings) -> None:
    """Refuse to replace maps unasked."""
    there = [path for plan in plans for path in outputs(plan, settings) if path.exists()]
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
            source = Source(_open_grid(plan, stack), plan.predictor.mean)
            pace = run_job(work, source, scratch, plan.rows, plan.cols, runtime)
        counts = scratch.progress.counts
        _write(plan, settings, scratch, work)
    scratch.remove()
    known = counts[: plan.predictor.legend.n_classes]
    return Mapped(
        classes=plan.target.classes,
        megapixels=plan.info.height * plan.info.width / 1e6,
        pace=pace,
        shares=tuple((known / max(1, int(known.sum()))).tolist()),
        empty=float(counts[IGNORE] / max(1, int(counts.sum()))),
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
    grid: Grid
    if plan.target.kind == "image":
        grid = ImageGrid(plan.target.source, plan.bands, zero=plan.validity.zero)
    else:
        grid = RasterGrid(stack.enter_context(RasterReader(plan.target.source)), plan.bands, plan.validity)
    return grid if plan.factor == 1 else ResampledGrid(grid, plan.factor)


def _write(plan: Plan, settings: Settings, scratch: Scratch, work: Work) -> None:
    """Make the files of a finished scratch folder; the class map comes last, so that where it is all is."""
    legend, target = plan.predictor.legend, plan.target
    canvas, layers = Canvas(plan.info, plan.made), open_layers(scratch, work)
    tags = {"TIFFTAG_SOFTWARE": f"levelground {__version__}", "MODEL": plan.predictor.name}
    tags["MODEL_SHA256"] = plan.predictor.digest
    with bounded_cache(threads=True):
        if layers.probs is not None:
            names = [legend.names[index] for index in work.outputs]
            plain = scratch.folder / "probs.tif" if settings.cog else target.probs
            write_probs_raster(plain, layers.probs, canvas, names, tags)
            if settings.cog:
                predictor = 2 if settings.probs == "uint8" else 3
                copy_to_cog(plain, target.probs, overviews="average", predictor=predictor)
                plain.unlink()
        if target.kind == "image":
            write_mask_png(target.classes, layers.classes, canvas, legend)
            return
        plain = scratch.folder / "classes.tif"
        write_class_raster(plain, layers.classes, canvas, legend, tags)
        # Products read the plain class map here, before it goes: areas, polygons, pictures.
        if settings.cog:
            copy_to_cog(plain, target.classes, overviews="mode")
        else:
            plain.replace(target.classes)
        write_category_names(target.classes, legend)


class _Ledger:
    """Which inputs of a job are finished; it goes when the job is done."""

    def __init__(self, out: Path) -> None:
        self._path = out / UNFINISHED_FILE
        self._finished: dict[str, str] = {}
        with contextlib.suppress(RecordError):
            self._finished = dict(read_json(self._path, kind="prediction")["finished"])

    def holds(self, plan: Plan) -> bool:
        """Whether an earlier call with the same settings finished an input."""
        return self._finished.get(str(plan.target.classes)) == plan.identity and plan.target.classes.exists()

    def add(self, plan: Plan) -> None:
        """Note that an input is finished."""
        self._finished[str(plan.target.classes)] = plan.identity
        write_json(self._path, {"finished": self._finished}, kind="prediction")

    def remove(self) -> None:
        """The job is done."""
        self._path.unlink(missing_ok=True)
