"""Plans: how each input will be predicted, decided and checked before anything is run."""

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from levelground.config import PredictOptions, ReadOptions
from levelground.console import say
from levelground.errors import ConfigError, DiskError, SceneError, UnlikeError
from levelground.imagery.geotiff import CACHE_BYTES, BandInfo, RasterInfo
from levelground.imagery.image_headers import MAX_PIXELS, kind_of_type, read_header
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.validity import NodataRule, find_far_value, nodata_mask, nodata_rule
from levelground.models.model import Model, fit_pixels
from levelground.prediction.inputs import InputFile, PixelReader, Rescaling, open_pixels
from levelground.records import sha256_json
from levelground.runtime import Runtime
from levelground.tile_geometry import Axis, TileGeometry, plan_axis
from levelground.wording import decimal

VERSION = 2
"""Raised when the same input gives another map, so that unfinished predictions begin anew."""

SIMILAR_GSD, FAR_GSD = 1.2, 4.0
"""Ratios of ground sample distances: up to the first nothing is reported, beyond the second nothing is run."""

_EMPTY_SHARE = 0.05
"""Share of all-zero pixels from which on their meaning is said."""

_MAX_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class PredictionPlan:
    """Decisions about one input: bands, pixels without data, scale, tiles.

    Attributes:
        input: The input and its outputs.
        model: The model, fitted to the input's type.
        options: The options of `predict`.
        runtime: Device and precision.
        info: Size, type and georeference of the input.
        bands: Bands that are read, from 1.
        nodata: Which pixels of the input have no data.
        rescaling: Factor and offset that bring the stored values of each band to the model's scale; empty: as they are.
        scale: How much larger pixels are made before they are run; 1 leaves them as they are.
        geometry: Tile, halo and batch.
        cache_bytes: Bytes that GDAL may keep of the input.
    """

    input: InputFile
    model: Model
    options: PredictOptions
    runtime: Runtime
    info: RasterInfo
    bands: tuple[int, ...]
    nodata: NodataRule
    scale: float
    geometry: TileGeometry
    cache_bytes: int
    rescaling: Rescaling = ()

    @property
    def predicted_shape(self) -> tuple[int, int]:
        """Rows and columns that are predicted: the input's, or those at the model's ground sample distance."""
        return _predicted_shape(self.info, self.scale)

    @cached_property
    def rows(self) -> Axis:
        """Tiles along the predicted rows."""
        return plan_axis(self.predicted_shape[0], self.geometry)

    @cached_property
    def cols(self) -> Axis:
        """Tiles along the predicted columns."""
        return plan_axis(self.predicted_shape[1], self.geometry)

    @cached_property
    def identity(self) -> str:
        """The hash of everything the map depends on; a checkpoint with another identity belongs to another job."""
        model, file, rule = self.model, self.input, self.nodata
        return sha256_json(
            {
                "version": VERSION,
                "model": [model.digest, model.spec.mean, model.spec.std, model.spec.outputs],
                "input": [str(file.path.resolve()), file.size_bytes, file.modified_ns],
                "header": _told(self.info),
                "reading": [
                    self.bands,
                    {"nodata": rule.values, "every_band": rule.every_band, "alpha": rule.alpha, "zero": rule.zero},
                    self.predicted_shape,
                ],
                "geometry": {"tile": self.geometry.tile, "halo": self.geometry.halo, "batch": self.geometry.batch},
                "symmetries": self.options.tta == "d4",
                "probs": self.options.probs,
                **({"values": "stored"} if self.options.values == "stored" else {}),
                "runtime": [self.runtime.device_kind, self.runtime.precision],
            }
            | ({"engine": self.model.engine} if self.model.engine != "torch" else {})
            | ({"mask": file.mask_stamp} if file.mask_stamp else {})
            | ({"sources": file.sources} if file.sources else {})
            | ({"rescaling": self.rescaling} if self.rescaling else {})
        )

    def open_pixels(self) -> contextlib.AbstractContextManager[PixelReader]:
        """Open the input for reading, at its own resolution."""
        image = self.input.kind == "image"
        return open_pixels(self.input.path, self.bands, self.nodata, image=image, rescaling=self.rescaling)


def _predicted_shape(info: RasterInfo, scale: float) -> tuple[int, int]:
    return max(1, round(info.height / scale)), max(1, round(info.width / scale))


def _told(info: RasterInfo) -> dict[str, object]:
    """Return what a header says; what only some rasters have is left out where there is none."""
    plain = {field.name: field.default for field in dataclasses.fields(RasterInfo)}
    always = ("height", "width", "bands", "dtype", "nodata", "crs", "transform")
    told = {name: getattr(info, name) for name in plain if name in always or getattr(info, name) != plain[name]}
    return {name: dataclasses.asdict(value) if name == "band_info" else value for name, value in told.items()}


def plan_predictions(
    model: Model, inputs: Sequence[InputFile], options: PredictOptions, runtime: Runtime
) -> list[PredictionPlan]:
    """Read every input's header and decide how it is predicted.

    Args:
        model: The model.
        inputs: The inputs.
        options: The options of `predict`.
        runtime: Device and precision.
    Raises:
        SceneError: An input cannot be read, or has other bands or another type than the model reads.
        UnlikeError: An input's ground sample distance is far from the model's.
        ConfigError: Options that cannot work.
    """
    model.choose_geometry(options, runtime.device_kind)  # what cannot work is refused before a header is read
    fitted: dict[str, Model] = {}
    plans = []
    for file in inputs:
        plan = _plan_input(file, model, options, runtime)
        dtype = plan.info.dtype
        if dtype not in fitted:
            fitted[dtype] = fit_pixels(model, dtype)
        plans.append(dataclasses.replace(plan, model=fitted[dtype]))
    return plans


def _plan_input(file: InputFile, model: Model, options: PredictOptions, runtime: Runtime) -> PredictionPlan:
    cache_bytes, rule = CACHE_BYTES, NodataRule((), every_band=True, zero=bool(options.zero_is_nodata))
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(RasterReader(file.path)) if file.kind == "raster" else None
        info = _image_info(file.path) if reader is None else reader.info
        alpha_bands = () if reader is None else reader.alpha_bands
        bands = _bands_by_name(file.path, info.band_info.names, model, options)
        bands = bands or _choose_bands(file.path, info.bands, alpha_bands, model, options)
        rescaling = _choose_rescaling(file.path, info.band_info.of(bands), model)
        _check_dtype(file.path, info.dtype, model)
        scale = _choose_scale(file.path, info.gsd_m, model, options)
        geometry = model.choose_geometry(options, runtime.device_kind, _predicted_shape(info, scale))
        if reader is not None:
            _report_missing_georeference(file.path, info)
            info = dataclasses.replace(info, crs=reader.wkt)
            rule = choose_nodata_rule(reader, bands, options)
            cache_bytes = _cache_bytes(reader, geometry, scale)
    if geometry.tile == 0:
        _check_whole(file.path, info)
    return PredictionPlan(
        input=file,
        model=model,
        options=options,
        runtime=runtime,
        info=info,
        bands=bands,
        nodata=rule,
        scale=scale,
        geometry=geometry,
        cache_bytes=cache_bytes,
        rescaling=rescaling,
    )


def _image_info(path: Path) -> RasterInfo:
    """Read size, bands and type of an image, and its place where files beside it give one."""
    header = read_header(path)
    info = RasterInfo(header.height, header.width, header.image_bands, header.dtype)
    if header.transform is None:
        return info
    a, b, c, d, e, f = header.transform
    return dataclasses.replace(info, crs=header.crs, transform=(a, b, c, d, e, f))


def _cache_bytes(reader: RasterReader, geometry: TileGeometry, scale: float) -> int:
    """Choose the size of GDAL's cache for a raster.

    A tile row of a raster in strips has to stay decoded until the last tile of the row has been read.
    """
    if not reader.in_strips:
        return CACHE_BYTES
    row_bytes = reader.row_bytes(int(geometry.tile * scale) + 2)
    return min(_MAX_CACHE_BYTES, max(CACHE_BYTES, row_bytes + row_bytes // 8))


def _choose_bands(
    path: Path, n_bands: int, alpha_bands: Sequence[int], model: Model, options: ReadOptions
) -> tuple[int, ...]:
    """Choose the bands that the model reads, from 1.

    Args:
        path: The file, for the error.
        n_bands: How many bands it has.
        alpha_bands: The bands that are tagged alpha.
        model: The model.
        options: The bands that the user names.
    Raises:
        ConfigError: The bands named do not exist, or are not as many as the model reads.
        SceneError: The file has other bands than the model reads, and none are named.
    """
    wanted = model.spec.bands
    if options.bands:
        given = " ".join(map(str, options.bands))
        if len(options.bands) != wanted:
            raise ConfigError(f"--bands {given}: {model.spec.name} reads {wanted} bands. Give {wanted} numbers.")
        if min(options.bands) < 1 or max(options.bands) > n_bands:
            raise ConfigError(f"--bands {given}: {path} has bands 1 to {n_bands}. Give some of those.")
        return options.bands
    if n_bands == wanted or (n_bands == wanted + 1 and n_bands in alpha_bands):
        return tuple(range(1, wanted + 1))
    example = " ".join(str(band) for band in range(1, wanted + 1))
    choice = f"Choose with --bands, such as --bands {example}"
    remedy = choice if n_bands > wanted else "Give imagery with the same bands"
    raise SceneError(f"{path}: has {n_bands} bands, {model.spec.name} reads {wanted}. {remedy}.")


def _bands_by_name(path: Path, names: Sequence[str], model: Model, options: ReadOptions) -> tuple[int, ...] | None:
    """Choose the bands that are called as the model's are; ``None`` where names do not tell or the user does.

    Raises:
        SceneError: Some of the names are the model's and others are not, with as many bands.
    """
    wanted = [name.casefold() for name in model.spec.band_info.names]
    own = [name.casefold() for name in names]
    if options.bands or not all(wanted) or not wanted or len({*wanted}) < len(wanted) or not any(own):
        return None
    if all(own.count(name) == 1 for name in wanted):
        bands = tuple(own.index(name) + 1 for name in wanted)
        if bands != tuple(range(1, len(bands) + 1)):
            numbers = " ".join(map(str, bands))
            told = ", ".join(model.spec.band_info.names)
            say("%(path)s: bands are read by name, %(numbers)s (%(names)s).", path=path, numbers=numbers, names=told)
        return bands
    if {*wanted} & {*own}:
        raise SceneError(
            f"{path}: its bands are {', '.join(name or 'nameless' for name in names)}, {model.spec.name} learnt from "
            f"{', '.join(model.spec.band_info.names)}. Give imagery with the same bands, or say which are meant: "
            f"--bands {' '.join(map(str, range(1, len(wanted) + 1)))}."
        )
    return None


def _choose_rescaling(path: Path, own: BandInfo, model: Model) -> Rescaling:
    """Choose how stored values are brought to the scale of the training images, where both files name theirs."""
    said = model.spec.band_info
    if (own.scales, own.offsets) == (said.scales, said.offsets) or not (said.scales or said.offsets):
        return ()
    if not (own.scales or own.offsets):
        say(
            "%(path)s: names no scale, the training images of %(name)s do; values are taken as theirs.",
            path=path,
            name=model.spec.name,
        )
        return ()
    n = model.spec.bands
    factors = zip(own.scales or (1.0,) * n, said.scales or (1.0,) * n, strict=True)
    shifts = zip(own.offsets or (0.0,) * n, said.offsets or (0.0,) * n, said.scales or (1.0,) * n, strict=True)
    rescaling = tuple(
        (round(mine / theirs, 12), round((off - offset) / scale, 9))
        for (mine, theirs), (off, offset, scale) in zip(factors, shifts, strict=True)
    )
    if all(part == (1.0, 0.0) for part in rescaling):
        return ()
    factor, shift = rescaling[0]
    rule = decimal(f"{factor:.6g} {'+' if shift >= 0 else '−'} {abs(shift):.6g}")
    say(
        "%(path)s: has another scale or offset than the training images; values are brought to "
        "theirs, in the first band value × %(rule)s.",
        path=path,
        rule=rule,
    )
    return rescaling


def _check_dtype(path: Path, dtype: str, model: Model) -> None:
    """Refuse pixels of another type than the model learnt from, whose values mean something else.

    Raises:
        SceneError: The type is another.
    """
    if model.spec.dtype is None or kind_of_type(dtype) == model.spec.dtype:
        return
    raise SceneError(
        f"{path}: pixels are {dtype}, {model.spec.name} learnt from {model.spec.dtype}. "
        f"Convert the file to {model.spec.dtype} with the scale of the training images."
    )


def _choose_scale(path: Path, gsd_m: float | None, model: Model, options: ReadOptions) -> float:
    """Choose how much larger pixels are made: 1 where they stay as they are.

    Raises:
        ConfigError: Resampling is asked for, and one of the two ground sample distances is unknown.
        UnlikeError: The distances are far apart, and the options do not allow it.
    """
    own = model.spec.gsd_m
    if options.resample:
        if own is None or gsd_m is None:
            who, remedy = (
                (model.spec.name, "Leave --resample away")
                if own is None
                else (str(path), "Reproject it to a system in metres, or leave --resample away")
            )
            raise ConfigError(f"--resample: {who} has no ground sample distance in metres. {remedy}.")
        return own / gsd_m
    if own is None or gsd_m is None:
        return 1.0
    ratio = max(own / gsd_m, gsd_m / own)
    if ratio > FAR_GSD and not options.any_gsd:
        raise UnlikeError(
            f"{path}: has {gsd_m:.3g} m a pixel, {model.spec.name} learnt at {own:.3g} m. "
            "Pass --resample, or --any-gsd to run it as it is."
        )
    if ratio > SIMILAR_GSD:
        gsds = {"gsd": decimal(f"{gsd_m:.3g}"), "own": decimal(f"{own:.3g}")}
        values = {"path": path, "name": model.spec.name, **gsds}
        say("%(path)s: has %(gsd)s m a pixel, %(name)s learnt at %(own)s m; --resample would fit it.", **values)
    return 1.0


def choose_nodata_rule(reader: RasterReader, bands: Sequence[int], options: ReadOptions) -> NodataRule:
    """Choose which pixels of a raster have no data, as in training, and report what remains uncertain.

    Raises:
        SceneError: The raster is truncated.
    """
    info, path = reader.info, reader.path
    spare = [band for band in reader.alpha_bands if band not in bands]
    alpha = info.alpha if info.alpha not in bands and options.alpha else None
    if spare and options.alpha and info.alpha is None:
        values = {"path": path, "spare": spare[-1]}
        say("%(path)s: band %(spare)s is tagged alpha but holds other values, so it is not used as a mask.", **values)
    rule = nodata_rule(info, bands, alpha=alpha, zero=options.zero_is_nodata)
    sample = reader.sample(bands if alpha is None else (*bands, alpha))
    missing = nodata_mask(sample[None], dataclasses.replace(rule, zero=False))
    known = sample[..., : len(bands)] if missing is None else sample[~missing[0], : len(bands)]
    empty = float((known == 0).all(axis=1).sum() / len(sample))
    if options.zero_is_nodata is None and rule.zero and empty > _EMPTY_SHARE:
        say(
            "%(path)s: %(empty)s of the pixels sampled are 0 in every band and have no data, as in "
            "training. If they are dark ground, pass --no-zero-is-nodata.",
            path=path,
            empty=f"{empty:.0%}",
        )
    far = find_far_value(known) if len(known) else None
    if far is not None:
        say(
            "%(path)s: %(share)s of the pixels sampled hold %(value)s in band %(band)s, far from all "
            "others (the next is %(next)s), and are predicted like them. If they have no data, say "
            "so in the file: rio edit-info --nodata %(value)s %(path)s",
            path=path,
            share=f"{far.share:.0%}",
            value=f"{far.value:.9g}",
            band=far.band,
            next=decimal(f"{far.next:.6g}"),
        )
    return rule


def _report_missing_georeference(path: Path, info: RasterInfo) -> None:
    """Report that a raster, and so its map, has no transform or no coordinate system."""
    if info.transform is None:
        say("%(path)s: has no place on the ground; its map has none either.", path=path)
    elif info.crs is None:
        say("%(path)s: names no coordinate system; its map names none either.", path=path)


def _check_whole(path: Path, info: RasterInfo) -> None:
    """Refuse to run a raster in one piece that is too large for it.

    Raises:
        ConfigError: It has too many pixels.
    """
    if info.height * info.width > MAX_PIXELS:
        raise ConfigError(
            f"--tile 0: {path} has {info.width} × {info.height} pixels, at most {MAX_PIXELS} are run in one piece. "
            "Give a tile."
        )


def bytes_needed(plans: Sequence[PredictionPlan]) -> int:
    """Estimate the most bytes on the disk at once: all outputs, and the largest checkpoint and temporary file.

    Class maps compress to a fraction of a byte a pixel; half a byte is assumed, and a third more for overviews.
    Probabilities are taken as uncompressed.
    """
    widths = {"none": 0, "uint8": 1, "float32": 4}
    outputs, largest = 0.0, 0.0
    for plan in plans:
        probs = len(plan.model.spec.outputs) * widths[plan.options.probs]
        pixels, predicted = plan.info.height * plan.info.width, plan.rows.length * plan.cols.length
        files = pixels * (0.5 + probs)
        written = sum(file.stat().st_size for file in plan.input.checkpoint.glob("*.raw"))
        outputs += files * (4 / 3 if plan.options.cog else 1) + vector_and_picture_bytes(pixels, plan.options)
        largest = max(largest, predicted * (1 + probs) - written + files * (4 / 3 if plan.options.cog else 0))
    return int(outputs + largest)


def vector_and_picture_bytes(pixels: int, options: PredictOptions) -> int:
    """Estimate the bytes of polygons and pictures with their temporary files; polygons depend on the map.

    A noisy map has given two bytes a pixel as a GeoPackage; GeoJSON takes twice as much. Merging takes a byte a pixel
    and its mask.
    """
    polygons = {"none": 0.0, "gpkg": 1.0, "geojson": 2.0}[options.polygons]
    pictures = min(pixels, options.picture_side**2) * (options.picture + 3 * options.overlay)
    return int(pixels * (polygons + (1.1 if options.smallest_area else 0.0))) + pictures


def check_free_space(out: Path, needed: int) -> None:
    """Refuse to begin what does not fit on the disk.

    Args:
        out: Folder of the outputs, on the disk in question.
        needed: Bytes.
    Raises:
        DiskError: Less is free.
    """
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DiskError(
            f"{out}: the maps need up to {needed / 2**30:.1f} GiB for checkpoint, temporary files and output, "
            f"{free / 2**30:.1f} GiB are free. Free space or choose another --out."
        )
