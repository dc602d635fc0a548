"""Files that appear whole, folders with one writer, full disks."""

import errno
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import filelock
import numpy as np
import pytest
from builders.fake_study import FakeStudy, build_fake_study

from levelground import files as disk
from levelground.comparison.benchmark import make_benchmark
from levelground.comparison.benchmark_record import Benchmark, write_benchmark
from levelground.comparison.compare import write_comparison
from levelground.errors import BusyError, DiskError
from levelground.files import (
    LOCK_FILE,
    append_text,
    atomic_path,
    command_line,
    in_turn,
    is_full,
    one_writer,
    open_for_blocks,
    read_at,
    remove_leftovers,
    set_room_aside,
    write_at,
    writing,
)
from levelground.reporting.figures import draw_figures
from levelground.reporting.page import render_benchmark, render_report

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_atomic_path_renames_when_the_block_ends_well(tmp_path: Path) -> None:
    """The file appears under its name, in a folder made for it, and nothing else does."""
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_atomic_path_keeps_the_suffix(tmp_path: Path) -> None:
    """Writers that choose a format by suffix see the right one."""
    with atomic_path(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    """A failure in the middle changes nothing and leaves no temporary file."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="half way"), atomic_path(path) as temporary:
        temporary.write_text("new, but")
        raise ValueError("half way")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


WORDS = {
    "the system's": FULL,
    "NumPy's": OSError("4000 requested and 96 written"),
    "safetensors'": OSError("Error while serializing: I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("error", WORDS.values(), ids=WORDS)
def test_atomic_path_says_that_the_disk_is_full(tmp_path: Path, error: OSError) -> None:
    """A full disk is one clear line, whoever met it."""
    message = r"a\.txt: cannot be written \(No space left on device\)\. Free space or choose another --out\.$"
    with pytest.raises(DiskError, match=message), atomic_path(tmp_path / "a.txt"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_says_that_permission_is_wanting(tmp_path: Path) -> None:
    """To free space would not help where nobody may write."""
    message = r"a\.txt: cannot be written \(Permission denied\)\. Get permission, or choose another --out\.$"
    with pytest.raises(DiskError, match=message), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_atomic_path_names_another_remedy(tmp_path: Path) -> None:
    """Where --out would not help."""
    message = r"a\.txt: cannot be written \(No space left on device\)\. Free space or choose another cache\.$"
    with pytest.raises(DiskError, match=message), atomic_path(tmp_path / "a.txt", "choose another cache"):
        raise FULL


def test_atomic_path_says_that_a_folder_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be made is one clear line."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match=r"a\.txt: cannot be written \((Not a directory|File exists)\)\."),
        atomic_path(tmp_path / "file" / "a.txt"),
    ):
        pass


def write_new(path: Path) -> None:
    """Let a file appear."""
    with atomic_path(path) as temporary:
        temporary.write_text("new")


def hold(path: Path) -> None:
    """Hold the folder of a lock for a moment."""
    with one_writer(path.parent):
        pass


@pytest.mark.parametrize("kind", ["folder", "link", "FIFO", "file above"])
def test_what_is_in_the_way_is_named_and_the_remedy_works(kind: str, tmp_path: Path) -> None:
    """Of files that are replaced, of those that are appended to, and of a lock; no other file is written."""
    (tmp_path / "precious").write_text("mine")
    made: dict[str, Callable[[Path], object]] = {
        "folder": Path.mkdir, "link": lambda path: path.symlink_to(tmp_path / "precious"), "FIFO": os.mkfifo,
    }  # fmt: skip
    writers = {
        "log.jsonl": lambda path: append_text(path, "a\n"),
        "a.txt": write_new,
        LOCK_FILE: hold,
    }
    for name, writer in writers.items():
        place = tmp_path / name.strip(".") / name
        place.parent.parent.mkdir(exist_ok=True)
        if kind == "file above":
            place.parent.write_text("")
        else:
            place.parent.mkdir()
            made[kind](place)
        if (kind, name) in {("link", "a.txt"), ("FIFO", "a.txt"), ("FIFO", LOCK_FILE)}:
            writer(place)
        else:
            with pytest.raises(DiskError, match=r"cannot be written .*Move \S+ away, or choose another --out") as error:
                writer(place)
            Path(str(error.value).split("Move ")[1].split(" away")[0]).rename(tmp_path / f"away-{name}")
            place.parent.mkdir(exist_ok=True)
            writer(place)
    assert (tmp_path / "precious").read_text() == "mine"


def test_writing_lets_other_errors_through(tmp_path: Path) -> None:
    """Only the system's words against writing are turned."""
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError


def test_a_full_disk_is_known_by_its_number() -> None:
    """Disk, quota and size of a file; not a missing file."""
    assert [is_full(OSError(number, "")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)] == [True] * 3
    assert not is_full(OSError(errno.ENOENT, ""))
    assert not is_full(ValueError("No space left on device"))


def test_lines_are_appended(tmp_path: Path) -> None:
    """One behind the other."""
    append_text(tmp_path / "a", "1\n")
    append_text(tmp_path / "a", "2\n", durable=True)
    assert (tmp_path / "a").read_text() == "1\n2\n"


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_do_not_fit_leave_no_half_line(tmp_path: Path) -> None:
    """The file is what it was, to the byte: half a line in the middle would make it unreadable later."""
    path = tmp_path / "a"
    append_text(path, "x" * 90 + "\n")
    message = r"a: cannot be written \(File too large\)\. Free space or choose another --out\.$"
    with file_size_limit(100), pytest.raises(DiskError, match=message):
        append_text(path, "y" * 90 + "\n")
    append_text(path, "z\n")
    assert path.read_text() == "x" * 90 + "\nz\n"


HOLD = """
import sys, time
from pathlib import Path
from levelground.files import one_writer
with one_writer(Path(sys.argv[1])):
    if sys.argv[2:]:
        import multiprocessing
        runs = multiprocessing.get_context("fork").Event()
        child = multiprocessing.get_context("fork").Process(target=lambda: (runs.set(), time.sleep(60)))
        child.start()
        runs.wait()
        print(child.pid, flush=True)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, *more: str, script: str = HOLD) -> Iterator[tuple[int, list[str]]]:
    """A process that holds a folder: its id, and what it printed first."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *more], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(1 + len(more))]
        yield process.pid, said
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_one_writer_names_the_process_that_holds_the_folder(tmp_path: Path) -> None:
    """Which process, on which machine, since when, doing what; when it is killed the folder is free."""
    with holder(tmp_path) as (pid, said):
        assert said == ["held"]
        message = (
            rf"held by process {pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \(-c .+\)\. "
            r"Wait for it to end, or choose another --out\.$"
        )
        with pytest.raises(BusyError, match=message), one_writer(tmp_path):
            pass
    with one_writer(tmp_path):
        pass


def test_a_child_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    """Loader processes are forked and end some seconds after their parent was killed: the folder is free at once."""
    with holder(tmp_path, "with a child") as (_, said):
        child = int(said[0])
    try:
        os.kill(child, 0)  # it is still there
        with one_writer(tmp_path):
            pass
    finally:
        os.kill(child, 9)


def test_a_forked_child_that_goes_on_does_not_close_what_it_does_not_hold(tmp_path: Path) -> None:
    """It ends the block like its parent, which still holds the folder then."""
    with one_writer(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's: of libraries' threads, which are idle here
            child = os.fork()
        if child == 0:
            status = 1
            try:
                with one_writer(tmp_path / "own"):
                    status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(BusyError), one_writer(tmp_path):
            pass


def test_one_writer_may_be_taken_again(tmp_path: Path) -> None:
    """A lock that was let go is free."""
    for _ in range(2):
        with one_writer(tmp_path / "study"):
            pass
    assert not disk._held


def test_one_writer_says_that_it_cannot_write(tmp_path: Path) -> None:
    """A folder that cannot be made is one clear line."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match=r"file: cannot be written \(File exists\)\. Move \S+/file away, or .+ --out\.$"),
        one_writer(tmp_path / "file"),
    ):
        pass


def test_a_disk_without_locks_is_not_taken_for_a_busy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network disks know none."""

    def none(*_: object, blocking: bool) -> bool:
        assert not blocking
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock, "lock_descriptor", none)
    text = r": cannot be locked \(No locks available\)\. Choose an --out on a disk that knows file locks\.$"
    with pytest.raises(DiskError, match=text), one_writer(tmp_path):
        pass


def test_the_lock_names_a_long_command_in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand file names are no help to a person."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/levelground", "compare", *["x" * 50] * 20])
    assert command_line().startswith("levelground compare xxx")
    with one_writer(tmp_path):
        text = (tmp_path / ".lock").read_text(encoding="utf-8")
    assert text.endswith("x…)")
    assert len(text) < 400


def test_what_killed_processes_left_is_removed_and_what_is_written_stays(tmp_path: Path) -> None:
    """Old temporary files go; young ones, ones that are being written, and files of the user's stay."""
    old = time.time() - disk.STALE_S - 1
    run = tmp_path / "runs" / "unet-s0"
    run.mkdir(parents=True)
    for path in (tmp_path / ".a.json.x1.part.json", run / ".b.ckpt.x2.part.ckpt", run / ".c.x3.part", tmp_path / "d"):
        path.write_text("half")
        if path.name != ".c.x3.part":
            os.utime(path, (old, old))
    with atomic_path(run / "e.bin") as temporary:
        temporary.write_bytes(b"much")
        os.utime(temporary, (old, old))
        with one_writer(tmp_path):
            left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".c.x3.part", "d", ".lock", temporary.name}
    assert (run / "e.bin").read_bytes() == b"much"
    assert remove_leftovers(tmp_path / "nowhere") == 0


@pytest.fixture(params=["with the system's calls", "without them"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it is here, once as it is where ``pwrite`` and its like are missing."""
    if request.param == "without them":
        for name in ("pwrite", "preadv", "posix_fallocate"):
            monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("system")
def test_blocks_are_written_and_read_at_their_place(tmp_path: Path) -> None:
    """In any order, by several threads, with a hole of zeros between; the end of the file gives fewer bytes."""
    values = np.arange(40, dtype=np.int16).reshape(10, 4)
    handle = open_for_blocks(tmp_path / "blocks")
    try:
        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(lambda k: write_at(handle, values[k].data, 8 * k), (9, 0, 4, 3, 1, 2, 8, 7, 6)))
            assert written == [8] * 9
            found = np.full((10, 4), -1, np.int16)
            assert list(pool.map(lambda k: read_at(handle, found[k].data, 8 * k), range(10))) == [8] * 10
        np.testing.assert_array_equal(found[5], 0)
        np.testing.assert_array_equal(np.delete(found, 5, 0), np.delete(values, 5, 0))
        assert read_at(handle, found.data, 76) == 4
        np.testing.assert_array_equal(found[0], [38, 39, 2, 3])
    finally:
        os.close(handle)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("size", [1, 3 << 20, (1 << 20) + 5])
def test_room_is_set_aside_before_it_is_used(tmp_path: Path, size: int) -> None:
    """The file has its size and its blocks on the disk, and holds zeros; what does not fit is an error at once."""
    with (tmp_path / "room").open("wb") as file:
        set_room_aside(file, size)
    status = (tmp_path / "room").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 >= size
    assert not any((tmp_path / "room").read_bytes())
    with (tmp_path / "more").open("wb") as file, file_size_limit(size - 1), pytest.raises(OSError, match="too large"):
        set_room_aside(file, size)


def test_a_system_without_locks_has_one_writer_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder is named; a file that a killed process left is taken over; nothing is left in the end."""
    monkeypatch.setattr(filelock, "has_fcntl", False)
    hold = "import filelock; filelock.has_fcntl = False\n" + HOLD
    with holder(tmp_path, script=hold) as (pid, said):
        assert said == ["held"]
        with pytest.raises(BusyError, match=rf"held by process {pid} on \S+ since "), one_writer(tmp_path):
            pass
    assert (tmp_path / ".lock.pid").exists()
    with one_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_made_for_nothing_is_removed(tmp_path: Path) -> None:
    """Where the work fails before it writes anything, no folder is left; what existed or was written stays."""
    new, filled, old = tmp_path / "new", tmp_path / "filled", tmp_path / "old"
    old.mkdir()
    for folder in (new, filled, old):
        with pytest.raises(ValueError, match="no data"), one_writer(folder):
            if folder == filled:
                (folder / "dataset.json").write_text("{}")
            raise ValueError("no data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled", "old"]
    assert (filled / "dataset.json").exists()


def _tables(study: FakeStudy, out: Path) -> object:
    return write_comparison(study.comparison, out)


def _pictures(study: FakeStudy, out: Path) -> object:
    return draw_figures(study.comparison, study.folder, out, scenes=study)


def _page(study: FakeStudy, out: Path) -> object:
    return render_report(study.comparison, study.folder, out / "report.html", scenes=study)


def _benchmark_of(study: FakeStudy) -> Benchmark:
    return make_benchmark({study.folder: study.comparison, study.folder.parent / "b": study.comparison}, study.folder)


def _benchmark(study: FakeStudy, out: Path) -> object:
    return write_benchmark(_benchmark_of(study), out)


def _benchmark_page(study: FakeStudy, out: Path) -> object:
    return render_benchmark(_benchmark_of(study), out)


@pytest.mark.parametrize("write", [_tables, _pictures, _page, _benchmark, _benchmark_page])
def test_results_of_two_commands_are_written_in_turn(
    tmp_path: Path, write: Callable[[FakeStudy, Path], object]
) -> None:
    """Else a second report removes pictures that the first one is writing, and tables are of two comparisons."""
    study = build_fake_study(tmp_path / "study", archs={"unet": 0.2, "fpn": 0.3}, seeds=1, scenes=["119"], size=48)
    out = tmp_path / "new" / "out"
    with ThreadPoolExecutor(1) as pool:
        with in_turn(out, folder=True):
            second = pool.submit(write, study, out)
            with pytest.raises(TimeoutError):
                second.result(timeout=1.5)
            assert list(out.iterdir()) == []
        second.result(timeout=60)
    assert not [path for path in out.rglob("*") if "lock" in path.name]
    assert [path for path in out.rglob("*") if path.is_file()]
