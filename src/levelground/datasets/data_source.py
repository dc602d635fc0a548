"""The data folder that a command is given: checked or downloaded, and told from a folder that was prepared before."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from levelground import __version__
from levelground.config import PrepareOptions
from levelground.console import say
from levelground.datasets.dataset import DATASET_FILE, Dataset, read_dataset
from levelground.datasets.fingerprints import fingerprint_path
from levelground.datasets.folds import fold_folder
from levelground.errors import ConfigError, DataError, RecordError, SceneError
from levelground.files import atomic_path
from levelground.imagery.cache import REMEDY, place_in_cache
from levelground.imagery.scene_pixels import SceneFile
from levelground.reading import check_seal, parse_json, read_text, seal
from levelground.records import sha256_json
from levelground.wording import current_language

KAGGLE_NAME = "balraj98/deepglobe-land-cover-classification-dataset"
BY_HAND = (
    f"To get it by hand: accept the terms at kaggle.com/datasets/{KAGGLE_NAME}, unpack the archive, and pass its "
    "folder as --data."
)
_NO_KAGGLEHUB = f"--download kaggle: kagglehub is not installed (pip install levelground[download]). {BY_HAND}"


def check_data(options: PrepareOptions) -> None:
    """Refuse what is wrong about the data's place before anything is loaded, downloaded or made.

    Raises:
        ConfigError: No folder is given, or two sources are.
        SceneError: It is not a folder.
        DataError: What downloads is not installed.
    """
    if options.download and options.data:
        raise ConfigError(f"--data {options.data}: given with --download {options.download}. Drop one.")
    if options.download:
        if sys.modules.get("kagglehub") is None and importlib.util.find_spec("kagglehub") is None:
            raise DataError(_NO_KAGGLEHUB)
        return
    if options.data is None:
        raise ConfigError("--data: no folder given. Pass the folder with the scenes, or --download kaggle.")
    data = options.data.expanduser().resolve()
    if not data.is_dir():
        raise SceneError(f"{data}: is not a folder. Give the folder with the scenes as --data.")


def data_folder(options: PrepareOptions) -> Path:
    """Return the folder with the scenes, absolute; it is downloaded where that is asked for.

    Raises:
        ConfigError: No folder is given, or two sources are.
        SceneError: It is not a folder.
        DataError: It cannot be downloaded.
    """
    check_data(options)
    return options.data.expanduser().resolve() if options.data else download_kaggle()


def download_kaggle() -> Path:
    """Fetch DeepGlobe with kagglehub, or find what it fetched before.

    Returns:
        The folder with ``train/``.
    Raises:
        DataError: kagglehub is not installed, there is no network, or the user has no access; the message says what to
            do by hand.
    """
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError(_NO_KAGGLEHUB) from error
    say("fetching %(kaggle_name)s with kagglehub (about 3 GB)", kaggle_name=KAGGLE_NAME)
    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME)).resolve()
    except Exception as error:  # kagglehub, requests and urllib3 raise their own kinds; all mean: not fetched
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"--download kaggle: not fetched ({reason}). {BY_HAND}") from error


@dataclass(frozen=True)
class Prepared:
    """A folder that was prepared before, and nothing of which has changed since.

    ``lines`` were said when its scenes were found; ``links`` counts the pairs of scenes that belong together, by kind.
    """

    dataset: Dataset
    lines: tuple[str, ...]
    links: Mapping[str, int]


def find_prepared(options: PrepareOptions, data: Path, cache: Path, stamp: str) -> Prepared | None:
    """Return what an earlier call with the same options made, if no file has another size or time since, and say so.

    Args:
        options: What to prepare.
        data: The data folder, absolute.
        cache: The cache's folder, absolute.
        stamp: :func:`stamp_of_data` now.
    Returns:
        ``None`` where a file is new, gone or changed, in the data, the cache or the record.
    """
    try:
        text = read_text(_stamp_path(options, data, cache))
        check_seal(text, "line")
        known = parse_json(text)
        if known["data"] != stamp:
            return None
        dataset = read_dataset(options.out.expanduser().resolve())
        if known["made"] != _stamp(_made(options, cache, dataset)):
            return None
        links = {str(kind): int(n) for kind, n in known["links"].items()}
        before = Prepared(dataset, tuple(map(str, known["lines"])), links)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecordError):
        return None
    for line in before.lines:
        say(line)
    say_cached(cache, len(dataset.scenes), len(dataset.scenes))
    return before


def say_cached(cache: Path, scenes: int, reused: int) -> None:
    """Say how many scenes were in the cache."""
    say(
        "cache %(folder)s: %(reused)s of %(n)s scenes were there, %(decoded)s decoded",
        folder=cache,
        reused=reused,
        n=scenes,
        decoded=scenes - reused,
    )


def keep_prepared(
    options: PrepareOptions, cache: Path, prepared: Prepared, files: Sequence[SceneFile], stamp: str
) -> None:
    """Let :func:`find_prepared` find a record that was just written.

    Args:
        options: What was prepared.
        cache: The cache's folder, absolute.
        prepared: The record, and what was said.
        files: The scenes' files. Where some are drawn or put together from others, or layers are left out, nothing is
            kept: the files that they come from may lie anywhere.
        stamp: :func:`stamp_of_data` before any of it was read; where it has changed since, nothing is kept either.
    Raises:
        DiskError: The cache cannot be written.
    """
    data = prepared.dataset.data
    read = [path for one in files for path in (one.image, one.labels) if path]
    made = any(path.suffix.lower() == ".vrt" or data not in path.parents for path in read)
    if made or options.exclude or options.within or options.bands or stamp != stamp_of_data(options, data, cache):
        return
    content = {
        "data": stamp,
        "made": _stamp(_made(options, cache, prepared.dataset)),
        "lines": prepared.lines,
        "links": dict(prepared.links),
    }
    with atomic_path(_stamp_path(options, data, cache), REMEDY, durable=False) as temporary:
        temporary.write_text(seal(json.dumps(content), "line"), encoding="utf-8")


def stamp_of_data(options: PrepareOptions, data: Path, cache: Path) -> str:
    """Hash path, size and time of every file in the data folder, of the legend and of the lists; none is opened.

    Args:
        options: What to prepare.
        data: The data folder, absolute.
        cache: The cache's folder, absolute; it and the study may lie in the data folder and are passed over.
    """
    return _stamp(_data_files(options, data, {str(cache), str(options.out.expanduser().resolve())}))


def _data_files(options: PrepareOptions, data: Path, passed_over: set[str]) -> Iterator[str]:
    """Yield the files and folders that a call may read."""
    for folder, folders, names in os.walk(data):
        folders[:] = sorted(name for name in folders if f"{folder}/{name}" not in passed_over)
        yield from (f"{folder}/{name}" for name in (*folders, *sorted(names)))
    if options.legend is not None:
        yield str(options.legend.expanduser().absolute())
    if options.lists is not None:
        yield from map(str, sorted(options.lists.expanduser().absolute().glob("*")))


def _made(options: PrepareOptions, cache: Path, dataset: Dataset) -> Iterator[str]:
    """Yield the files that a call made: the records, decoded scenes and fingerprints."""
    yield str(dataset.folder / DATASET_FILE)
    for number in range(1, (options.folds or 0) + 1):
        yield str(fold_folder(dataset.folder, number) / DATASET_FILE)
    for scene in dataset.scenes:
        yield f"{cache}/{place_in_cache(scene.image_key)}"
        yield from (f"{cache}/{place_in_cache(scene.labels_key, suffix)}" for suffix in (".npy", ".json"))
        yield str(fingerprint_path(cache, scene.image_key, scene.labels_key))


def _stamp_path(options: PrepareOptions, data: Path, cache: Path) -> Path:
    """Return where the stamps of a call lie in the cache."""
    out = options.out.expanduser().resolve()
    chosen = {name: str(value) for name, value in asdict(options).items() if name not in ("data", "out", "cache")}
    key = sha256_json(["prepared", __version__, current_language(), str(data), str(out), chosen])
    return cache / place_in_cache(key, ".json")


def _stamp(paths: Iterable[str]) -> str:
    """Hash path, size and time of files; one that cannot be seen has none."""
    digest = xxhash.xxh3_128()
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116  # making a Path takes longer than looking at the file
            line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            line = f"{path}\0\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
