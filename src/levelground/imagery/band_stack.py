"""Bands from several files as one virtual raster: Sentinel-2 SAFE, Landsat, or ``B02.tif``, ``B03.tif`` in a folder.

The stack is a VRT of some kilobytes on the finest grid of its bands; coarser bands are interpolated bilinearly, and
offsets that the files state are added, so that the same number means the same reflectance in every scene.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import numpy as np

from levelground.config import PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.files import atomic_path
from levelground.imagery.gdal_files import MOST_NESTED, MOST_SOURCES, open_raster, raster_errors
from levelground.imagery.geotiff import info_of, quietly
from levelground.imagery.layouts import (
    MASK_FOLDERS,
    SUFFIXES,
    VECTOR_SUFFIXES,
    Finding,
    Pair,
    Pairs,
    bare_name,
    list_files,
)
from levelground.imagery.name_patterns import files_by_pattern
from levelground.imagery.vector_labels import is_vector
from levelground.reading import read_loosely
from levelground.records import sha256_json

_RESOLUTION = re.compile(r"(^|[_.-])\d{2}m(?=$|[_.-])", re.IGNORECASE)
_OFFSET = re.compile(r'<(?:BOA|RADIO)_ADD_OFFSET band_id="(\d+)">\s*(-?\d+)\s*<')
_SENTINEL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_MANY = 4  # names in a message


@dataclass(frozen=True)
class _Band:
    """The file of one band: its grid, type, nodata value, and what is added to its values."""

    path: Path
    width: int
    height: int
    transform: tuple[float, ...]
    crs: str | None
    dtype: str
    nodata: float | None
    scale: float
    added: float

    @property
    def pixel(self) -> float:
        """Area of a pixel in the units of the map."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)


def find_stacks(data: Path, options: PrepareOptions, cache: Path) -> Pairs:
    """Find the scenes whose bands are files of their own, stack them, and pair them with their masks.

    Args:
        data: The data folder.
        options: ``bands`` in the order wanted, and ``labels`` where masks are named by a pattern.
        cache: Folder of decoded scenes, which gets the stacks.
    Returns:
        The pairs; scenes that lack a band or cannot be stacked are errors among the findings.
    Raises:
        ConfigError: No file has the name of a band, or a band is named twice.
    """
    names = " ".join(options.bands).split()
    if len({name.upper() for name in names}) < len(names):
        raise ConfigError(f"--bands {' '.join(names)}: a band is named twice. Name each once.")
    files, findings = list_files(data, SUFFIXES + VECTOR_SUFFIXES)
    groups, aliases, used = _groups(files, names)
    if not groups:
        shown = ", ".join(str(path) for path in files[:_MANY])
        raise ConfigError(
            f"--bands {' '.join(names)}: no file below {data} has such a part of its name (found {shown} …). Name the "
            "bands as the files do, such as B02 or SR_B4."
        )
    masks = _masks(data, files, used, aliases, options.labels)
    pairs, more = [], []
    for key, bands in sorted(groups.items()):
        scene = _scene_name(key, aliases[key])
        try:
            stack, first = _stack(data, scene, bands, names, cache)
            pairs.append(Pair(scene, stack, masks.get(key), scene, None, first))
        except SceneError as error:
            more.append(Finding("error", "unreadable", str(error), scene))
    return Pairs("bands", tuple(pairs), findings + tuple(more))


def _groups(
    files: Sequence[PurePosixPath], names: Sequence[str]
) -> tuple[dict[str, dict[str, list[PurePosixPath]]], dict[str, set[str]], set[PurePosixPath]]:
    """Sort files by scene and band; also the names that a scene goes by, and the files that are bands."""
    groups: dict[str, dict[str, list[PurePosixPath]]] = defaultdict(lambda: defaultdict(list))
    aliases: dict[str, set[str]] = defaultdict(set)
    used = set()
    for path in files:
        parts = [part.upper() for part in path.parts]
        if is_vector(path) or "QI_DATA" in parts or path.name.upper().startswith("MSK_"):
            continue
        for name in names:
            match = re.search(rf"(^|[_.-]){re.escape(name)}(?=$|[_.-])", path.stem, re.IGNORECASE)
            if match:
                rest = _RESOLUTION.sub("", path.stem[: match.start()] + path.stem[match.end() :]).strip("_.-")
                safe = next((p for p in path.parents if p.suffix.upper() == ".SAFE"), None)
                folder = safe or (path.parent.parent if _RESOLUTION.search(path.parent.name[1:]) else path.parent)
                key = str(folder) if safe else str(folder / rest)
                groups[key][name].append(path)
                aliases[key] |= {rest, folder.name.removesuffix(".SAFE")} - {""}
                used.add(path)
                break
    return groups, aliases, used


def _scene_name(key: str, aliases: set[str]) -> str:
    """Name a scene: by its SAFE folder, else by its place and what its files share."""
    name = re.sub(r"\.SAFE$", "", key, flags=re.IGNORECASE)
    return name if name not in ("", ".") else min(aliases, default="scene")


def _masks(
    data: Path,
    files: Sequence[PurePosixPath],
    used: set[PurePosixPath],
    aliases: Mapping[str, set[str]],
    pattern: str | None,
) -> dict[str, Path]:
    """Find the mask of each scene: by the pattern of ``--labels``, else in a folder of masks or by its ending."""
    if pattern is not None:
        found = files_by_pattern("--labels", data, pattern)
    else:
        found = {}
        for path in files:
            base = bare_name(path.stem)
            inside = any(part.lower() in MASK_FOLDERS for part in path.parts[:-1])
            if path not in used and (inside or base != path.stem or is_vector(path)):
                found[base] = data / path
    masks: dict[str, Path] = {}
    for key, names in aliases.items():
        for base, mask in found.items():
            own = PurePosixPath(base).name
            alike = own in names or any(name.startswith(f"{own}_") or name.endswith(f"_{own}") for name in names)
            only = len(found) == 1 and (is_vector(mask) or len(aliases) == 1)
            if alike or only:
                masks[key] = mask
                break
    return masks


def _stack(
    data: Path, scene: str, files: Mapping[str, Sequence[PurePosixPath]], names: Sequence[str], cache: Path
) -> tuple[Path, Path]:
    """Write the stack of a scene; return it, and the file whose grid it has."""
    lacking = [name for name in names if name not in files]
    if lacking:
        raise SceneError(
            f"{data / scene}: has no file of band {lacking[0]} (bands found: {', '.join(sorted(files))}). Add it, or "
            "leave the band out of --bands."
        )
    read = {path: _read_band(data / path, name) for name in names for path in files[name]}
    bands = [min((read[path] for path in sorted(files[name])), key=lambda band: band.pixel) for name in names]
    first = min(bands, key=lambda band: band.pixel)
    for band in bands:
        _check_like(first, band)
    text = _vrt(first, bands, names)
    path = cache / "stacks" / f"{sha256_json(['stack', 1, text])}.vrt"
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path, first.path


def _read_band(path: Path, name: str) -> _Band:
    """Read what a stack needs of a file of one band."""
    try:
        with quietly():
            raster = open_raster(path)
    except raster_errors() as error:
        raise SceneError(f"{path}: is damaged or is not a raster that can be read. Replace the file.") from error
    with raster:
        info = info_of(raster, path)
        if info.bands != 1:
            raise SceneError(
                f"{path}: has {info.bands} bands of {info.dtype}, expected one in a file of {name}. "
                "Leave --bands away where one file holds all bands."
            )
        scale, offset = raster.scales[0], raster.offsets[0]
        added = offset / scale if offset and scale else _safe_offset(path, name)
        return _Band(
            path.resolve(),
            raster.width,
            raster.height,
            tuple(raster.transform)[:6],
            raster.crs.to_wkt() if raster.crs else None,
            raster.dtypes[0],
            0.0 if added and raster.nodata is None else raster.nodata,
            scale,
            added,
        )


def _safe_offset(path: Path, name: str) -> float:
    """Return what the metadata of a Sentinel-2 product add to a band: -1000 since processing baseline 04.00."""
    safe = next((folder for folder in path.parents if folder.suffix.upper() == ".SAFE"), None)
    if safe is None or name.upper() not in _SENTINEL:
        return 0.0
    for metadata in sorted(safe.glob("MTD_MSI*.xml")):
        offsets = dict(_OFFSET.findall(read_loosely(metadata)))
        return float(offsets.get(str(_SENTINEL.index(name.upper())), 0))
    return 0.0


def _check_like(first: _Band, band: _Band) -> None:
    """Refuse a band that does not lie on the grid of the finest one, or is of another type."""
    a, b, _, d, e, _ = band.transform
    if band.crs != first.crs or b or d or a * first.transform[0] < 0 or e * first.transform[4] < 0:
        raise SceneError(
            f"{band.path}: is in another coordinate system or direction than {first.path.name}. Bring it there: "
            f"rio warp {band.path} ALIGNED.tif --like {first.path} --resampling bilinear."
        )
    if band.dtype != first.dtype or not math.isclose(band.scale, first.scale):
        raise SceneError(
            f"{band.path}: has {band.dtype} with scale {band.scale:g}, {first.path.name} {first.dtype} with scale "
            f"{first.scale:g}. Write all bands alike{_conversion(first, band)}."
        )


def _conversion(first: _Band, band: _Band) -> str:
    """Return the command that gives two bands one type that holds the values of both; none where scales differ."""
    dtype = np.result_type(np.dtype(first.dtype), np.dtype(band.dtype))
    path = first.path if band.dtype == dtype else band.path
    alike = math.isclose(band.scale, first.scale)
    return f", and put this in its place: rio convert {path} ALIKE.tif --dtype {dtype}" if alike else ""


def _vrt(first: _Band, bands: Sequence[_Band], names: Sequence[str]) -> str:
    """Write the stack as GDAL's virtual format."""
    a, _, c, _, e, f = first.transform
    place = f"{c!r}, {a!r}, 0, {f!r}, 0, {e!r}"
    lines = [f'<VRTDataset rasterXSize="{first.width}" rasterYSize="{first.height}">']
    lines += [f"<SRS>{escape(first.crs)}</SRS>"] if first.crs else []
    lines += [f"<GeoTransform>{place}</GeoTransform>"]
    for number, (band, name) in enumerate(zip(bands, names, strict=True), start=1):
        left, top = (band.transform[2] - c) / a, (band.transform[5] - f) / e
        wide, high = band.width * band.transform[0] / a, band.height * band.transform[4] / e
        how = "" if np.allclose((left, top, wide, high), (0, 0, first.width, first.height), atol=1e-3) else None
        finer = band.pixel > first.pixel * 1.001
        resampling = ' resampling="bilinear"' if finer or how is None else ""
        none = "" if band.nodata is None else f"<NODATA>{band.nodata!r}</NODATA>"
        added = f"<ScaleOffset>{band.added!r}</ScaleOffset><ScaleRatio>1</ScaleRatio>" if band.added else ""
        kind = "ComplexSource" if none or added else "SimpleSource"
        lines += [
            f'<VRTRasterBand dataType="{_vrt_type(first.dtype)}" band="{number}">',
            f"<Description>{escape(name)}</Description>",
            *([f"<NoDataValue>{band.nodata!r}</NoDataValue>"] if band.nodata is not None else []),
            *([f"<Scale>{band.scale!r}</Scale>"] if band.scale != 1 else []),
            f'<{kind}{resampling}><SourceFilename relativeToVRT="0">{escape(str(band.path))}</SourceFilename>'
            f'<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="{band.width}" ySize="{band.height}"/>'
            f'<DstRect xOff="{left!r}" yOff="{top!r}" xSize="{wide!r}" ySize="{high!r}"/>{none}{added}</{kind}>',
            "</VRTRasterBand>",
        ]
    return "\n".join([*lines, "</VRTDataset>\n"])


def _vrt_type(dtype: str) -> str:
    """Return GDAL's name of a type.

    Example:
        >>> _vrt_type("uint8"), _vrt_type("uint16"), _vrt_type("float32")
        ('Byte', 'UInt16', 'Float32')
    """
    return "Byte" if dtype == "uint8" else dtype.title().replace("Ui", "UI")


def source_files(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """List the files that the pixels of a virtual raster come from; none of another file.

    Args:
        path: The file.
        above: Virtual rasters that name it.

    Raises:
        SceneError: The file is damaged, a source is not a file on this machine, or they name each other too often.
    """
    if path.suffix.lower() != ".vrt":
        return []
    text = read_loosely(path)
    found: list[Path] = []
    for relative, name in re.findall(r'<SourceFilename[^>]*?(?:relativeToVRT="(\d)"[^>]*)?>([^<]+)<', text):
        plain = name.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").strip()
        source = path.parent / plain if relative == "1" else Path(plain)
        if source in above or source == path:
            raise SceneError(f"{path}: names {plain}, which names it in turn. Mend the path in the file.")
        if plain.startswith("/vsi") or not source.is_file():
            raise SceneError(f"{path}: its source {plain} is not a file on this machine. Mend the path in the file.")
        if len(above) >= MOST_NESTED or len(found) > MOST_SOURCES:
            raise SceneError(f"{path}: its virtual rasters name each other too often. Save its pixels as a GeoTIFF.")
        found += [source, *source_files(source, (*above, path))]
    return found
