"""The model card: what stands in it, that its code runs, and that it is written the same each time."""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from builders.runs import LEGEND as TWO
from builders.runs import adopted_card, build_run, edit_card, noisy_counts
from builders.study import ENCODER, add_run, build_study, small_model
from builders.training import small_spec, train

from levelground.adoption.weights import adopt_weights
from levelground.comparison.compare import compare_runs
from levelground.config import WeightsOptions
from levelground.evaluation.evaluate import evaluate_run
from levelground.exporting.model_card import card_text, write_model_card
from levelground.models.build import create_network
from levelground.models.loading import load_model
from levelground.models.smp_backend import save_model
from levelground.models.spec import read_model_spec
from levelground.runs import Run, read_run
from levelground.runtime import make_runtime
from levelground.wording import language

RUNTIME = make_runtime("cpu", "fp32", threads=1)


def counted_run(study: Path, **card: Any) -> Run:
    """A run with hand-written counts of 25 scenes and an untrained network."""
    run = build_run(study, "linknet-s0", noisy_counts(25, 0.2, seed=0), arch="linknet", vals=[0.5, 0.7, 0.6], card=card)
    model = small_model((0, 1))
    save_model(model, run.model_folder)
    spec = model.spec
    return edit_card(run, in_channels=3, mean=spec.mean, std=spec.std, encoder=spec.encoder, dtype="uint8")


def text_of(run: Run) -> str:
    """The card as it stands on disk."""
    write_model_card(run)
    return (run.model_folder / "README.md").read_text(encoding="utf-8")


def test_the_five_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the card, and nothing else, loads the network and gives a class map of it."""
    run = add_run(build_study(tmp_path))
    (code,) = re.findall(r"```python\n(.*?)```", text_of(run), re.DOTALL)
    assert len(code.strip().splitlines()) == 5
    monkeypatch.chdir(run.model_folder)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    assert names["classes"].shape == (1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(names["classes"], load_model(run).network(names["image"]).argmax(1))


@pytest.mark.parametrize(("n", "outputs"), [(1, (0, 3)), (5, (0, 2, 2, 3, 3))])
def test_the_lines_of_other_outputs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, outputs: tuple[int, ...]
) -> None:
    """One output is a probability with a threshold, several outputs of one class are summed: as evaluation does it."""
    dataset = build_study(tmp_path / "study")
    state = create_network("linknet", ENCODER, 3, n).state_dict()
    state["segmentation_head.0.weight"] *= 1e6  # no pixel near the threshold
    torch.save(state, tmp_path / "w.pth")
    options = WeightsOptions(arch="linknet", encoder=ENCODER, outputs=outputs)
    run = adopt_weights(tmp_path / "w.pth", dataset, options)
    text = text_of(run)
    assert ("argmax" in text) is (n > 1)
    rows = re.findall(r"^\| (up to \.5|above \.5|\d) \| (\w+) \|", text, re.MULTILINE)
    assert [row[1] for row in rows] == [dataset.legend.names[index] for index in outputs]
    assert ("above .5" in text) is (n == 1)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(run.model_folder)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        exec(code.replace(", 512, 512", ", 64, 64"), names)
        chosen = load_model(run).network(names["image"]).argmax(1)
    indices = torch.tensor(list(dict.fromkeys(outputs)))
    found = names["classes"] if n > 1 else indices[names["classes"]]
    assert torch.equal(found, indices[chosen])


def test_a_card_says_what_it_learnt_from_and_how(tmp_path: Path) -> None:
    """Data by name, sizes and hashes; the protocol; outputs in the order of the network."""
    dataset = build_study(tmp_path)
    text = text_of(train(small_spec(dataset), dataset, dataset.folder))
    for line in (
        "| Data | data |",
        "| Scenes | 2 training, 1 validation and 3 test; random |",
        "| Recipe | default, seed 0 |",
        "| Encoder weights | none |",
        "| Tile, batch | 32 px, 2 |",
        "| Loss | ce+dice |",
        "| Pixels | 3 bands, uint8 |",
        f"`{dataset.train_sha256}`",
        f"`{dataset.split_sha256}`",
        f"`{dataset.legend.digest()}`",
        "| 1 | Wood | 00C800 | 2 |",
        "Not evaluated yet.",
        "Nothing is known of how well it does.",
        "The ground sample distance of its imagery is unknown: it may fail at another.",
    ):
        assert line in text


def test_scores_come_with_intervals_and_by_class(tmp_path: Path) -> None:
    """The figures of a comparison of this run alone."""
    from levelground.comparison.compare import compare_runs

    run = counted_run(tmp_path, gsd_m=0.5)
    text = text_of(run)
    found = compare_runs([run]).runs[0].scores["official"]
    score, interval = found.miou, found.interval
    assert interval is not None
    low, high = interval
    assert "On 25 test scenes in 25 groups, over counted classes" in text
    assert f"| mIoU | {score:.3f} | {low:.3f} to {high:.3f} |" in text
    iou, recall = (found.per_class(kind)[1] for kind in ("iou", "recall"))
    (row,) = re.findall(r"\| Rangeland \| .+ % \| .+ \|", text)
    assert [cell.strip() for cell in row.split("|")[3:7:3]] == [f"{iou:.3f}", f"{recall:.3f}"]
    assert "| Unknown |" not in text
    assert "Ground sample distance: 0.5 m a pixel." in text
    assert "sample distance of its imagery is unknown" not in text


def test_limits_are_named(tmp_path: Path) -> None:
    """Few groups, weights of another tool, pixels of no known type."""
    few = build_run(
        tmp_path / "few", "a", noisy_counts(5, 0.2, seed=0), card={"in_channels": 3, "mean": [0] * 3, "std": [1] * 3}
    )
    save_model(small_model((0, 1)), few.model_folder)
    assert "- There are only 5 groups (5 test scenes)" in text_of(few)
    assert "- The type of its pixels is unknown: the scale of its input is a guess." in text_of(few)
    adopted = counted_run(tmp_path / "adopted", **adopted_card())
    text = text_of(adopted)
    assert "How these weights were trained is not known to levelground." in text
    assert "whether training used these test scenes" in text
    assert "| Recipe |" not in text


def test_hubs_accept_its_head(tmp_path: Path) -> None:
    """Front matter in YAML, without a licence that nobody gave."""
    from huggingface_hub import ModelCard

    card = ModelCard(card_text(counted_run(tmp_path), read_model_spec(counted_run(tmp_path / "b"))))
    assert card.data.library_name == "segmentation-models-pytorch"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.license == "unknown"
    assert "land-cover" in card.data.tags


def test_a_card_is_the_same_each_time_and_names_no_folder(tmp_path: Path) -> None:
    """No time, no path: a run that was killed and resumed, or moved, has the same card; what is the same stays."""
    dataset = build_study(tmp_path)
    run = train(small_spec(dataset), dataset, dataset.folder)
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    text = text_of(run)
    assert str(tmp_path) not in text
    path = run.model_folder / "README.md"
    before = path.stat().st_mtime_ns
    write_model_card(read_run(run.folder))
    assert (path.read_text(encoding="utf-8"), path.stat().st_mtime_ns) == (text, before)
    again = build_study(tmp_path / "again")
    other = train(small_spec(again), again, again.folder)
    other = evaluate_run(other, again, "test", runtime=RUNTIME)
    assert text_of(other) == text


def test_paths_of_recipes_are_named_by_their_end(tmp_path: Path) -> None:
    """A recipe that was a file gives its name alone."""
    run = counted_run(tmp_path, recipe={"name": "/somewhere/mine.toml", "encoder": "x", "loss": "ce"})
    assert "| Recipe | mine.toml, seed 0 |" in text_of(run)


def test_a_run_of_masks_gets_no_card(tmp_path: Path) -> None:
    """Where there are no weights there is nothing to load."""
    run = build_run(tmp_path, "masks", noisy_counts(5, 0.2, seed=0), card={"outputs": []})
    write_model_card(run)
    assert not run.model_folder.exists()


def test_damaged_counts_leave_a_card_without_scores(tmp_path: Path) -> None:
    """The card is written all the same; evaluate and compare say what is wrong."""
    run = counted_run(tmp_path)
    run.counts_path("test").write_bytes(b"no counts")
    assert "Not evaluated yet." in text_of(run)


def test_the_folder_knows_itself(tmp_path: Path) -> None:
    """The model specification beside the weights is the card's."""
    from levelground.models.spec import parse_spec

    run = counted_run(tmp_path)
    write_model_card(run)
    moved = shutil.copytree(run.model_folder, tmp_path / "moved")
    found = parse_spec((moved / "levelground.json").read_text(encoding="utf-8"), source="m")
    assert found == read_model_spec(run)
    assert found.legend == TWO


def test_a_card_in_russian_holds_no_english_sentence(tmp_path: Path) -> None:
    """Headings, tables and limits are Russian; names, code and units stay, and the English card is as it was."""
    run = counted_run(tmp_path)
    spec = read_model_spec(run)
    english = card_text(run, spec)
    with language("ru"):
        russian = card_text(run, spec)
    assert card_text(run, spec) == english
    assert russian.count("\n## ") == english.count("\n## ") == 5
    prose = re.sub(r"\A---.*?---|```.*?```|`[^`]*`", "", russian, flags=re.DOTALL)
    names = r"linknet-s\d|linknet|levelground|segmentation_models_pytorch|SHA-256|mIoU|IoU|F1|px|official|uint8|p\b"
    names += r"|default|ce\+dice|adamw|cosine|torch|none|\ball\b"
    names += "|" + "|".join(entry.name for entry in TWO.classes) + r"|[\w.-]*_[\w.-]*|\b[0-9A-F]{6}\b"
    assert " ".join(re.findall(r"[A-Za-z]{2,}", re.sub(names, "", prose, flags=re.IGNORECASE))) == ""
    assert not re.search(r"\d\.\d", prose)


def test_hubs_read_scores_and_licence(tmp_path: Path) -> None:
    """The front matter is YAML with the scores of the card, to four digits, and a licence to be filled in."""
    run = counted_run(tmp_path)
    front = yaml.safe_load(card_text(run, read_model_spec(run)).split("---")[1])
    assert front["license"] == "unknown"
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == run.name
    assert (result["task"], result["dataset"]["split"]) == ({"type": "image-segmentation"}, "test")
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    scores = compare_runs([run]).runs[0].scores["official"]
    assert values == {
        "mean_iou": round(scores.overall("miou") or 0, 4),
        "f1": round(scores.overall("mf1") or 0, 4),
        "accuracy": round(scores.overall("pixel_accuracy") or 0, 4),
    }


def test_a_run_without_scores_has_no_index(tmp_path: Path) -> None:
    """Hubs show no empty table."""
    run = add_run(build_study(tmp_path))
    assert "model-index" not in card_text(run, read_model_spec(run))
