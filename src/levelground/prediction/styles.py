"""QGIS styles of class maps and polygons: QML files beside them, and the table of styles inside a GeoPackage."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from levelground.imagery.legend import IGNORE, Legend, hex_colour
from levelground.records import atomic_path

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_TABLE = """CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""
_CONTENTS = "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change) VALUES (?, 'attributes', ?, ?)"
_ROW = """INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName,
    styleQML, styleSLD, useAsDefault, description, owner, update_time) VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', ?)"""
_TIME = "2000-01-01T00:00:00.000Z"  # the same map gives the same bytes


def stored_value_table(legend: Legend) -> tuple[tuple[int, ...], int]:
    """Return the value that masks store for each class, and the one for pixels without data.

    A class of several values has the first; without data is the first such value of the legend, else 255 or the first
    number from 0 on that is no class.
    """
    values = tuple((*entry.values, entry.index)[0] for entry in legend.classes)
    free = (value for value in (IGNORE, *range(len(values) + 1)) if value not in values)
    return values, legend.nodata[0] if legend.nodata else next(free)


def map_style(legend: Legend, values: Mapping[int, int]) -> str:
    """Return the QML of a class map.

    Args:
        legend: Names and colours.
        values: What the map stores for each class.
    """
    entries = "\n".join(
        f'<paletteEntry value="{values[one.index]}" label={quoteattr(one.name)} '
        f'color="#{hex_colour(one.colour).lower()}" alpha="255"/>'
        for one in legend.classes
    )
    return (
        f'{_HEAD}<qgis version="3.28" styleCategories="Symbology">\n<pipe>\n'
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"<colorPalette>\n{entries}\n</colorPalette>\n</rasterrenderer>\n</pipe>\n</qgis>\n"
    )


def polygon_style(legend: Legend) -> str:
    """Return the QML of polygons with a field ``class``."""
    categories = "\n".join(
        f'<category render="true" symbol="{one.index}" value="{one.index}" type="long" label={quoteattr(one.name)}/>'
        for one in legend.classes
    )
    symbols = "\n".join(
        f'<symbol type="fill" name="{one.index}" alpha="1" clip_to_extent="1" force_rhr="0">'
        '<layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">'
        f'<Option type="QString" name="color" value="{",".join(map(str, one.colour))},255"/>'
        '<Option type="QString" name="style" value="solid"/><Option type="QString" name="outline_style" value="no"/>'
        "</Option></layer></symbol>"
        for one in legend.classes
    )
    return (
        f'{_HEAD}<qgis version="3.28" styleCategories="Symbology">\n'
        '<renderer-v2 type="categorizedSymbol" attr="class" symbollevels="0" enableorderby="0" forceraster="0">\n'
        f"<categories>\n{categories}\n</categories>\n<symbols>\n{symbols}\n</symbols>\n</renderer-v2>\n</qgis>\n"
    )


def write_style(path: Path, text: str) -> None:
    """Write a style beside its map or polygons, under the same name with ``.qml``."""
    with atomic_path(path.with_suffix(".qml")) as temporary:
        temporary.write_text(text, encoding="utf-8")


def add_style(package: Path, layer: str, legend: Legend) -> None:
    """Put the style of a layer of polygons into its GeoPackage, where QGIS takes it as the default.

    Args:
        package: The finished GeoPackage.
        layer: The layer.
        legend: Names and colours.
    """
    with closing(sqlite3.connect(package)) as database, database:
        (geometry,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
        ).fetchone()
        database.execute(_TABLE)
        database.execute(_CONTENTS, ("layer_styles", "layer_styles", _TIME))
        name = escape(legend.name)[:30]
        database.execute(_ROW, (layer, geometry, name, polygon_style(legend), "Classes in the legend's colours", _TIME))
