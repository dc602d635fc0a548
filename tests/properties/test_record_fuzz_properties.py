"""Whatever stands in a file that levelground reads: it is read, or it is refused in one line of ours. No other end."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.runs import build_dataset as build_bare_dataset
from builders.runs import build_run, noisy_counts
from builders.scene_files import kaggle_pair, random_labels, save
from builders.study import add_run, build_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levelground.commands.compare import CompareConfig, compare
from levelground.commands.report import ReportConfig, report
from levelground.comparison.compare import compare_runs
from levelground.datasets.dataset import read_dataset
from levelground.datasets.fingerprints import cached_fingerprint, fingerprint_scene
from levelground.datasets.groups import read_groups
from levelground.datasets.splits import lists_split
from levelground.errors import LevelgroundError
from levelground.history import read_history
from levelground.imagery.cache import Cache
from levelground.imagery.legend import DEEPGLOBE, default_legend
from levelground.imagery.legend_sources import read_legend
from levelground.imagery.scene_pixels import SceneFile, read_labels
from levelground.metrics.counts import read_counts
from levelground.models.checkpoints import read_state
from levelground.recipe_files import load_recipe
from levelground.runs import read_run
from levelground.training.checkpoint import Progress, TrainingState, load_state, save_state

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=150)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def harm(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Bytes changed anywhere, a part cut out, the end cut off, or something else altogether."""
    kind = draw(st.sampled_from(["bytes", "cut", "end", "other"]))
    if kind == "other":
        other = draw(st.binary(max_size=60))
        return lambda _: other
    places = draw(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))

    def change(content: bytes) -> bytes:
        array = bytearray(content)
        if kind == "end":
            return bytes(array[: int(places[0][0] * len(array))])
        if kind == "cut":
            start = int(places[0][0] * len(array))
            return bytes(array[:start] + array[start + places[0][1] :])
        for place, value in places:
            if array:
                array[int(place * len(array))] = value
        return bytes(array)

    return change


def one_line(read: Callable[[], object]) -> None:
    """Read; an error of ours on one line is as good as success."""
    try:
        read()
    except LevelgroundError as error:
        assert str(error).strip()
        assert "\n" not in str(error)


def change_json(record: Any, path: list[float], value: Any) -> Any:
    """Put a value somewhere into a JSON tree: each number of the path chooses a branch."""
    if not path or not isinstance(record, dict | list) or not record:
        return value
    keys = list(record) if isinstance(record, dict) else list(range(len(record)))
    key = keys[int(path[0] * len(keys))]
    changed = dict(record) if isinstance(record, dict) else list(record)
    changed[key] = change_json(record[key], path[1:], value)
    return changed


PLACES = st.lists(st.floats(0, 0.999), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared study with a run in it."""
    folder = tmp_path_factory.mktemp("prepared")
    add_run(build_study(folder), "a-s0")
    return folder / "study"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluated runs and their comparison."""
    study = tmp_path_factory.mktemp("judged")
    scenes = [f"scene{i:03d}" for i in range(6)]
    build_bare_dataset(study, {"train": ["t"], "val": ["v"], "test": scenes})
    for seed, arch in enumerate(("unet", "fpn")):
        build_run(study, f"{arch}-s0", noisy_counts(6, 0.2, seed=seed), arch=arch, vals=(0.2, 0.4))
    compare(CompareConfig(runs=(study,)))
    return study


@given(change=harm())
@MANY
def test_a_harmed_data_set(prepared: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """``dataset.json``, byte by byte."""
    (tmp_path / "dataset.json").write_bytes(change((prepared / "dataset.json").read_bytes()))
    one_line(lambda: read_dataset(tmp_path))


@given(path=PLACES, value=JSON)
@MANY
def test_an_edited_data_set(prepared: Path, tmp_path: Path, path: list[float], value: Any) -> None:
    """``dataset.json`` with any JSON anywhere in it; what is accepted can be used."""
    record = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    (tmp_path / "dataset.json").write_text(json.dumps(change_json(record, path, value)), encoding="utf-8")

    def use() -> None:
        dataset = read_dataset(tmp_path)
        assert all(dataset.scene(scene).height > 0 for scene in dataset.ids("test"))
        assert len(dataset.digest()) == 64

    one_line(use)


@given(change=harm())
@FEW
def test_a_harmed_run_card(prepared: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """``run.json``, byte by byte."""
    (tmp_path / "run.json").write_bytes(change((prepared / "runs" / "a-s0" / "run.json").read_bytes()))
    one_line(lambda: read_run(tmp_path))


@given(path=PLACES, value=JSON)
@FEW
def test_an_edited_run_card_is_compared_or_refused(judged: Path, tmp_path: Path, path: list[float], value: Any) -> None:
    """``run.json`` with any JSON anywhere in it, all the way through a comparison."""
    first, second = judged / "runs" / "unet-s0", judged / "runs" / "fpn-s0"
    record = json.loads((first / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "run.json").write_text(json.dumps(change_json(record, path, value)), encoding="utf-8")
    for name in ("counts-test.npz", "history.jsonl"):
        (tmp_path / name).write_bytes((first / name).read_bytes())
    one_line(lambda: compare_runs([read_run(tmp_path), read_run(second)], allow_unlike=True))


@given(change=harm())
@MANY
def test_a_harmed_history(judged: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """``history.jsonl``, byte by byte."""
    (tmp_path / "history.jsonl").write_bytes(change((judged / "runs" / "unet-s0" / "history.jsonl").read_bytes()))
    one_line(lambda: read_history(tmp_path))


@given(lines=st.lists(st.dictionaries(st.sampled_from(["kind", "step", "val_miou", "time_s"]), JSON), max_size=4))
@FEW
def test_a_history_of_anything_is_compared_or_refused(
    judged: Path, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    """Lines whose fields hold any JSON."""
    first, second = judged / "runs" / "unet-s0", judged / "runs" / "fpn-s0"
    text = "".join(json.dumps({"kind": "val"} | line) + "\n" for line in lines)
    (tmp_path / "history.jsonl").write_text(text, encoding="utf-8")
    for name in ("counts-test.npz", "run.json"):
        (tmp_path / name).write_bytes((first / name).read_bytes())
    one_line(lambda: compare_runs([read_run(tmp_path), read_run(second)], allow_unlike=True))


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@given(change=harm())
@FEW
def test_harmed_counts(judged: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """``counts-test.npz``, byte by byte."""
    path = tmp_path / "counts-test.npz"
    path.write_bytes(change((judged / "runs" / "unet-s0" / "counts-test.npz").read_bytes()))
    one_line(lambda: read_counts(path))


@given(path=PLACES, value=JSON)
@settings(FEW, max_examples=40)
def test_an_edited_comparison_is_drawn_or_refused(judged: Path, tmp_path: Path, path: list[float], value: Any) -> None:
    """``comparison.json`` with any JSON anywhere in it, all the way to the page."""
    record = json.loads((judged / "comparison.json").read_text(encoding="utf-8"))
    (tmp_path / "comparison.json").write_text(json.dumps(change_json(record, path, value)), encoding="utf-8")
    one_line(lambda: report(ReportConfig(study=tmp_path, figures=())))


@given(change=harm(), sign=st.booleans())
@MANY
def test_a_harmed_state(tmp_path: Path, change: Callable[[bytes], bytes], sign: bool) -> None:
    """``state.ckpt``, byte by byte; with a checksum that fits the harm too, as a forger would write."""
    save_state(tmp_path, TrainingState({"w": torch.ones(3, 2)}, {}, "ab", Progress(step=3)))
    content = (tmp_path / "state.ckpt").read_bytes()
    if sign:
        body = change(content[65:])
        (tmp_path / "state.ckpt").write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    else:
        (tmp_path / "state.ckpt").write_bytes(change(content))
    one_line(lambda: load_state(tmp_path))


@given(change=harm(), suffix=st.sampled_from([".pth", ".safetensors"]))
@MANY
def test_harmed_weights(tmp_path: Path, change: Callable[[bytes], bytes], suffix: str) -> None:
    """Weights of another tool, byte by byte."""
    from safetensors.torch import save as save_tensors

    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(3, 2)}}, buffer)
    content = buffer.getvalue() if suffix == ".pth" else save_tensors({"w": torch.ones(3, 2)})
    (tmp_path / f"w{suffix}").write_bytes(change(content))
    one_line(lambda: read_state(tmp_path / f"w{suffix}"))


@given(value=JSON)
@FEW
def test_pickles_of_plain_things_for_weights(tmp_path: Path, value: Any) -> None:
    """What is no state dict, in the oldest form of torch's files."""
    (tmp_path / "w.pth").write_bytes(pickle.dumps(value, protocol=2))
    one_line(lambda: read_state(tmp_path / "w.pth"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, its cache and its fingerprint."""
    folder = tmp_path_factory.mktemp("stored")
    kaggle_pair(folder, "1", size=(9, 7))
    use_cache(folder, folder)
    return folder


def use_cache(pair: Path, folder: Path) -> None:
    """Store a pair, open it, and take its fingerprint."""
    cache = Cache(folder / "cache")
    entry = cache.store(SceneFile("1", pair / "1_sat.jpg", pair / "1_mask.png"), DEEPGLOBE)
    opened = cache.open(entry.image_key, entry.labels_key)
    make = partial(fingerprint_scene, opened.pixels, opened.labels)
    cached_fingerprint(cache.folder, entry.image_key, entry.labels_key, make)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # NumPy's, of what a harmed header looks like
@given(change=harm(), which=st.integers(0, 3))
@MANY
def test_a_harmed_cache(stored: Path, tmp_path: Path, change: Callable[[bytes], bytes], which: int) -> None:
    """Arrays, figures and fingerprints, byte by byte: what is damaged is made anew or refused."""
    files = sorted(path for path in (stored / "cache").rglob("*") if path.is_file())
    assert len(files) == 4
    for number, path in enumerate(files):
        copy = tmp_path / "cache" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(change(path.read_bytes()) if number == which else path.read_bytes())
    one_line(lambda: use_cache(stored, tmp_path))


LEGEND = (
    'name = "two"\nignored = ["000000"]\n[[class]]\nindex = 0\nname = "a"\ncolour = "8429F6"\n[[class]]\nindex = 1\n'
)
LEGEND += 'name = "b"\ncolour = [132, 41, 7]\ncounted = true\nname_ru = "Лес"\n'


@given(change=harm())
@MANY
def test_a_harmed_legend(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """A legend file, byte by byte: near enough to TOML to come far."""
    (tmp_path / "legend.toml").write_bytes(change(LEGEND.encode()))
    one_line(lambda: read_legend(tmp_path / "legend.toml"))


@given(change=harm(), text=st.text(max_size=30))
@MANY
def test_a_harmed_recipe(tmp_path: Path, change: Callable[[bytes], bytes], text: str) -> None:
    """A recipe file, byte by byte, and with any text behind it."""
    base = f'lr = 5e-4\nbatch = 3\nloss = "focal+dice"\nd4 = true\nencoder = "{text}"\n'
    (tmp_path / "mine.toml").write_bytes(change(base.encode("utf-8", "surrogatepass")))
    one_line(lambda: load_recipe(str(tmp_path / "mine.toml")))


@given(change=harm())
@MANY
def test_harmed_lists_and_groups(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """Split lists and the table of groups, byte by byte."""
    for name, content in (("train", b"a\nb_sat.jpg\n"), ("val", b"x/c.png\r\n"), ("test", b"d\n")):
        (tmp_path / f"{name}.txt").write_bytes(change(content) if name != "test" else content)
    one_line(lambda: lists_split(tmp_path, ["a", "b", "x/c", "d"]))
    (tmp_path / "groups.csv").write_bytes(change(b'id,group\na,"1"\nb,1\nx/c,2\nd,"2"\n'))
    one_line(lambda: read_groups(tmp_path / "groups.csv", ["a", "b", "x/c", "d"]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound pair, and an index mask for the same image."""
    folder = tmp_path_factory.mktemp("pair")
    kaggle_pair(folder, "1", size=(9, 7))
    save(folder / "indices.png", random_labels(9, 7, n_classes=3))
    return folder


@given(change=harm(), coding=st.sampled_from(["colour", "index"]), snap=st.integers(0, 255))
@settings(FEW, max_examples=200)
def test_a_harmed_mask(pair: Path, tmp_path: Path, change: Callable[[bytes], bytes], coding: Any, snap: int) -> None:
    """A mask file, byte by byte, decoded with its image and legend: labels of the legend, or one line."""
    name, legend = ("1_mask.png", DEEPGLOBE) if coding == "colour" else ("indices.png", default_legend(3))
    (tmp_path / "mask.png").write_bytes(change((pair / name).read_bytes()))
    scene = SceneFile("1", pair / "1_sat.jpg", tmp_path / "mask.png", coding=coding)

    def decode() -> None:
        labels = read_labels(scene, legend, snap=snap)
        assert labels.shape == (9, 7)
        assert np.isin(labels, [*range(legend.n_classes), 255]).all()

    one_line(decode)
