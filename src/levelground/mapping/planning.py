"""What a prediction will do with each input, decided and checked before anything is run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from levelground.errors import ConfigError
from levelground.imagery.geotiff import CACHE_BYTES, RasterInfo
from levelground.imagery.headers import MAX_PIXELS, read_header
from levelground.imagery.windowed import RasterReader
from levelground.mapping.checks import (
    Wishes,
    check_dtype,
    choose_bands,
    choose_factor,
    choose_validity,
    image_info,
    say_place,
)
from levelground.mapping.inputs import Target
from levelground.mapping.job import ProbsKind
from levelground.mapping.products import Products, disk_needed
from levelground.mapping.sources import Validity
from levelground.networks.evaluation import Geometry, tiles_at_once
from levelground.networks.predictors import Predictor, fit_pixels
from levelground.networks.tiling import Axis, check_geometry, plan_axis
from levelground.records import sha256_json

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
    geometry: Geometry
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


def choose_tiles(predictor: Predictor, settings: Settings, device: str) -> Geometry:
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
    return Geometry(tile, halo, min(batch, predictor.max_batch or batch))


def _plan(
    predictor: Predictor,
    target: Target,
    settings: Settings,
    geometry: Geometry,
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
