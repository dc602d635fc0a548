"""Files of weights, read by what they hold: tensors wherever they lie, without running code from the file.

Objects of other code in a pickle become inert placeholders: nothing of theirs is imported or called, and the tensors in
them are found. Files that are not weights are named for what they are.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from levelground.console import say
from levelground.errors import WeightsError, first_line
from levelground.reading import UNREADABLE, open_regular, parse_json, read_text
from levelground.records import sha256_file, sha256_json

StateDict = dict[str, torch.Tensor]

WEIGHTS_FILE = "model.safetensors"
"""Name of the weights in a folder."""

SAVE_LINE = 'torch.save(model.state_dict(), "weights.pth")'
"""The line of Python that saves plain tensors."""

INDEX_SUFFIX = ".index.json"
"""How the name of a file ends that lists the parts of weights in several files."""

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.\w+)")
"""Name of one of several files of weights."""

ProgramKind = Literal["onnx", "torchscript"]
"""Files that hold a whole network, not only its tensors."""

_CALLABLES = re.compile(
    r"(__builtin__|builtins)\.(?!(object|set|frozenset|slice|complex|bytearray|bytes|range|type|list|dict|tuple|int|"
    r"float|str|bool)$)|(os|io|_io|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|ctypes|pty|marshal|code|operator|"
    r"webbrowser|types)\."
)
"""Names in a pickle that only a program calls; a file with one is refused, whatever else it holds."""

_HEADS = (
    (b"\x89HDF", "an HDF5 file, as Keras writes weights", "Adopt that network's masks with --predictions"),
    (b"GGUF", "a GGUF file of a language model", "Give the weights of a segmentation network"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it, and give the file inside"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the file inside"),
    (b"Rar!", "a RAR archive", "Unpack it, and give the file inside"),
    (b"\xfd7zXZ", "an xz archive", "Unpack it, and give the file inside"),
    (b"BZh", "a bzip2 archive", "Unpack it, and give the file inside"),
    (b"\x89PNG", "a PNG image", "Give the file of weights, or a folder of masks with --predictions"),
    (b"II*\0", "a TIFF image", "Give the file of weights, or a folder of masks with --predictions"),
    (b"\x93NUMPY", "a NumPy array", "Save the state dict: " + SAVE_LINE),
    (b"%PDF", "a PDF document", "Give the file of weights"),
)


def check_weights_file(path: Path) -> None:
    """Refuse a file that is not weights, by what it is.

    Raises:
        WeightsError: It does not exist, is empty, a page of a web site, a pointer, an archive or of another library.
    """
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"{path}: unreadable weights ({error}). Give a .safetensors or a .pth file.") from error
    found = _not_weights(head, size)
    if found is None and program_kind(path) == "onnx":
        found = "an ONNX network", f"It is run as it is: levelground adopt {path.name}"
    if found is not None:
        raise WeightsError(f"{path}: is {found[0]}, not weights. {found[1]}.")


def _not_weights(head: bytes, size: int) -> tuple[str, str] | None:
    """Tell what a file is that is not weights, and what to do; ``None`` where it may be weights."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if size == 0:
        return "an empty file", "Its download or copy failed: fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer to the weights", "Fetch them with git lfs pull"
    if text.startswith(b"<?xml") and b"<net " in head:
        return (
            "the graph of an OpenVINO network",
            "Give its ONNX file, or adopt that network's masks with --predictions",
        )
    if re.match(rb"<(!doctype|html|head|body|\?xml|!--)", text[:20].lower()):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", head, re.IGNORECASE | re.DOTALL)
        named = f" ({' '.join(title[1].decode(errors='replace').split())[:80]!r})" if title else ""
        return f"an HTML page{named}", "Download the file itself: its link opened a page"
    if text[:1] in b"{[" and text[:1] and b"\0" not in head:
        return "a JSON text", "Give the file of weights that it belongs to"
    if not head.strip(b"\0"):
        return "a file of zeros", "Its download or copy was not finished: fetch it again"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite network", "Adopt that network's masks with --predictions"
    return next(((what, remedy) for magic, what, remedy in _HEADS if head.startswith(magic)), None)


def program_kind(path: Path) -> ProgramKind | None:
    """Tell whether a file is a whole network in ONNX or TorchScript, by its content; ``None`` where it is neither."""
    if not path.is_file():
        return None
    with open_regular(path) as file:
        head = file.read(64)
    # An ONNX model begins with its version (field 1) and the name of its producer (field 2), or the graph (field 7).
    if path.suffix.lower() == ".onnx" or re.match(rb"\x08[\x03-\x20][\x12\x3a\x42]", head):
        return "onnx"
    return "torchscript" if _archive_kind(path) == "torchscript" else None


def _archive_kind(path: Path) -> str | None:
    """Tell what a ZIP archive holds; ``None`` where it is none, or what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except UNREADABLE:
        return None
    if any(name.endswith("/constants.pkl") or name == "constants.pkl" for name in names):
        return "torchscript"
    if any(name.endswith("data.pkl") for name in names):
        return None
    if any("models/model.json" in name or name.endswith("archive_format") for name in names):
        return "a program of torch.export"
    if "model.weights.h5" in names:
        return "a Keras model"
    return "a NumPy archive" if names and all(name.endswith(".npy") for name in names) else "a ZIP archive"


def weight_parts(file: Path) -> list[Path]:
    """Return the files that weights are in: the file, or all parts where it is one of several, or their index.

    Raises:
        WeightsError: A part is missing, or the index is damaged.
    """
    if file.name.endswith(INDEX_SUFFIX):
        names = _listed_parts(file)
    elif (match := _PART.fullmatch(file.name)) is not None:
        names = [f"{match[1]}-{number:05d}-of-{match[3]}{match[4]}" for number in range(1, int(match[3]) + 1)]
    else:
        return [file]
    parts = [file.with_name(name) for name in names]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise WeightsError(
            f"{file}: is of weights in {len(parts)} files, and {missing[0]} is not beside it. Fetch or copy all of "
            "them."
        )
    return parts


def _listed_parts(index: Path) -> list[str]:
    """Read the names of the parts from their index."""
    try:
        places = parse_json(read_text(index))["weight_map"].values()
        names = sorted({str(name) for name in places})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{index}: is not an index of weights ({first_line(error)}). Give the file of weights itself."
        ) from error
    if not names or any(Path(name).name != name for name in names):
        raise WeightsError(f"{index}: lists no files beside it. Give the file of weights itself.")
    return names


def weights_sha256(file: Path) -> str:
    """Hash weights: their file, or all of several."""
    digests = [sha256_file(part) for part in weight_parts(file)]
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def read_state(path: Path) -> StateDict:
    """Read a file or folder of weights without running code from it.

    Args:
        path: A ``.safetensors`` or torch file, one of several or their index, or a folder with ``model.safetensors``.
    Returns:
        All tensors by their place in the file, such as ``state_dict.module.encoder.conv1.weight``; those of a plain
        state dict under its own names.
    Raises:
        WeightsError: Unreadable, without tensors, of another kind, or a pickle that calls functions.
    """
    state: StateDict = {}
    file = path / WEIGHTS_FILE if path.is_dir() else path
    for part in weight_parts(file):
        check_weights_file(part)
        state |= _read_safetensors(part) if _is_safetensors(part) else _read_torch(part)
    if not state:
        raise WeightsError(f"{file}: holds no state dict of tensors. Save model.state_dict().")
    return state


def _is_safetensors(file: Path) -> bool:
    with open_regular(file) as opened:
        head = opened.read(9)
    return file.suffix == ".safetensors" or (head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30)


def _read_safetensors(file: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        short = "incomplete" in str(error).lower()
        remedy = "It is cut short: fetch or copy it again" if short else "Give a .safetensors or a .pth file"
        raise WeightsError(f"{file}: unreadable weights ({error}). {remedy}.") from error


class _Placeholder:
    """Object of other code in a pickle: keeps what it is given, does nothing."""

    def __init__(self, *content: object) -> None:
        self.__dict__["content"] = content

    def __setstate__(self, state: object) -> None:
        """Keep a state, whatever its form."""
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


_TRANSPARENT = ("_modules", "_parameters", "_buffers", "content", "state")
"""Attributes of a placeholder that add nothing to a name: torch keeps parts of a network in the first three."""


def _placeholder(name: str) -> type:
    """Make a class of its own for a name, so that messages can name it."""
    return type(name, (_Placeholder,), {"__new__": lambda cls, *_: object.__new__(cls)})


def _read_torch(file: Path) -> StateDict:
    """Read a file of ``torch.save``, objects of other code as placeholders."""
    archive = _archive_kind(file)
    if archive == "torchscript":
        line = f'torch.save(torch.jit.load("{file.name}").state_dict(), "weights.pth")'
        raise WeightsError(
            f"{file}: is a TorchScript program, not weights. levelground adopt {file.name} runs it as it is; for its "
            f"tensors: {line}"
        )
    if archive is not None:
        remedy = (
            "Unpack it, and give the file inside." if archive == "a ZIP archive" else f"Save its tensors: {SAVE_LINE}"
        )
        raise WeightsError(f"{file}: is {archive}, not weights. {remedy}")
    known: dict[str, type] = {}
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on other protocols of pickle; what cannot be read is an error below
                with torch.serialization.safe_globals([(made, name) for name, made in known.items()]):
                    content = torch.load(file, map_location="cpu", weights_only=True)
            break
        except Exception as error:
            # torch.load has no error class of its own: pickle, zip and archive errors all mean the same to the user.
            name = _foreign_name(error, file)
            if name is None or name in known or len(known) > 500:
                raise _unreadable(file, error, known) from error
            known[name] = _placeholder(name)
    state = dict(_tensors(content, "", set()))
    if known and state:
        say(
            "%(name)s: holds objects of %(listed)s; only tensors are taken, nothing is run.",
            name=file.name,
            listed=_listed(sorted(known)),
        )
    return state


def _foreign_name(error: BaseException, file: Path) -> str | None:
    """Return the name that torch did not accept in a pickle, if that is what the error is about.

    Raises:
        WeightsError: The name is that of a function which a program would call.
    """
    match = re.search(r"Unsupported global: GLOBAL (\S+) was not", str(error))
    blocked = re.search(r"unsupported GLOBAL (\S+) whose module", str(error))
    if match is None and blocked is None:
        return None
    name = match[1] if match else blocked[1] if blocked else ""
    if not all(part.isidentifier() for part in name.split(".")):
        return None  # a damaged name, of which no class can be made
    # torch leaves "builtins." away.
    if blocked or "." not in name or _CALLABLES.match(name):
        if "." not in name and not _CALLABLES.match(f"builtins.{name}"):
            return f"builtins.{name}"
        raise WeightsError(
            f"{file}: no plain weights (it would call {name}, which weights have no need of). Save the state_dict "
            f"alone, or as .safetensors: {SAVE_LINE}"
        )
    return name


def _unreadable(file: Path, error: BaseException, known: Mapping[str, type]) -> WeightsError:
    """Make the error of a file that cannot be read, which names the classes in it."""
    text = str(error)
    reason = text.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or first_line(error)
    held = next((name for name in known if name in text), next(iter(known), None))
    if held is not None:
        reason = f"it holds an object of class {held}"
    elif "PytorchStreamReader" in text or "unexpected EOF" in text or isinstance(error, OSError | EOFError):
        return WeightsError(f"{file}: no plain weights (damaged or cut short). Fetch or copy it again.")
    elif "Unsupported operand" in text or "legacy .tar format" in text:
        reason = "it is not a file that torch.save wrote"
    return WeightsError(
        f"{file}: no plain weights ({reason}). Save the state_dict alone, or as .safetensors: {SAVE_LINE}"
    )


def _tensors(value: object, place: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor below a value with its place; parts of a pickled network have their names in its state."""
    if isinstance(value, torch.Tensor):
        yield place, value.detach()
        return
    if id(value) in seen or len(seen) > 1_000_000 or place.count(".") > 60:
        return
    seen.add(id(value))
    if isinstance(value, _Placeholder):
        for key, item in vars(value).items():
            yield from _tensors(item, place if key in _TRANSPARENT else _below(place, key), seen)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, _below(place, key), seen)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, place if len(value) == 1 else _below(place, number), seen)


def _below(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


@dataclass(frozen=True)
class FoundNetwork:
    """A network's tensors in a file."""

    place: str
    """Where they lie, such as ``state_dict.module``; empty at the top."""
    state: StateDict
    """Tensors under the network's own names."""


def find_networks(tensors: StateDict, anchor: str) -> list[FoundNetwork]:
    r"""Find the networks among the tensors of a file.

    Args:
        tensors: All tensors by their place.
        anchor: Pattern of the name of a tensor that every such network has once or more.
    Returns:
        The networks, in the order of the file; one for each place that the names are under.
    Example:
        >>> one = torch.ones(1)
        >>> [f.place for f in find_networks({"model.head.weight": one, "ema.head.weight": one}, r"head\.weight")]
        ['model', 'ema']
    """
    pattern = re.compile(rf"(?:(.*)\.)?{anchor}")
    places = dict.fromkeys(match[1] or "" for name in tensors if (match := pattern.fullmatch(name)))
    found = []
    for place in places:
        prefix = f"{place}." if place else ""
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        found.append(FoundNetwork(place, state))
    return found


def choose_network(found: Sequence[FoundNetwork], part: str | None, *, source: str) -> FoundNetwork:
    """Choose one of several networks of a file.

    Args:
        found: At least one.
        part: The place that the user names; ``None`` takes the only one, or one of several with the same values.
        source: The file's name.
    Raises:
        WeightsError: No network lies there, or several do and none was named.
    """
    places = [one.place or "." for one in found]
    if part is not None:
        chosen = [one for one in found if part in (one.place or ".", one.place.split(".")[0])]
        if len(chosen) != 1:
            raise WeightsError(f"--part {part}: not a network of {source}. Give one of {', '.join(places)}.")
        return chosen[0]
    first = found[0]
    if len(found) == 1:
        return first
    if not all(_equal(first.state, one.state) for one in found[1:]):
        raise WeightsError(
            f"{source}: holds {len(found)} networks with other values: {', '.join(places)}. Choose one, as in --part "
            f"{places[-1]}."
        )
    say(
        "%(source)s: holds %(n)s networks with the same values: %(places)s; %(places2)s is taken.",
        source=source,
        n=len(found),
        places=", ".join(places),
        places2=places[0],
    )
    return first


def _equal(one: StateDict, other: StateDict) -> bool:
    """Tell whether two state dicts hold the same values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def say_left_out(tensors: StateDict, taken: FoundNetwork, *, source: str) -> None:
    """Say which tensors of a file lie outside the network that is taken."""
    prefix = f"{taken.place}." if taken.place else ""
    outside = [name for name in tensors if not name.startswith(prefix)]
    heads = list(dict.fromkeys(_head(name, taken.place) for name in outside))
    if heads:
        say(
            "%(source)s: %(place)s is taken; left out: %(listed)s.",
            source=source,
            place=taken.place,
            listed=_listed(heads),
        )


def _head(name: str, place: str) -> str:
    """Return the first parts of a name up to where it leaves a place."""
    parts, own = name.split("."), place.split(".")
    same = next((i for i, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), len(own))
    return ".".join(parts[: same + 1])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
