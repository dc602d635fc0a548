"""Files of the field, one kind a function: each writes six scenes and returns its own truth.

The truth is the number of pixels of each class that occurs, in the order of their stored values, and of those without
data, counted from the classes that were drawn and never from the files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from builders.field_sets import N_CLASSES, N_SCENES, SIDE, UTM, classes_of, image_of, place

Truth = tuple[list[int], int]
Labels = NDArray[np.uint8]
EDGE = 9
"""Columns of a collar."""
FLOAT_MIN = float(np.finfo(np.float32).min)
IMAGES, LABELS = "images/s{}.tif", "labels/s{}.tif"


@dataclass(frozen=True)
class FieldFiles:
    """A kind of files: what writes it, the flags that are needed, and how it is answered.

    ``answer`` is ``read``: the right pixels at once; ``remedy``: a refusal or a warning whose remedy gives them, if it
    is followed as it is printed; ``told``: the stored pixels, with a warning of what only the user can mend;
    ``refused``: a refusal of what only the user can mend. ``says`` is a part of what is printed.
    """

    write: Callable[[Path], Truth]
    answer: str = "read"
    says: str = ""


def write_raster(path: Path, pixels: NDArray[np.generic], number: int, **profile: object) -> Path:
    """Write a GeoTIFF, or what ``driver`` says, at the place of a scene."""
    extra = {key: profile.pop(key, None) for key in ("mask", "palette", "names", "scales", "offsets")}
    bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    given = {"driver": "GTiff", "crs": UTM, "transform": Affine(*place(number)), **profile}
    size = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", dtype=bands.dtype, **size, **given) as file,
    ):
        file.write(bands)
        if extra["mask"] is not None:
            file.write_mask(extra["mask"])
        if extra["palette"] is not None:
            file.write_colormap(1, extra["palette"])
        if extra["names"] is not None:
            file.descriptions = extra["names"]
        if extra["scales"] is not None:
            file.scales, file.offsets = extra["scales"], extra["offsets"]
    return path


def count(labels: Labels, missing: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count each class of the drawn classes, those without data last."""
    kept = labels if missing is None else labels[~missing]
    return np.array([*np.bincount(kept.ravel(), minlength=N_CLASSES), labels.size - kept.size])


def collar(side: int = SIDE) -> NDArray[np.bool_]:
    """The pixels of a collar at the left edge."""
    return np.broadcast_to(np.arange(side) < EDGE, (side, side))


def scenes(
    data: Path,
    *,
    image: Callable[[Labels, int], NDArray[np.generic]] = image_of,
    label: Callable[[Labels, int], NDArray[np.generic]] = lambda labels, _: labels,
    missing: NDArray[np.bool_] | None = None,
    images: str = IMAGES,
    labels: str = LABELS,
    image_profile: Callable[[int], dict[str, object]] = lambda _: {},
    label_profile: Callable[[int], dict[str, object]] = lambda _: {},
    side: int = SIDE,
) -> Truth:
    """Write pairs of rasters; ``missing`` are the pixels that have no data, by either file."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn = classes_of(number, side)
        write_raster(data / images.format(number), image(drawn, number), number, **image_profile(number))
        write_raster(data / labels.format(number), label(drawn, number), number, **label_profile(number))
        total += count(drawn, missing)
    return total[:-1].tolist(), int(total[-1])


def pictures(
    data: Path, label: Callable[[Labels], Image.Image], folders: tuple[str, str] = ("images", "masks")
) -> Truth:
    """Write pairs of PNG files."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn = classes_of(number)
        for folder, picture in zip(folders, (Image.fromarray(image_of(drawn, number)), label(drawn)), strict=True):
            (data / folder).mkdir(parents=True, exist_ok=True)
            picture.save(data / folder / f"s{number}.png")
        total += count(drawn)
    return total[:-1].tolist(), int(total[-1])


def two_classes(truth: Truth) -> Truth:
    """The truth where only the last class is told from the rest."""
    return [sum(truth[0][:-1]), truth[0][-1]], truth[1]


def valued(
    *values: float, dtype: str = "uint8", edge: float | None = None
) -> Callable[[Labels, int], NDArray[np.generic]]:
    """Store a value for each class, and another in the collar."""

    def label(labels: Labels, _: int) -> NDArray[np.generic]:
        stored = np.array(values, np.float64)[labels]
        if edge is not None:
            stored[collar(len(labels))] = edge
        return stored.astype(dtype)

    return label


def tagged(nodata: float) -> Callable[[int], dict[str, object]]:
    """The profile of files that name a nodata value."""
    return lambda _: {"nodata": nodata}


def edged(value: float, *, dtype: str, bands: slice = slice(None)) -> Callable[[Labels, int], NDArray[np.generic]]:
    """Images of a type with a value in the collar."""

    def image(labels: Labels, number: int) -> NDArray[np.generic]:
        pixels = image_of(labels, number).astype(dtype)
        pixels[:, :EDGE, bands] = value
        return pixels

    return image


def short_tag(data: Path, pattern: str) -> None:
    """Write the smallest float as ArcGIS does, with fewer digits than a float32 has."""
    for path in data.glob(pattern):
        content, tag = path.read_bytes(), b"-3.4028234663852886e+38\0"
        assert content.count(tag) == 1
        path.write_bytes(content.replace(tag, b"-3.40282346638529e+38".ljust(len(tag), b"\0")))


# ------------------------------------------------------------------ stored values of labels


def black_and_white(data: Path) -> Truth:
    """Buildings as 0 and 255, in rasters."""
    return two_classes(scenes(data, label=valued(0, 0, 0, 255)))


def black_and_white_png(data: Path) -> Truth:
    """Buildings as 0 and 255, in PNG files."""
    return two_classes(pictures(data, lambda labels: Image.fromarray(((labels == 3) * 255).astype(np.uint8))))


def one_bit_png(data: Path) -> Truth:
    """Buildings in PNG files of one bit."""
    return two_classes(pictures(data, lambda labels: Image.fromarray(labels == 3)))


def far_values_with_palette(data: Path) -> Truth:
    """Codes far apart with a palette and a nodata value that does not occur."""
    palette = {10: (0, 90, 0, 255), 30: (250, 250, 80, 255), 50: (240, 0, 0, 255), 80: (0, 90, 190, 255)}
    return scenes(data, label=valued(10, 30, 50, 80), label_profile=lambda _: {"palette": palette, "nodata": 0})


def float_labels_short_tag(data: Path) -> Truth:
    """Labels of floats without data at the smallest one, tagged with fewer digits."""
    label = valued(0, 1, 2, 3, dtype="float32", edge=FLOAT_MIN)
    truth = scenes(data, label=label, missing=collar(), label_profile=tagged(FLOAT_MIN))
    short_tag(data, "labels/*.tif")
    return truth


def with_edge(
    *values: float, edge: float, dtype: str = "uint8", nodata: float | None = None, **answer: str
) -> FieldFiles:
    """Labels of four values with a collar of another, tagged or not."""
    profile = (lambda _: {}) if nodata is None else tagged(nodata)
    label = valued(*values, dtype=dtype, edge=edge)
    return FieldFiles(lambda data: scenes(data, label=label, missing=collar(), label_profile=profile), **answer)


def plain(*values: float, dtype: str = "uint8") -> FieldFiles:
    """Labels of four values without a collar."""
    return FieldFiles(lambda data: scenes(data, label=valued(*values, dtype=dtype)))


def three_equal_bands(data: Path) -> Truth:
    """Class indices three times, as image editors save them."""
    return scenes(data, label=lambda labels, _: np.repeat(labels[..., None], 3, 2))


def three_equal_bands_png(data: Path) -> Truth:
    """The same in PNG files."""
    return pictures(data, lambda labels: Image.fromarray(np.repeat(labels[..., None], 3, 2)))


def second_band(data: Path) -> Truth:
    """Class indices and a second band of 255 that no tag calls alpha."""
    return scenes(data, label=lambda labels, _: np.stack([labels, np.full_like(labels, 255)], -1))


# ------------------------------------------------------------------ labels on another grid


def coarse_labels(data: Path) -> Truth:
    """Label pixels three times as large."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn, t = classes_of(number), Affine(*place(number))
        write_raster(data / IMAGES.format(number), image_of(drawn, number), number)
        write_raster(data / LABELS.format(number), drawn[1::3, 1::3], number, transform=t @ Affine.scale(3))
        total += count(np.repeat(np.repeat(drawn[1::3, 1::3], 3, 0), 3, 1))
    return total[:-1].tolist(), 0


def larger_labels(data: Path) -> Truth:
    """Labels that reach beyond the image on all sides."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn, t = classes_of(number, 80), Affine(*place(number))
        write_raster(data / LABELS.format(number), drawn, number)
        part = slice(16, 64)
        write_raster(
            data / IMAGES.format(number),
            image_of(drawn, number)[part, part],
            number,
            transform=t @ Affine.translation(16, 16),
        )
        total += count(drawn[part, part])
    return total[:-1].tolist(), 0


def labels_of_double_pixels_at_the_origin(data: Path) -> Truth:
    """The corner has the same numbers as the size of a pixel; labels reach over a quarter of the image."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn = classes_of(number)
        far = 40_000 * number
        write_raster(
            data / IMAGES.format(number),
            image_of(drawn, number),
            number,
            transform=Affine(20, 0, 20 + far, 0, -20, -20),
        )
        write_raster(data / LABELS.format(number), drawn, number, transform=Affine(10, 0, 20 + far, 0, -10, -20))
        missing = np.ones(drawn.shape, np.bool_)
        missing[: SIDE // 2, : SIDE // 2] = False
        on_image = np.zeros_like(drawn)
        on_image[: SIDE // 2, : SIDE // 2] = drawn[1::2, 1::2]
        total += count(on_image, missing)
    return total[:-1].tolist(), int(total[-1])


def south_up_labels(data: Path) -> Truth:
    """Rows of labels from south to north, as their transform says."""

    def profile(number: int) -> dict[str, object]:
        return {"transform": Affine(*place(number)) @ Affine.translation(0, SIDE) @ Affine.scale(1, -1)}

    return scenes(data, label=lambda labels, _: labels[::-1].copy(), label_profile=profile)


def half_a_pixel_off(data: Path) -> Truth:
    """Labels half a pixel away: within the tolerance."""
    return scenes(
        data, label_profile=lambda number: {"transform": Affine(*place(number)) @ Affine.translation(0.5, 0.5)}
    )


def labels_without_a_place(data: Path) -> Truth:
    """PNG labels beside placed images."""
    truth = scenes(data)
    for number in range(N_SCENES):
        (data / LABELS.format(number)).unlink()
        Image.fromarray(classes_of(number)).save(data / f"labels/s{number}.png")
    return truth


def systems(label: str, image: str = UTM) -> Callable[[Path], Truth]:
    """Images and labels in two spellings of a coordinate system, or in two systems."""
    return lambda data: scenes(data, image_profile=lambda _: {"crs": image}, label_profile=lambda _: {"crs": label})


ENGINEERING = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


# ------------------------------------------------------------------ polygons


def polygons(data: Path, field: str, values: tuple[object, ...]) -> Truth:
    """One raster, and polygons of its four classes in degrees."""
    from rasterio.features import shapes
    from rasterio.warp import transform_geom

    drawn, t = classes_of(1, 240), Affine(*place(0))
    write_raster(data / "ortho.tif", image_of(drawn, 1), 0)
    features = [
        {
            "type": "Feature",
            "properties": {field: values[int(value)]},
            "geometry": transform_geom(UTM, "EPSG:4326", geometry),
        }
        for geometry, value in shapes(drawn, transform=t)
    ]
    (data / "ortho.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return count(drawn)[:-1].tolist(), 0


# ------------------------------------------------------------------ layouts


def parts_beside_each_other(data: Path) -> Truth:
    """Image, elevation and labels in one folder."""
    truth = scenes(data, images="town{}_ms.tif", labels="town{}_label.tif")
    for number in range(N_SCENES):
        write_raster(data / f"town{number}_dem.tif", classes_of(number).astype(np.float32), number)
    return truth


def two_sets_of_pictures(data: Path) -> Truth:
    """LoveDA: two sets, town and country, classes from 1."""
    truths = [
        pictures(data / part / kind, lambda labels: Image.fromarray(labels + 1), ("images_png", "masks_png"))
        for part in ("Train", "Val")
        for kind in ("Rural", "Urban")
    ]
    return np.sum([truth[0] for truth in truths], axis=0).tolist(), 0


def colours_of_potsdam(data: Path) -> Truth:
    """ISPRS Potsdam: its names and colours."""
    colours = np.array([[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0]], np.uint8)
    return scenes(
        data,
        label=lambda labels, _: colours[labels],
        images="top_potsdam_{}_12_RGB.tif",
        labels="top_potsdam_{}_12_label.tif",
    )


def side_files(data: Path) -> Truth:
    """What GDAL and file managers leave beside rasters."""
    truth = scenes(data)
    for path in list(data.rglob("*.tif")):
        path.with_suffix(".tif.aux.xml").write_text("<PAMDataset/>")
        path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n0\n0\n")
    (data / "images/Thumbs.db").write_bytes(b"no picture")
    return truth


def jpeg_2000(data: Path) -> Truth:
    """Images as JPEG 2000 without loss."""

    def profile(_: int) -> dict[str, object]:
        return {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}

    return scenes(
        data, image=lambda c, n: image_of(c, n, dtype="uint16"), images="images/s{}.jp2", image_profile=profile
    )


def band_files(data: Path, root: str = "") -> Truth:
    """Sentinel-2 products as they come: bands of 10 and 20 m, labels beside."""
    total = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        drawn = classes_of(number)
        pixels = image_of(drawn, number, dtype="uint16")
        safe = data / root / f"S2A_{number}.SAFE"
        for band, name in enumerate(("B02", "B03", "B04")):
            write_raster(safe / f"R10m/T33_{number}_{name}_10m.tif", pixels[..., band], number)
        coarse = Affine(*place(number)) @ Affine.scale(2)
        write_raster(safe / f"R20m/T33_{number}_B11_20m.tif", pixels[::2, ::2, 0], number, transform=coarse)
        write_raster(data / root / f"labels/T33_{number}.tif", drawn, number)
        total += count(drawn)
    return total[:-1].tolist(), 0


def virtual_rasters(data: Path) -> Truth:
    """What is made by hand of band files: one VRT a scene; the labels lie twice in the folder."""
    truth = band_files(data, "raw")
    for number in range(N_SCENES):
        a, b, c, d, e, f = place(number)
        bands = "".join(
            f'<VRTRasterBand dataType="UInt16" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">'
            f"../raw/S2A_{number}.SAFE/R10m/T33_{number}_{name}_10m.tif</SourceFilename>"
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
            for band, name in enumerate(("B02", "B03", "B04"), start=1)
        )
        text = f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>{UTM}</SRS>'
        text += f"<GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>{bands}</VRTDataset>"
        (data / "images").mkdir(exist_ok=True)
        (data / f"images/T33_{number}.vrt").write_text(text)
        write_raster(data / f"labels/T33_{number}.tif", classes_of(number), number)
    return truth


# ------------------------------------------------------------------ images


def under_a_mask(data: Path) -> Truth:
    """Bright rubbish under a mask inside the file."""

    def image(labels: Labels, number: int) -> NDArray[np.generic]:
        pixels = image_of(labels, number)
        pixels[:, :EDGE] = np.random.default_rng(number).integers(1, 255, (SIDE, EDGE, 3))
        return pixels

    mask = np.where(collar(), 0, 255).astype(np.uint8)
    return scenes(data, image=image, missing=collar(), image_profile=lambda _: {"mask": mask})


def alpha(data: Path) -> Truth:
    """Alpha of 0 in the collar."""

    def image(labels: Labels, number: int) -> NDArray[np.generic]:
        alpha = np.where(collar(), 0, 255).astype(np.uint8)
        return np.concatenate([edged(7, dtype="uint8")(labels, number), alpha[..., None]], -1)

    return scenes(data, image=image, missing=collar(), image_profile=lambda _: {"photometric": "RGB", "alpha": "YES"})


def slanted_collar(data: Path) -> Truth:
    """Zeros beyond the slanted edge of a swath, untagged."""
    rows, cols = np.mgrid[:SIDE, :SIDE]
    missing = np.asarray(cols < 14 - rows * 0.2)

    def image(labels: Labels, number: int) -> NDArray[np.generic]:
        pixels = image_of(labels, number, dtype="uint16")
        pixels[missing] = 0
        return pixels

    return scenes(data, image=image, missing=missing)


def some_float(data: Path) -> Truth:
    """Half of the images of another type."""
    return scenes(data, image=lambda c, n: image_of(c, n, dtype="uint16").astype("uint16" if n % 2 else "float32"))


def bands_in_two_orders(data: Path) -> Truth:
    """Two orders of the same bands, as their descriptions say."""
    order = (("red", "green", "blue"), ("blue", "green", "red"))
    return scenes(
        data,
        image=lambda c, n: image_of(c, n)[..., :: 1 if n % 3 else -1],
        image_profile=lambda n: {"names": order[n % 3 == 0]},
    )


def two_offsets(data: Path) -> Truth:
    """Two processing baselines, as offsets say."""
    return scenes(
        data,
        image=lambda c, n: image_of(c, n, dtype="uint16") + np.uint16(1000 * (n % 3 == 0)),
        image_profile=lambda n: {"scales": (1e-4,) * 3, "offsets": (-0.1 * (n % 3 == 0),) * 3},
    )


def grey_with_zeros(data: Path) -> Truth:
    """Grey images with a corner of 0, stored as white."""

    def image(labels: Labels, number: int) -> NDArray[np.generic]:
        pixels = image_of(labels, number)[..., :1]
        pixels[:3, :3] = 0
        return pixels

    return scenes(data, image=image, image_profile=lambda _: {"photometric": "MINISWHITE"})


def image_short_tag(data: Path) -> Truth:
    """Images without data at the smallest float, tagged with fewer digits."""
    image = edged(FLOAT_MIN, dtype="float32")
    truth = scenes(data, image=image, missing=collar(), image_profile=tagged(FLOAT_MIN))
    short_tag(data, "images/*.tif")
    return truth


def tag_beyond_the_type(data: Path) -> Truth:
    """A nodata value of -99 on bytes: it marks nothing."""
    truth = scenes(data, image_profile=tagged(200))
    for path in (data / "images").glob("*.tif"):
        path.write_bytes(path.read_bytes().replace(b"200\0", b"-99\0", 1))
    return truth


def cloud_layers(data: Path) -> Truth:
    """Scene classifications beside the scenes: 9 is cloud."""
    cloud = np.zeros((SIDE, SIDE), np.bool_)
    cloud[10:20, 12:30] = True
    truth = scenes(data, missing=cloud)
    for number in range(N_SCENES):
        write_raster(data / f"scl/s{number}.tif", np.where(cloud, 9, 4).astype(np.uint8), number)
    return truth


def one_place_at_six_dates(data: Path) -> Truth:
    """The same ground at six dates."""

    def here(_: int) -> dict[str, object]:
        return {"transform": Affine(*place(0))}

    def image(_: Labels, number: int) -> NDArray[np.generic]:
        return (image_of(classes_of(0), number) * (0.6 + 0.08 * number)).astype(np.uint8)

    scenes(data, image=image, label=lambda _c, _n: classes_of(0), image_profile=here, label_profile=here)
    return (count(classes_of(0)) * N_SCENES)[:-1].tolist(), 0


def two_sizes_of_pixels(data: Path) -> Truth:
    """Half of the scenes at .5 m, half at 10 m."""

    def profile(number: int) -> dict[str, object]:
        return {"transform": Affine(*place(number, 0.5 if number % 2 else 10))}

    return scenes(data, image_profile=profile, label_profile=profile)


def degrees(data: Path) -> Truth:
    """Everything in degrees."""

    def profile(number: int) -> dict[str, object]:
        return {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 12 + number, 0, -1e-4, 48)}

    return scenes(data, image_profile=profile, label_profile=profile)


def image_of_type(dtype: str) -> Callable[[Labels, int], NDArray[np.generic]]:
    """Images of a type of more than 8 bits."""
    return lambda labels, number: image_of(labels, number, dtype=dtype)


def collared(
    value: float, *, dtype: str, nodata: float | None = None, bands: slice = slice(None), **answer: str
) -> FieldFiles:
    """Images with a collar of a value, tagged or not."""
    profile = (lambda _: {}) if nodata is None else tagged(nodata)
    image = edged(value, dtype=dtype, bands=bands)
    return FieldFiles(lambda data: scenes(data, image=image, missing=collar(), image_profile=profile), **answer)


def named(images: str, labels: str, *, add: int = 0, bands: int = 3) -> FieldFiles:
    """Pairs under the names of a public data set."""
    return FieldFiles(
        lambda data: scenes(
            data,
            images=images,
            labels=labels,
            image=lambda c, n: image_of(c, n, bands),
            label=lambda c, _: c + np.uint8(add),
        )
    )
