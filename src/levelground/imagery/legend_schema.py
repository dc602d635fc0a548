"""The JSON form of a legend that is part of a record, and its schema."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from levelground.errors import LegendError
from levelground.imagery.legend import MAX_CLASSES, Legend


def _validate_legend(value: object) -> Legend:
    """Read a legend that is part of a record."""
    if isinstance(value, Legend):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("Input should be an object")
    try:
        return Legend.from_json(value)
    except LegendError as error:
        raise ValueError(str(error)) from error


_HEX = {"type": "string", "pattern": "^#?[0-9a-fA-F]{6}$"}
_VALUES = {"type": "array", "items": {"type": "integer"}}
_CLASS_KEYS = {
    "index": {"type": "integer", "minimum": 0, "maximum": MAX_CLASSES - 1},
    "name": {"type": "string"},
    "colour": _HEX,
    "counted": {"type": "boolean", "default": True},
    "name_ru": {"type": "string"},
    "value": _VALUES,
    "also": {"type": "array", "items": _HEX, "description": "Further colours in masks, of classes that were merged."},
}
_LEGEND_KEYS = {
    "name": {"type": "string"},
    "rule": {"enum": ["exact", "threshold"]},
    "ignored": {"type": "array", "items": _HEX, "description": "Colours of pixels without data."},
    "nodata": _VALUES | {"description": "Values of pixels without data in index masks."},
    "class": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "properties": _CLASS_KEYS, "required": ["index", "name", "colour"]},
    },
}
JsonLegend = Annotated[
    Legend,
    PlainValidator(_validate_legend),
    PlainSerializer(Legend.to_json),
    WithJsonSchema(
        {
            "type": "object",
            "description": "The classes, as a legend file holds them (docs/legends.md).",
            "properties": _LEGEND_KEYS,
            "required": ["class"],
        }
    ),
]
"""A legend as a field of a record, with its JSON form."""
