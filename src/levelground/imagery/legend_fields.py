"""The fields of a legend file: known keys, their types, colours as text. Refused with what stands there."""

from collections.abc import Mapping
from typing import Any, TypeVar

from levelground.errors import LegendError
from levelground.imagery.colours import RGB

T = TypeVar("T")


def only_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse keys that nothing reads."""
    for key in content:
        if key not in known:
            raise LegendError(f"{where} has the unknown key {key!r}, expected {', '.join(sorted(known))}.")


def typed_field(content: Mapping[str, Any], key: str, kind: type[T], where: str, default: T | None = None) -> T:
    """Read a key of a given type."""
    value = content.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LegendError(f"{where}: {key} is {value!r}, expected {kind.__name__}.")
    return value


def read_colour(value: object, where: str) -> RGB:
    """Read ``"8429F6"``, ``"#8429f6"`` or ``[132, 41, 246]``."""
    if isinstance(value, str):
        digits = value.removeprefix("#")
        if len(digits) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    elif isinstance(value, list | tuple) and len(value) == 3 and all(type(part) is int for part in value):
        return value[0], value[1], value[2]
    raise LegendError(f'{where}: colour is {value!r}, expected "8429F6" or [132, 41, 246].')


def hex_colour(colour: RGB) -> str:
    """Six hexadecimal digits."""
    return "{:02X}{:02X}{:02X}".format(*colour)
