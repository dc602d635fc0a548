"""Map stored values to labels, tell what masks hold, and number classes without a legend."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.config import Layout
from levelground.errors import LegendError, SceneError
from levelground.imagery.colours import RGB, pack_colours, unpack_colours
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader
from levelground.imagery.image_pixels import read_colours, read_indices, stored_palette, used_palette
from levelground.imagery.legend import IGNORE, MAX_CLASSES, LabelMap, Legend, LegendClass, default_legend, hex_colour
from levelground.imagery.legend_sources import (
    LEGEND_FILE,
    ValueName,
    ValueTable,
    clear_colours,
    legend_of_table,
    legend_of_values,
    read_legend,
    shipped_legends,
    table_beside,
    with_nodata,
)

_SPARSE, _SPARSE_TOP = 4, 16
"""Values are names, not numbers of classes, where the largest is this many times their number, and at least this."""

_STRIP_PIXELS = 1 << 24
_SAMPLED = 8  # masks opened to tell palettes and colours
EXAMPLES = 12  # classes of a legend that a message shows

Coding = Literal["colour", "index"]
"""Whether a mask holds colours of the legend or class indices."""

NUMBERED = {
    "binary": "no legend file: masks of 0 and 255, two classes",
    "values": "no legend file: a class for each value, 255 = no data",
}
"""How a legend came about that was made from the values of index masks, by its name."""


def numbered_legend(
    values: Collection[int], table: Mapping[int, ValueName] | None = None, nodata: Sequence[int] = ()
) -> Legend:
    """Make a legend for index masks that come without one, from the values that occur in all of them.

    Args:
        values: The values, without the files' own nodata values.
        table: Names and colours of values, from a palette or a table beside the masks.
        nodata: Values without data.
    Returns:
        Values 0 and 255 alone are the two classes of a black and white mask. Far-flung values, such as WorldCover's
        10, 20 … 100, are a class each, and so are values from 1 on where 0 is no data. Otherwise classes are numbered
        from 0 to the largest value, and 255 is no data.
    Raises:
        LegendError: There are more than 255 classes.

    Example:
        >>> numbered_legend({0, 255}).stored, numbered_legend({10, 30, 255}).names
        (((0, 0), (255, 1)), ('value 10', 'value 30'))
    """
    table = table or {}
    if set(values) == {0, IGNORE} and not nodata:
        black, white = (table.get(value, ValueName()).name or f"class {i}" for i, value in enumerate((0, IGNORE)))
        classes = (
            LegendClass(0, black, (0, 0, 0), values=(0,)),
            LegendClass(1, white, (255, 255, 255), values=(IGNORE,)),
        )
        return Legend("binary", classes)
    kept = sorted(set(values) - {IGNORE} - {*nodata})
    top = max(kept, default=0)
    if top < max(_SPARSE_TOP, _SPARSE * len(kept)) and not any(0 <= value <= top for value in nodata):
        plain = default_legend(max(1, top) + 1)  # a legend of one class leaves nothing to tell apart
        named = legend_of_values(range(plain.n_classes), _named(table, plain), name=plain.name)
        return replace(named, nodata=tuple(sorted(nodata))) if nodata else named
    if len(kept) > MAX_CLASSES:
        raise LegendError(f"masks hold {len(kept)} values, expected at most {MAX_CLASSES} classes. Reclassify them.")
    return legend_of_values(kept, table, name="values", nodata=nodata)


def legend_of_masks(
    masks: Mapping[Path, ImageHeader], values: Collection[int], nodata: Sequence[int] = ()
) -> tuple[Legend, str, str | None]:
    """Make a legend for index masks that come without one: of their values, and of the names and colours beside them.

    Args:
        masks: Headers by file.
        values: The values that occur, from :func:`occurring_values` of each.
        nodata: Values that the user names as no data.
    Returns:
        The legend; how it came about; and a warning where a value is taken as no data unasked.
    Raises:
        LegendError: Several values are negative, or there are too many.
    """
    below = sorted(value for value in values if value < 0)
    if len(below) > 1:
        listed = " ".join(map(str, below))
        raise LegendError(
            f"masks hold {listed}, expected class indices from 0. If they are no data, pass --label-nodata {listed}."
        )
    warning = None
    if below:
        warning = (
            f"masks hold {below[0]}, which neither file nor legend declares: it is read as no data. --label-nodata "
            f"{below[0]} says so."
        )
    tagged = 0 not in values and bool(masks) and all(header.nodata == 0 for header in masks.values())
    nodata = tuple(dict.fromkeys((*nodata, *below, *((0,) if tagged else ()))))
    table, source = _names_beside(masks)
    if source and {*values} - {IGNORE, *nodata} <= {*table} and len(table) > 1:
        legend = with_nodata(legend_of_table(table, source), [value for value in nodata if value not in table])
        return legend, f"no legend file: the classes of {source}", warning
    if not source:
        palette = _palette_of(masks)
        used = [palette.get(value, ValueName()).colour for value in sorted({*values} - {IGNORE, *nodata})]
        table = palette if clear_colours(used) else {}
    legend = numbered_legend(values, table, nodata)
    told = NUMBERED.get(legend.name, "no legend file: the classes are numbered, 255 = no data")
    if table:
        told += f"; names and colours from {source or 'their palette'}"
    if legend.name == "default" and 0 not in values:
        told += "; no pixel is 0, --label-nodata 0 leaves that class out"
    elif legend.name == "default" and all(header.nodata is None for header in masks.values()):
        told += "; if 0 is no data, pass --label-nodata 0"
    named = any(entry.name for entry in table.values())
    lone = _lone_value({*values} - {IGNORE, *nodata})
    if lone is not None and not table.get(lone, ValueName()).name:
        told += f"; if {lone}, far from all others, is no data, pass --label-nodata {lone}"
    fits = [] if named or legend.name != "values" else _shipped_that_fit({*values} - {IGNORE, *nodata})
    return legend, told + (f"; the values fit --legend {fits[0]}" if fits else ""), warning


def _lone_value(values: Collection[int]) -> int | None:
    """Return the largest of some values where all others are numbers of classes, from 0 or 1 without a gap.

    Example:
        >>> _lone_value({0, 1, 2, 99}), _lone_value({0, 1, 2, 3}), _lone_value({10, 20, 99})
        (99, None, None)
    """
    *others, top = sorted(values) or [0]
    dense = len(others) > 1 and others[0] in (0, 1) and others[-1] - others[0] == len(others) - 1
    return top if dense and top >= max(_SPARSE_TOP, _SPARSE * len(others)) else None


def _names_beside(masks: Mapping[Path, ImageHeader]) -> tuple[ValueTable, Path | None]:
    """Find the table of names beside masks; colours that it lacks are those of the masks' palette."""
    found = table_beside(list(masks))
    if found is None:
        return {}, None
    table, source = found
    palette = _palette_of(masks)
    return {v: ValueName(one.name, one.colour or palette.get(v, one).colour) for v, one in table.items()}, source


def _palette_of(masks: Mapping[Path, ImageHeader]) -> ValueTable:
    """Return the colours of the masks' own palettes, where all that are looked into have the same."""
    palettes = [stored_palette(path, header) for path, header in list(masks.items())[:_SAMPLED]]
    if not palettes or any(palette != palettes[0] for palette in palettes):
        return {}
    return {value: ValueName(colour=colour) for value, colour in palettes[0].items()}


def _shipped_that_fit(values: Collection[int]) -> list[str]:
    """List the shipped legends that name all of some far-flung values, those with the most classes first."""
    if max(values) < _SPARSE * len(values):
        return []
    legends = {name: read_legend(name) for name in shipped_legends()}
    fitting = [name for name, one in legends.items() if {*values} <= {value for value, _ in one.stored}]
    return sorted(fitting, key=lambda name: (-legends[name].n_classes, name))


def _named(table: Mapping[int, ValueName], plain: Legend) -> dict[int, ValueName]:
    """Fill in the names of numbered classes."""
    known = [table.get(entry.index, ValueName()) for entry in plain.classes]
    return {n: ValueName(one.name or plain.names[n], one.colour) for n, one in enumerate(known)}


def labels_of_values(values: Pixels, legend: Legend, tag: float | None) -> tuple[LabelMap, NDArray[np.bool_], int]:
    """Turn the values of an index mask into labels.

    A value that the legend names means what it says there, even where the file calls it no data; then come the file's
    nodata value, values that are not numbers, and 255.

    Args:
        values: The stored values, ``(H, W)``.
        legend: The classes.
        tag: The file's nodata value, if it has one.
    Returns:
        Labels; where a value is none of these, ``(H, W)``; and how many pixels hold a 255 that nothing declares.
    """
    explicit = bool(legend.classes[0].values)
    table = {value: label for value, label in legend.stored if explicit or value != tag or label == IGNORE}
    undeclared = IGNORE not in table and tag != IGNORE
    table.setdefault(IGNORE, IGNORE)
    if values.dtype == np.uint8:
        return _look_up_bytes(np.asarray(values, np.uint8), table, tag, undeclared=undeclared)
    missing = np.zeros(values.shape, np.bool_) if tag is None else np.asarray(values == tag)
    if values.dtype.kind == "f":
        missing |= np.isnan(values.astype(np.float64, copy=False))
    exact = values.astype(np.float64 if values.dtype.kind == "f" else np.int64, copy=False)
    keys = np.array(sorted(table))
    at = np.minimum(np.searchsorted(keys, exact), len(keys) - 1)
    known = keys[at] == exact
    labels = np.array([table[int(key)] for key in keys], np.uint8)[at]
    labels[~known] = IGNORE
    return labels, ~known & ~missing, int((exact == IGNORE).sum()) if undeclared else 0


def _look_up_bytes(
    values: NDArray[np.uint8], table: dict[int, int], tag: float | None, *, undeclared: bool
) -> tuple[LabelMap, NDArray[np.bool_], int]:
    """Turn bytes into labels by one table of 256."""
    lut, known = np.full(256, IGNORE, np.uint8), np.zeros(256, np.bool_)
    for value, label in table.items():
        if 0 <= value <= 255:
            lut[value], known[value] = label, True
    if tag is not None and tag in range(256):
        known[int(tag)] = True
    occurs = np.bincount(values.ravel(), minlength=256)
    wrong = ~known[values] if occurs[~known].any() else np.zeros(values.shape, np.bool_)
    return lut[values], wrong, int(occurs[IGNORE]) if undeclared else 0


def _grey_indices(masks: Mapping[Path, ImageHeader], legend: Legend | None) -> bool:
    """Tell whether masks of three bands hold class indices, three times each, and not grey colours of a legend."""
    found: set[int] = set()
    for path, header in masks.items():
        try:
            found |= occurring_values(path, header)
        except SceneError:  # unlike bands: colours
            return False
    if legend is None:
        return True
    return found <= {value for value, _ in legend.stored} | {IGNORE} and not found <= _grey_levels(legend)


def _grey_levels(legend: Legend) -> set[int]:
    """Return the colours of a legend that are grey."""
    return {colour[0] for colour, _ in legend.table if len({*colour}) == 1}


def _grey_colours(masks: Mapping[Path, ImageHeader], legend: Legend) -> bool:
    """Tell whether grey masks hold 255 and otherwise only grey levels that are colours of a legend, over all masks."""
    levels = _grey_levels(legend)
    if len(levels) < 2 or IGNORE not in levels or any(header.dtype != "uint8" for header in masks.values()):
        return False
    found: set[int] = set()
    for path, header in masks.items():
        for window in strips(header):
            try:
                found |= set(np.unique(read_colours(path, window)).tolist())
            except SceneError:  # told when the mask is decoded
                break
            if not found <= levels:
                return False
    return IGNORE in found


def occurring_values(path: Path, header: ImageHeader, nodata: Collection[int] = ()) -> set[int]:
    """Find the values that occur in an index mask, except those without data.

    Args:
        path: The mask.
        header: Its header, which may name a nodata value.
        nodata: Further values without data.
    Raises:
        SceneError: A value is not a whole number, several are negative, or there are more than there can be classes.
    """
    found: set[int] = set()
    for window in strips(header):
        values = read_indices(path, window)
        values = np.unique(values[(values != header.nodata) & np.isfinite(values)])
        values = values[~np.isin(values, list(nodata))]
        if not values.size:
            continue
        low, high = float(values.min()), float(values.max())
        found |= {int(value) for value in values[: MAX_CLASSES + 2]}
        below = sorted(value for value in found if value < 0)
        if len(below) > 1 and (values % 1 == 0).all() and len(found) <= MAX_CLASSES:
            listed = " ".join(map(str, below))
            raise SceneError(
                f"{path}: mask holds the values {low:g} to {high:g}, expected class indices from 0. If {listed} are no "
                f"data, pass --label-nodata {listed}; else write a legend that names their values."
            )
        if (values.dtype.kind == "f" and (values % 1).any()) or len(found - {IGNORE}) > MAX_CLASSES:
            raise SceneError(
                f"{path}: mask holds the values {low:g} to {high:g}, expected class indices 0 to {MAX_CLASSES - 1}, or "
                f"{IGNORE} for no data. Number the classes from 0, or give a legend that names their values."
            )
    return found


def strips(header: ImageHeader) -> Iterator[Window | None]:
    """Yield windows that keep memory flat; only TIFF is read in parts, other files whole (``None``)."""
    if header.format != "tiff":
        yield None
        return
    rows = max(1, _STRIP_PIXELS // header.width)
    for row in range(0, header.height, rows):
        yield row, 0, min(rows, header.height - row), header.width


def tell_coding(masks: Mapping[Path, ImageHeader], legend: Legend | None, layout: Layout | None = None) -> Coding:
    """Tell whether masks hold colours or class indices.

    Args:
        masks: Headers by file.
        legend: The legend given, if any.
        layout: The layout that the user names; ``kaggle`` and ``folders`` have colours, ``index`` has indices.
    Returns:
        Without such a layout: ``colour`` where a mask has three unlike bands, or where all colours used by the palettes
        are in the legend, or where grey masks hold 255 and only grey levels that are colours of the legend; ``index``
        where the legend names stored values, and where all masks have one band or equal ones.
    """
    if layout == "index":
        return "index"
    if layout in ("kaggle", "folders"):
        return "colour"
    if any(header.image_bands >= 3 and not header.palette for header in masks.values()):
        return "index" if _grey_indices(masks, legend) else "colour"
    if legend is not None and legend.classes[0].values:
        return "index"
    palettes = [path for path, header in masks.items() if header.palette]
    if legend is not None and not palettes and _grey_colours(masks, legend):
        return "colour"
    if legend is None or not palettes:
        return "index"
    known = {colour for colour, _ in legend.table}
    return "colour" if all(used_palette(path) <= known for path in palettes[:_SAMPLED]) else "index"


def example_class(index: int, name: str, colour: RGB, value: int | None = None) -> str:
    """Write a class as a message shows a legend's file.

    Example:
        >>> example_class(1, "wood", (0, 100, 0), value=10)
        '{index = 1, name = "wood", value = 10, colour = "006400"}'
    """
    stored = "" if value is None else f" value = {value},"
    return f'{{index = {index}, name = "{name}",{stored} colour = "{hex_colour(colour)}"}}'


def colours_without_legend(data: Path, masks: Iterable[Path]) -> LegendError:
    """Make the error for colour masks without a legend; it shows a legend with the colours found."""
    counts: dict[RGB, int] = {}
    for mask in list(masks)[:_SAMPLED]:
        try:
            values, sizes = np.unique(pack_colours(read_colours(mask)), return_counts=True)
        except SceneError:  # what matters more is that there is no legend for any mask
            continue
        for (red, green, blue), size in zip(unpack_colours(values).tolist(), sizes.tolist(), strict=True):
            counts[red, green, blue] = counts.get((red, green, blue), 0) + size
    common = sorted(counts, key=lambda colour: (-counts[colour], colour))
    entries = ", ".join(
        example_class(index, f"class {index}", colour) for index, colour in enumerate(common[:EXAMPLES])
    )
    more = f" ({len(common)} colours found, the commonest shown)" if len(common) > EXAMPLES else ""
    return LegendError(
        f"{data}: masks hold colours and there is no legend. Write {data / LEGEND_FILE} with the right names, such as: "
        f"class = [{entries}]{more}; or pass --legend FILE."
    )
