"""What is made of a finished class map beside the map: a table of areas, polygons, pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levelground.console import say
from levelground.errors import ConfigError
from levelground.imagery.legend import Legend
from levelground.prediction.area_table import Areas, class_areas, write_areas
from levelground.prediction.inputs import Target
from levelground.prediction.polygons import write_polygons
from levelground.prediction.previews import Photograph, write_colours, write_overlay

AREAS_FILE = "areas.csv"
"""In the folder of maps: the areas of all inputs, where there are several."""


@dataclass(frozen=True)
class Products:
    """What is asked for; areas are always written.

    Attributes:
        polygons: Format of polygons.
        smallest: Patches smaller than this are merged into a neighbour; m², or pixels where the ground is not known.
        picture: Whether the map's colours are written as a PNG.
        overlay: Whether the map is drawn over its image.
        side: Longest side of these pictures, in pixels.

    Raises:
        ConfigError: A smallest area without polygons.
    """

    polygons: Literal["none", "gpkg", "geojson"] = "none"
    smallest: float = 0.0
    picture: bool = False
    overlay: bool = False
    side: int = 4096

    def __post_init__(self) -> None:
        if self.smallest and self.polygons == "none":
            raise ConfigError(
                f"--smallest-area {self.smallest:g}: no polygons are asked for. Pass --polygons gpkg, or leave it away."
            )


@dataclass(frozen=True)
class ProductFiles:
    """Where an input's products go; ``None`` for those that are not asked for."""

    areas: Path
    polygons: Path | None
    picture: Path | None
    overlay: Path | None

    @property
    def all(self) -> list[Path]:
        """Those that will be written."""
        return [path for path in (self.areas, self.polygons, self.picture, self.overlay) if path is not None]


def product_files(target: Target, products: Products) -> ProductFiles:
    """Where an input's products go: beside its map."""

    def beside(ending: str) -> Path:
        return target.classes.with_name(f"{target.source.stem}_{ending}")

    return ProductFiles(
        areas=beside("areas.csv"),
        polygons=None if products.polygons == "none" else beside(f"polygons.{products.polygons}"),
        picture=beside("colours.png") if products.picture else None,
        overlay=beside("overlay.png") if products.overlay else None,
    )


def write_products(
    classes: Path, photograph: Photograph | None, legend: Legend, target: Target, products: Products
) -> Areas:
    """Write the products of one map.

    Args:
        classes: The finished class map, one band of legend indices, 255 without data.
        photograph: The image that it was made of, for the overlay.
        legend: The classes.
        target: The input.
        products: What is asked for.
    Returns:
        The areas.
    Raises:
        DiskError: The disk is full.
        SceneError: The image breaks off.
    """
    files = product_files(target, products)
    areas = class_areas(classes, legend)
    write_areas(files.areas, areas)
    warning = areas.warning(target.name)
    if warning:
        say(warning)
    if files.polygons is not None:
        count = write_polygons(classes, legend, files.polygons, smallest=products.smallest)
        lost = f"; {count.left_out} small ones without a large neighbour are left out" if count.left_out else ""
        say(f"{files.polygons}: {count.written} polygons{lost}.")
    if files.picture is not None:
        write_colours(classes, legend, files.picture, side=products.side)
    if files.overlay is not None and photograph is not None:
        write_overlay(classes, photograph, legend, files.overlay, side=products.side)
    return areas


def disk_needed(pixels: int, products: Products) -> int:
    """Bytes that products may take, with their temporary files: a reckoning, as polygons depend on the map.

    A noisy map has given two bytes a pixel as a GeoPackage; GeoJSON takes twice as much. Merging takes a byte a pixel
    and its mask.
    """
    polygons = {"none": 0.0, "gpkg": 1.0, "geojson": 2.0}[products.polygons]
    pictures = min(pixels, products.side**2) * (products.picture + 3 * products.overlay)
    return int(pixels * (polygons + (1.1 if products.smallest else 0.0))) + pictures
