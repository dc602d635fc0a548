"""Read legends: a legend file, one that is shipped, or the names and colours that other tools keep beside a raster.

Other tools' tables are QGIS styles (``.qml``), colour files (``.clr``), value attribute tables (``.vat.dbf`` or CSV),
and the categories and attribute table of GDAL's ``.aux.xml``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree

from levelground.errors import LegendError
from levelground.imagery.class_maps import find_class_beginning
from levelground.imagery.colours import RGB, distinct_colours
from levelground.imagery.legend import MAX_CLASSES, Legend, LegendClass
from levelground.reading import MAX_TEXT_BYTES, parse_csv, parse_toml, read_bytes, read_text

LEGEND_FILE = "legend.toml"
"""The legend of a data folder, where it has one."""

_NO_DATA = re.compile(r"(no|without)[ _-]?data|nodata|unlabell?ed|masked", re.IGNORECASE)
_NAME_COLUMNS = (
    "class_name",
    "classname",
    "class_names",
    "label",
    "name",
    "class",
    "legend",
    "description",
    "category",
)
_VALUE_COLUMNS = ("value", "code", "gridcode", "grid_code", "id", "class_id")
_LEAST_CONTRAST = 8  # grey levels in one channel; a ramp of greys is no palette of classes


@dataclass(frozen=True)
class ValueName:
    """What a table says of one stored value: a name, a colour, both or neither."""

    name: str | None = None
    colour: RGB | None = None


ValueTable = dict[int, ValueName]
"""Names and colours by stored value."""


def shipped_legends() -> dict[str, str]:
    """Return the legends that come with levelground: the data set that each describes, by name."""
    folder = resources.files("levelground") / "legends"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        for entry in files
    }


def shipped_text(name: str) -> str:
    """Return the file of a shipped legend as text.

    Raises:
        LegendError: There is no legend of this name.
    """
    if name not in shipped_legends():
        raise LegendError(f"{name}: no such legend. levelground legends lists those that are shipped.")
    return (resources.files("levelground") / "legends" / f"{name}.toml").read_text(encoding="utf-8")


def read_legend(path: str | PathLike[str]) -> Legend:
    """Read a legend from a file, or take a shipped one by its name.

    Args:
        path: A TOML file: ``name``, ``rule`` (``"exact"`` or ``"threshold"``), ``ignored`` (colours of pixels without
            data), ``nodata`` (values without data) and one ``[[class]]`` each with ``index``, ``name``, ``colour``
            (``"8429F6"`` or ``[132, 41, 246]``), ``value`` (a number or several), ``counted`` and ``name_ru``. Or a
            table of another tool: ``.qml``, ``.clr``, ``.dbf``, ``.csv``. Or the name of a shipped legend. ``base``
            (the name of a shipped legend) stands in a file for the classes, and ``merge`` (``"rangeland+barren"``, or
            a list) makes one class of several.
    Raises:
        LegendError: The file is missing or is not TOML, or the legend contradicts itself; the message names the file.
    """
    path = Path(path)
    try:
        if not path.exists() and str(path) in shipped_legends():
            content = parse_toml(shipped_text(str(path)))
        elif path.suffix.lower() in _READERS:
            return legend_of_table(read_table(path), path)
        else:
            content = parse_toml(read_text(path, "utf-8-sig"))
    except OSError as error:
        raise LegendError(
            f"{path}: cannot be read ({error.strerror}). Give a legend file with --legend, or the name of one that "
            "levelground legends lists."
        ) from error
    except ValueError as error:
        raise LegendError(f"{path}: is not TOML ({error}). See docs/legends.md for the form.") from error
    try:
        merge = content.pop("merge", [])
        if isinstance(base := content.pop("base", None), str):
            content = parse_toml(shipped_text(base)) | {"name": path.stem} | content
        legend = Legend.from_json({"name": path.stem} | content)
        return merge_classes(legend, [merge] if isinstance(merge, str) else merge)
    except LegendError as error:
        raise LegendError(f"{path}: {error}") from error


def merge_classes(legend: Legend, groups: object) -> Legend:
    """Make one class of several, in masks of colours and of indices alike.

    Args:
        legend: The classes as masks hold them.
        groups: A list of names joined by ``+``; the beginning of one class's name alone is enough.
    Returns:
        The legend with the others renumbered in order; a merged class has the colour of its first.
    Raises:
        LegendError: A name is not a class, or stands twice; some of the merged classes count and others do not.

    Example:
        >>> from levelground.imagery.legend import DEEPGLOBE
        >>> merge_classes(DEEPGLOBE, ["rangeland+barren"]).names[2]
        'Rangeland + Barren land'
    """
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise LegendError(f'merge is {groups!r}, expected names joined by +, such as "rangeland+barren", or a list.')
    taken: dict[int, int] = {}
    for group in groups:
        members = [_merged_class(word, legend) for word in group.split("+")]
        if len(members) < 2 or len(set(members)) < len(members) or taken.keys() & members:
            raise LegendError(
                f"merge {group!r}: expected two classes or more, each once. Name them as the legend does."
            )
        taken |= dict.fromkeys(members, min(members))
    if not taken:
        return legend
    parts: dict[int, list[LegendClass]] = {}
    for entry in legend.classes:
        parts.setdefault(taken.get(entry.index, entry.index), []).append(entry)
    merged = (_merged(members, index) for index, members in enumerate(parts.values()))
    return replace(legend, classes=tuple(merged))


def _merged_class(word: str, legend: Legend) -> int:
    """Find a class by its name, or by the beginning of its alone."""
    found = find_class_beginning(word, legend)
    if found is None:
        raise LegendError(f"merge: {word.strip()!r} is not one class. The classes are {', '.join(legend.names)}.")
    return found


def _merged(members: Sequence[LegendClass], index: int) -> LegendClass:
    """Make one class of those given; index masks keep the values that they store."""
    first, names = members[0], [entry.name_ru for entry in members]
    if len({entry.counted for entry in members}) > 1:
        raise LegendError(f"merge: {' and '.join(entry.name for entry in members)}: one counts and another does not.")
    return LegendClass(
        index=index,
        name=" + ".join(entry.name for entry in members),
        colour=first.colour,
        counted=first.counted,
        name_ru=" + ".join(name for name in names if name) if all(names) else None,
        values=tuple(value for entry in members for value in entry.values or (entry.index,)),
        also=(*first.also, *(colour for entry in members[1:] for colour in (entry.colour, *entry.also))),
    )


def legend_of_table(table: ValueTable, source: Path) -> Legend:
    """Make a legend of another tool's table; values whose name says so are no data.

    Raises:
        LegendError: The table names no value, or too many.
    """
    kept = [value for value, entry in table.items() if not is_no_data(entry)]
    if not kept or len(kept) > MAX_CLASSES:
        raise LegendError(
            f"{source}: names {len(kept)} values, expected 1 to {MAX_CLASSES} classes. Give a table with a row for "
            "each value of the masks."
        )
    return legend_of_values(kept, table, name=source.name.split(".")[0], nodata=sorted({*table} - {*kept}))


def legend_of_values(
    values: Iterable[int], table: Mapping[int, ValueName], *, name: str, nodata: Sequence[int] = ()
) -> Legend:
    """Make a class of each value, in ascending order, with the names and colours of a table.

    Names that lack or repeat get the value behind them. Unless every class has a colour of its own, all are drawn
    anew.

    Args:
        values: The values.
        table: What is known of them.
        name: Name of the legend.
        nodata: Values without data.
    Raises:
        LegendError: A value is a class and no data at once.
    """
    ordered = sorted(set(values))
    found = [table.get(value, ValueName()) for value in ordered]
    names = [entry.name or f"value {value}" for value, entry in zip(ordered, found, strict=True)]
    names = [f"{one} ({v})" if names.count(one) > 1 else one for v, one in zip(ordered, names, strict=True)]
    told = [entry.colour for entry in found]
    colours = clear_colours(told) or distinct_colours(len(ordered))
    bare = ordered == list(range(len(ordered))) and not nodata
    classes = (
        LegendClass(index, names[index], colours[index], values=() if bare else (value,))
        for index, value in enumerate(ordered)
    )
    return Legend(name, tuple(classes), nodata=tuple(sorted(set(nodata))))


def given_legend(data: Path, path: Path | None) -> tuple[Legend, str] | None:
    """Read the legend that the user gave: the file named, or ``legend.toml`` in the data folder.

    Raises:
        LegendError: The file cannot be read or contradicts itself.
    """
    chosen = path or data / LEGEND_FILE
    if path is None and not chosen.exists():
        return None
    return read_legend(chosen), str(chosen)


def clear_colours(colours: Sequence[RGB | None]) -> tuple[RGB, ...] | None:
    """Return the colours where each class has one of its own that the eye tells from the others."""
    known = tuple(colour for colour in colours if colour is not None)
    pairs = ((one, other) for n, one in enumerate(known) for other in known[:n])
    alike = any(max(abs(a - b) for a, b in zip(*pair, strict=True)) < _LEAST_CONTRAST for pair in pairs)
    return known if len(known) == len(colours) and not alike else None


def is_no_data(entry: ValueName) -> bool:
    """Tell whether the name of a value says that there are no data."""
    return bool(entry.name and _NO_DATA.fullmatch(entry.name.strip()))


def table_beside(masks: Sequence[Path]) -> tuple[ValueTable, Path] | None:
    """Find the table of names that lies beside masks: under a mask's own name, else the only one of its folder.

    Args:
        masks: The mask files.
    Returns:
        The table of the first mask that has one, and its file; tables that name nothing are passed over.
    """
    folders: dict[Path, list[Path]] = {}
    for mask in masks:
        if mask.parent not in folders:
            folders[mask.parent] = sorted(path for path in mask.parent.iterdir() if _is_table(path))
        own = [path for path in folders[mask.parent] if path.name.startswith((f"{mask.stem}.", f"{mask.name}."))]
        for path in own if own or len(folders[mask.parent]) != 1 else folders[mask.parent]:
            try:
                table = read_table(path)
            except LegendError:  # a file of this name that is no table of names, such as measured areas
                continue
            if any(entry.name or entry.colour for entry in table.values()):
                return table, path
    return None


def _is_table(path: Path) -> bool:
    """Tell by its name whether a file may say what values mean."""
    name = path.name.lower()
    return name.endswith((".qml", ".clr", ".vat.dbf", ".vat.csv", ".aux.xml"))


def read_table(path: Path) -> ValueTable:
    """Read names and colours of values from another tool's file, by its suffix.

    Raises:
        LegendError: The file cannot be read, or is not of the form that its suffix says.
    """
    try:
        return _READERS[path.suffix.lower()](path)
    except OSError as error:
        raise LegendError(f"{path}: cannot be read ({error.strerror}). Give another file.") from error
    except (ElementTree.ParseError, ValueError, OverflowError, IndexError, KeyError) as error:
        raise LegendError(f"{path}: is not a table of values and names ({error}). Give another file.") from error


def _read_xml(path: Path) -> ValueTable:
    """Read a QGIS style, or GDAL's metadata of a raster."""
    root = ElementTree.fromstring(read_bytes(path, MAX_TEXT_BYTES))  # noqa: S314 - expat bounds how entities grow
    table: ValueTable = {}
    for entry in root.iter():
        if entry.tag in ("paletteEntry", "item") and "value" in entry.attrib:
            value = _whole(entry.get("value", ""))
            if value is not None and (entry.tag == "paletteEntry" or "color" in entry.attrib):
                table[value] = ValueName(_clean(entry.get("label")), _hex(entry.get("color", "")))
    for value, category in enumerate(root.findall(".//CategoryNames/Category")):
        if _clean(category.text):
            table[value] = ValueName(_clean(category.text))
    for attributes in root.iter("GDALRasterAttributeTable"):
        columns = [(field.findtext("Name") or "") for field in attributes.findall("FieldDefn")]
        rows = [[field.text or "" for field in row.findall("F")] for row in attributes.findall("Row")]
        table |= _rows_table(columns, rows)
    return table


def _read_clr(path: Path) -> ValueTable:
    """Read a colour file: value, red, green, blue, and maybe a name, a line each."""
    table: ValueTable = {}
    for line in read_text(path, "utf-8-sig").splitlines():
        parts = re.split(r"[\s,;]+", line.strip(), maxsplit=4)
        if not line.strip() or line.lstrip().startswith(("#", "//")) or parts[0].startswith("INTERPOLATION"):
            continue
        red, green, blue = (int(part) for part in parts[1:4])
        rest = re.sub(r"^(\d{1,3}(?=[\s,;]|$))[\s,;]*", "", parts[4]) if len(parts) > 4 else ""  # opacity
        table[int(parts[0])] = ValueName(_clean(rest), (red & 255, green & 255, blue & 255))
    return table


def _read_csv(path: Path) -> ValueTable:
    """Read a value attribute table with a header."""
    text = read_text(path, "utf-8-sig")
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    rows = parse_csv(text, delimiter)
    return _rows_table(rows[0], rows[1:])


def _read_dbf(path: Path) -> ValueTable:
    """Read a value attribute table in dBase III, as ArcGIS writes it (``NAME.tif.vat.dbf``)."""
    content = read_bytes(path, MAX_TEXT_BYTES)
    count, start, width = (int.from_bytes(content[at : at + n], "little") for at, n in ((4, 4), (8, 2), (10, 2)))
    fields = [content[at : at + 32] for at in range(32, start - 1, 32) if content[at : at + 1] != b"\r"]
    names = [field[:11].split(b"\0")[0].decode("latin-1") for field in fields]
    if not names or start + count * width > len(content):
        raise ValueError("the file ends early")
    encoding = "utf-8" if _is_utf8(content[start:]) else "cp1252"
    rows = []
    for number in range(count):
        at, row = start + number * width + 1, []
        for field in fields:
            row.append(content[at : at + field[16]].decode(encoding, "replace").strip())
            at += field[16]
        rows.append(row)
    return _rows_table(names, rows)


def _is_utf8(content: bytes) -> bool:
    """Tell whether text is UTF-8."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _rows_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> ValueTable:
    """Read rows under their columns' names: a value, and where there are such columns a name and red, green, blue."""
    lower = [column.strip().lower() for column in columns]
    at = next((lower.index(name) for name in _VALUE_COLUMNS if name in lower), None)
    if at is None:
        raise ValueError(f"no column {' or '.join(_VALUE_COLUMNS[:2])} among {', '.join(columns)}")
    named = next((lower.index(name) for name in _NAME_COLUMNS if name in lower and lower.index(name) != at), None)
    channels = [[lower.index(name) for name in names if name in lower] for names in _CHANNELS]
    table: ValueTable = {}
    for row in rows:
        value = _whole(row[at]) if len(row) > at else None
        if value is None:
            continue
        colour = None
        if all(channels):
            red, green, blue = (float(row[columns[0]] or 0) for columns in channels)
            scale = 255 if max(red, green, blue) <= 1 and "." in "".join(row[c[0]] for c in channels) else 1
            colour = (round(red * scale) & 255, round(green * scale) & 255, round(blue * scale) & 255)
        table[value] = ValueName(_clean(row[named]) if named is not None and len(row) > named else None, colour)
    return table


_CHANNELS = (("red", "r"), ("green", "g"), ("blue", "b"))
_READERS: Mapping[str, Callable[[Path], ValueTable]] = {
    ".qml": _read_xml,
    ".xml": _read_xml,
    ".clr": _read_clr,
    ".csv": _read_csv,
    ".dbf": _read_dbf,
}


def _whole(text: str) -> int | None:
    """Read a whole number, written as such or as ``10.0``."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else None


def _hex(text: str) -> RGB | None:
    """Read ``#8429f6``."""
    digits = text.removeprefix("#")[:6]
    try:
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    except ValueError:
        return None


def _clean(text: str | None) -> str | None:
    """Return a name on one line, ``None`` where there is none."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text or "").split())
    return words or None


def with_nodata(legend: Legend, values: Sequence[int]) -> Legend:
    """Add values without data to a legend.

    Raises:
        LegendError: The legend has one of them as a class.
    """
    if not values:
        return legend
    taken = sorted({value for entry in legend.classes for value in entry.values or (entry.index,)} & {*values})
    if taken:
        raise LegendError(
            f"--label-nodata {' '.join(map(str, values))}: the legend {legend.name!r} has {taken[0]} as a class. Leave "
            "the flag away, or mend the legend."
        )
    return replace(legend, nodata=tuple(dict.fromkeys((*legend.nodata, *values))))
