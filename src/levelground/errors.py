"""Every error that levelground raises on purpose.

::

    LevelgroundError                one line on stderr, exit status 2
    ├── ConfigError                 a flag, recipe field or combination of them
    ├── DataError                   a file or folder that the user gave
    │   ├── SceneError              image or mask: missing, unreadable, unlike sizes
    │   ├── LabelColourError        a mask colour that is not a class of the legend
    │   ├── LegendError             a legend that contradicts itself
    │   └── SplitError              a split with unknown, doubled or no scenes
    ├── RecordError                 a record: damaged, unknown schema, wrong kind
    │   ├── MissingRecordError      a record that is not there
    │   └── BusyError               another process holds the folder
    ├── ModelError                  architecture, encoder or their combination
    │   └── WeightsError            weights: not there, do not fit, unsafe
    ├── TrainingError               a loss that is not a number
    │   └── LoaderError             a process that loads scenes was killed
    ├── OutOfMemoryError            no more memory may be taken
    ├── UnfinishedError             some of several jobs failed, the others are done; exit status 1
    ├── UnlikeError                 runs that must not be compared
    ├── DiskError                   no room, no permission
    ├── ShapeError                  arrays whose shapes do not fit
    └── ClassIndexError             a class index outside the legend

A message says what is wrong with the value, where, what was expected and what to do.
"""

import traceback

USER_FAULT, OUR_FAULT, INTERRUPTED = 2, 1, 130
"""Exit statuses of a process that failed: by what the user gave, by us, or after Ctrl-C."""


class LevelgroundError(Exception):
    """The root: catch this to catch all of ours."""

    exit_status = 2
    """What the command line ends with."""


class ConfigError(LevelgroundError):
    """A flag, a recipe field or a combination of them that cannot work."""


class DataError(LevelgroundError):
    """A file or folder that the user gave."""


class SceneError(DataError):
    """An image or mask that is missing, unreadable or of another size than its partner."""


class LabelColourError(DataError):
    """A mask colour that is not a class of the legend."""


class LegendError(DataError):
    """A legend that contradicts itself."""


class SplitError(DataError):
    """A split with unknown, doubled or no scenes."""


class RecordError(LevelgroundError):
    """A record on disk that is damaged, of an unknown schema or of another kind."""


class MissingRecordError(RecordError):
    """A record that is not there; whoever can do without it catches this, and lets one that is damaged be refused."""


class BusyError(RecordError):
    """A folder that another process holds."""


class ModelError(LevelgroundError):
    """An architecture, an encoder or a combination of them that cannot be built or trained."""


class WeightsError(ModelError):
    """Weights that are not there, do not fit or are unsafe to read."""


class TrainingError(LevelgroundError):
    """Training that cannot go on, such as a loss that is not a number."""


class LoaderError(TrainingError):
    """A process that loads scenes was killed."""


class OutOfMemoryError(LevelgroundError):
    """No more memory may be taken."""


class UnfinishedError(LevelgroundError):
    """Some of several jobs failed; the others are done and kept."""

    exit_status = 1


class RejectedError(LevelgroundError):
    """An export that is worse than what it was made of; it is kept aside."""

    exit_status = 1


class UnlikeError(LevelgroundError):
    """Runs that must not be compared: other labels, legend, scenes or protocol."""


class DiskError(LevelgroundError):
    """No room or no permission to write."""


class ShapeError(LevelgroundError):
    """Arrays whose shapes do not fit together."""


class ClassIndexError(LevelgroundError):
    """A class index outside the legend."""


def first_line(error: BaseException, *, limit: int = 120) -> str:
    r"""Return the first line of another library's error without its full stop, or the error's name where it is empty.

    Example:
        >>> first_line(ValueError("No such file.\nTry another.")), first_line(EOFError())
        ('No such file', 'EOFError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:limit].rstrip(".")


def damaged_bytecode(error: BaseException) -> str:
    """Return the file of compiled Python over which an import failed; an empty text for another error.

    CPython before 3.12.8 keeps such a file where a full disk cut it short.
    """
    frames = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((str(found["bytecode_path"]) for found in frames if found.get("bytecode_path")), "")


def last_line(text: str, *, limit: int = 300) -> str:
    r"""Return the last line of another program's output that is not empty; an empty text where there is none.

    Example:
        >>> last_line("Traceback\n  ...\nValueError: no such file\n\n"), last_line(" \n")
        ('ValueError: no such file', '')
    """
    lines = text.strip().splitlines()
    return lines[-1][:limit] if lines else ""


def one_line(text: str) -> str:
    r"""Put a text on one line: characters that are not printed, such as line breaks, are escaped as in Python.

    Example:
        >>> one_line("Лес\n.jpg")
        'Лес\\n.jpg'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
