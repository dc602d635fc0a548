"""What a prediction will do with each input, decided and checked before anything is run."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from levelground.console import say
from levelground.errors import ConfigError, DiskError, SceneError, UnlikeError
from levelground.imagery.geotiff import CACHE_BYTES, RasterInfo
from levelground.imagery.image_headers import MAX_PIXELS, TYPES, ImageHeader, read_header
from levelground.imagery.raster_reader import RasterReader
from levelground.inference.tiling import Axis, TileGeometry, check_geometry, plan_axis, tiles_at_once
from levelground.models.model import Predictor, fit_pixels
from levelground.prediction.inputs import Target
from levelground.prediction.outputs import Products, disk_needed
from levelground.prediction.pipeline import ProbsKind
from levelground.prediction.readers import Validity
from levelground.records import sha256_json

SAME_GSD, FAR_GSD = 1.2, 4.0
"""Ratios of ground sample distances: up to the first nothing is said, beyond the second nothing is run."""

_MASK_SHARE = 0.99
"""A band tagged alpha is one where so many of its values are 0 or the largest; near infrared is not."""

_EMPTY_SHARE = 0.05
"""Share of all-zero pixels from which on it is asked whether they are empty."""


@dataclass(frozen=True)
class Wishes:
    """What the user decides about reading.

    Attributes:
        bands: Bands to read, from 1; none takes what the raster has.
        alpha: Whether an alpha band marks pixels without data.
        zero: Whether pixels that are 0 in every band have no data.
        resample: Whether pixels are brought to the model's ground sample distance.
        any_gsd: Whether a ground sample distance far off is run all the same.
    """

    bands: tuple[int, ...] = ()
    alpha: bool = True
    zero: bool = False
    resample: bool = False
    any_gsd: bool = False


def choose_bands(
    source: Path, found: int, alpha: Sequence[int], predictor: Predictor, wishes: Wishes
) -> tuple[int, ...]:
    """Choose the bands that the model reads, from 1.

    Args:
        source: The file, for the error.
        found: How many bands it has.
        alpha: Those that are tagged alpha.
        predictor: The model.
        wishes: Bands that the user names.
    Raises:
        ConfigError: The bands named are not there, or not as many as the model reads.
        SceneError: The file has other bands than the model reads, and none are named.
    """
    wanted = predictor.bands
    if wishes.bands:
        given = " ".join(map(str, wishes.bands))
        if len(wishes.bands) != wanted:
            raise ConfigError(f"--bands {given}: {predictor.name} reads {wanted} bands. Give {wanted} numbers.")
        if min(wishes.bands) < 1 or max(wishes.bands) > found:
            raise ConfigError(f"--bands {given}: {source} has bands 1 to {found}. Give some of those.")
        return wishes.bands
    if found == wanted or (found == wanted + 1 and found in alpha):
        return tuple(range(1, wanted + 1))
    example = " ".join(str(band) for band in range(1, wanted + 1))
    remedy = f"Choose with --bands, such as --bands {example}" if found > wanted else "Give imagery with the same bands"
    raise SceneError(f"{source}: has {found} bands, {predictor.name} reads {wanted}. {remedy}.")


def check_dtype(source: Path, dtype: str, predictor: Predictor) -> None:
    """Refuse pixels whose values mean something else than those that the model learnt from.

    Raises:
        SceneError: Of another type than the model's.
    """
    if dtype not in TYPES and dtype not in ("int8", "int32", "uint32"):
        raise SceneError(f"{source}: pixels are {dtype}, expected {', '.join(TYPES)}. Convert the file.")
    floats = ("float32", "float64")
    if predictor.dtype is None or dtype == predictor.dtype or (dtype in floats and predictor.dtype in floats):
        return
    raise SceneError(
        f"{source}: pixels are {dtype}, {predictor.name} learnt from {predictor.dtype}. "
        f"Convert the file to {predictor.dtype} with the scale of the training images."
    )


def choose_factor(source: Path, gsd_m: float | None, predictor: Predictor, wishes: Wishes) -> float:
    """How much larger pixels are made: 1 where they stay as they are.

    Raises:
        ConfigError: Resampling is asked for, and one of the two ground sample distances is not known.
        UnlikeError: They are far apart, and it was not said that this is meant.
    """
    own = predictor.gsd_m
    if wishes.resample:
        if own is None or gsd_m is None:
            who, remedy = (
                (predictor.name, "Leave --resample away")
                if own is None
                else (str(source), "Reproject it to a system in metres, or leave --resample away")
            )
            raise ConfigError(f"--resample: {who} has no ground sample distance in metres. {remedy}.")
        return own / gsd_m
    if own is None or gsd_m is None:
        return 1.0
    ratio = max(own / gsd_m, gsd_m / own)
    if ratio > FAR_GSD and not wishes.any_gsd:
        raise UnlikeError(
            f"{source}: has {gsd_m:.3g} m a pixel, {predictor.name} learnt at {own:.3g} m. "
            "Pass --resample, or --any-gsd to run it as it is."
        )
    if ratio > SAME_GSD:
        say(f"{source}: has {gsd_m:.3g} m a pixel, {predictor.name} learnt at {own:.3g} m; --resample would fit it.")
    return 1.0


def choose_validity(reader: RasterReader, bands: Sequence[int], wishes: Wishes) -> Validity:
    """Choose what says that a pixel has no data, and say what the raster leaves open.

    Values of unsigned types can be anything, so there every band must hold the nodata value, as in training; in others
    one band suffices.

    Raises:
        SceneError: The raster breaks off.
    """
    info, source = reader.info, reader.path
    nodata = tuple(_stored(reader.nodata[band - 1], info.dtype) for band in bands)
    spare = [band for band in reader.alpha_bands if band not in bands]
    alpha = spare[-1] if spare and wishes.alpha else None
    seen = reader.sample(bands if alpha is None else (*bands, alpha))
    if alpha is not None:
        values = seen[:, -1]
        full = np.iinfo(info.dtype).max if values.dtype.kind in "iu" else 1
        full = full if np.any(values == full) else values.max(initial=0)
        if np.mean((values == 0) | (values == full)) < _MASK_SHARE:
            say(f"{source}: band {alpha} is tagged alpha and holds other values, so it is taken for no mask.")
            alpha = None
        seen = seen[:, :-1]
    marked = alpha is not None or any(value is not None for value in nodata)
    empty = float((seen == 0).all(axis=1).mean())
    if not marked and not wishes.zero and empty > _EMPTY_SHARE:
        say(
            f"{source}: {empty:.0%} of the pixels looked at are 0 in every band and are mapped like others. "
            "Where they are empty, pass --zero-is-nodata."
        )
    return Validity(nodata, np.dtype(info.dtype).kind == "u", alpha, wishes.zero)


def say_place(source: Path, info: RasterInfo) -> None:
    """Say it where a raster has no place on the ground; its map has none either."""
    if info.transform is None:
        say(f"{source}: has no place on the ground; its map has none either.")
    elif info.crs is None:
        say(f"{source}: names no coordinate system; its map names none either.")


def image_info(header: ImageHeader) -> RasterInfo:
    """Size, bands and type of an image as a raster without a place."""
    return RasterInfo(header.height, header.width, header.image_bands, header.dtype)


def check_room(out: Path, needed: int) -> None:
    """Refuse to begin what does not fit on the disk.

    Args:
        out: Folder of the maps; its disk is asked.
        needed: Bytes.
    Raises:
        DiskError: Less is free.
    """
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskError(
            f"{out}: the maps need up to {needed / 2**30:.1f} GiB for scratch, temporary files and output, "
            f"{free / 2**30:.1f} GiB are free. Free space or choose another --out."
        )


def _stored(value: float | None, dtype: str) -> float | None:
    """A nodata value as pixels of a type can hold it; ``None`` where they cannot, or it is no number."""
    if value is None or not np.isfinite(value):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            stored = kind.type(value)
        return float(stored) if np.isfinite(stored) else None
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max and value == int(value) else None


MAPPING = 1
"""The version of mapping: raised when the same input gives another map, so that unfinished ones begin anew."""

_MOST_CACHE = 512 * 2**20


@dataclass(frozen=True)
class Settings:
    """What the user decides about a prediction.

    Attributes:
        wishes: How inputs are read.
        tile: Side of a tile, px; ``None`` takes the model's.
        halo: Half the smallest overlap of tiles, px; ``None`` takes the model's, or an eighth of another tile.
        batch: Tiles run at a time; ``None`` chooses.
        symmetries: Whether the mean over the eight symmetries is taken.
        probs: Whether and how probabilities are written.
        cog: Whether GeoTIFFs are cloud-optimised.
        overwrite: Whether maps that are there are made anew.
        products: What is made of the maps.
    """

    wishes: Wishes = field(default_factory=Wishes)
    tile: int | None = None
    halo: int | None = None
    batch: int | None = None
    symmetries: bool = False
    probs: ProbsKind = "none"
    cog: bool = True
    overwrite: bool = False
    products: Products = field(default_factory=Products)


@dataclass(frozen=True)
class Plan:
    """One input, ready to be mapped.

    Attributes:
        target: The input and its outputs.
        predictor: The model, fitted to the input's type.
        info: Size and place of the input.
        bands: Bands that are read, from 1.
        validity: What says that a pixel of a raster has no data.
        factor: How much larger pixels are made before they are run.
        rows: Tiles along the rows of the map as it is made.
        cols: Tiles along its columns.
        geometry: Tile, halo and batch.
        cache: Bytes that GDAL may keep of the input.
        identity: The hash of all that decides the map.
    """

    target: Target
    predictor: Predictor
    info: RasterInfo
    bands: tuple[int, ...]
    validity: Validity
    factor: float
    rows: Axis
    cols: Axis
    geometry: TileGeometry
    cache: int
    identity: str

    @property
    def made(self) -> tuple[int, int]:
        """Rows and columns of the map as it is made."""
        return self.rows.length, self.cols.length

    @property
    def scratch(self) -> Path:
        """The folder of the unfinished map."""
        return self.target.classes.with_name(f".{self.target.classes.name}.scratch")


def plan_maps(
    predictor: Predictor, targets: Sequence[Target], settings: Settings, *, device: str, precision: str
) -> list[Plan]:
    """Look at every input's header and decide how it is mapped.

    Args:
        predictor: The model.
        targets: The inputs.
        settings: What the user decides.
        device: Kind of device.
        precision: Precision of multiplications.
    Raises:
        SceneError: An input cannot be read, or has other bands or another type than the model reads.
        UnlikeError: An input's ground sample distance is far off.
        ConfigError: Flags that cannot work.
    """
    geometry = choose_tiles(predictor, settings, device)
    fitted: dict[str, Predictor] = {}
    return [_plan(predictor, target, settings, geometry, fitted, decides=[device, precision]) for target in targets]


def choose_tiles(predictor: Predictor, settings: Settings, device: str) -> TileGeometry:
    """Take the model's own tile geometry where none is asked for.

    Raises:
        ConfigError: It cannot work, or the model takes tiles of one size only.
    """
    tile = predictor.tile if settings.tile is None else settings.tile
    if predictor.fixed_tile and tile != predictor.tile:
        raise ConfigError(f"--tile {tile}: {predictor.name} takes tiles of {predictor.tile} only. Leave --tile away.")
    halo = settings.halo if settings.halo is not None else predictor.halo if tile == predictor.tile else tile // 8
    halo = halo if tile else 0
    check_geometry(tile, halo, **({"multiple": 1} if predictor.fixed_tile else {}))
    batch = settings.batch or tiles_at_once(tile, device)
    return TileGeometry(tile, halo, min(batch, predictor.max_batch or batch))


def _plan(
    predictor: Predictor,
    target: Target,
    settings: Settings,
    geometry: TileGeometry,
    fitted: dict[str, Predictor],
    decides: list[str],
) -> Plan:
    wishes, source = settings.wishes, target.source
    cache, validity = CACHE_BYTES, Validity((), every_band=True, zero=wishes.zero)
    if target.kind == "image":
        header = read_header(source)
        info = image_info(header)
        bands = choose_bands(source, info.bands, (), predictor, wishes)
        check_dtype(source, info.dtype, predictor)
        factor = choose_factor(source, None, predictor, wishes)
    else:
        with RasterReader(source) as reader:
            info = reader.info
            bands = choose_bands(source, info.bands, reader.alpha_bands, predictor, wishes)
            check_dtype(source, info.dtype, predictor)
            factor = choose_factor(source, info.gsd_m, predictor, wishes)
            say_place(source, info)
            info = dataclasses.replace(info, crs=reader.wkt)
            validity = choose_validity(reader, bands, wishes)
            if reader.in_strips:
                # A tile row of strips has to stay decoded until the last tile of the row has been read.
                wanted = reader.row_bytes(int(geometry.tile * factor) + 2)
                cache = min(_MOST_CACHE, max(CACHE_BYTES, wanted + wanted // 8))
    if geometry.tile == 0:
        check_whole(source, info)
    predictor = fitted.setdefault(info.dtype, fit_pixels(predictor, info.dtype))
    made = [max(1, round(side / factor)) for side in (info.height, info.width)]
    rows, cols = (plan_axis(side, tile=geometry.tile, halo=geometry.halo) for side in made)
    stat = source.stat()
    identity = sha256_json(
        {
            "version": MAPPING,
            "model": [predictor.digest, predictor.mean, predictor.std, predictor.outputs],
            "input": [str(source.resolve()), stat.st_size, stat.st_mtime_ns],
            "header": dataclasses.asdict(info),
            "reading": [bands, dataclasses.asdict(validity), made],
            "geometry": dataclasses.asdict(geometry),
            "symmetries": settings.symmetries,
            "probs": settings.probs,
            "runtime": decides,
        }
    )
    return Plan(target, predictor, info, bands, validity, factor, rows, cols, geometry, cache, identity)


def check_whole(source: Path, info: RasterInfo) -> None:
    """Refuse to run a raster in one piece that is too large for it.

    Raises:
        ConfigError: It has too many pixels.
    """
    if info.height * info.width > MAX_PIXELS:
        raise ConfigError(
            f"--tile 0: {source} has {info.width} × {info.height} pixels, at most {MAX_PIXELS} are run in one piece. "
            "Give a tile."
        )


def bytes_needed(plans: Sequence[Plan], settings: Settings) -> int:
    """The most bytes that the disk must hold at once: all outputs, and the largest scratch and temporary file.

    Class maps compress to a fraction of a byte a pixel; half a byte is reckoned, and a third more for overviews.
    Probabilities are reckoned as they are.
    """
    widths = {"none": 0, "uint8": 1, "float32": 4}
    outputs, largest = 0.0, 0.0
    for plan in plans:
        probs = len(plan.predictor.outputs) * widths[settings.probs]
        pixels, made = plan.info.height * plan.info.width, plan.rows.length * plan.cols.length
        files = pixels * (0.5 + probs)
        there = sum(file.stat().st_size for file in plan.scratch.glob("*.raw"))
        outputs += files * (4 / 3 if settings.cog else 1) + disk_needed(pixels, settings.products)
        largest = max(largest, made * (1 + probs) - there + files * (4 / 3 if settings.cog else 0))
    return int(outputs + largest)
