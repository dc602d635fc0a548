"""Bad records, weights, recipes and flags: how each is made, the command, and the line that it ends with."""

# ruff: noqa: E501  # the line that is expected is one line

import shlex
import shutil
from pathlib import Path

import numpy as np

from builders.bad_files import Case, Spoil, content, copy_file, cut, edit, flip, forget_cache, pickled
from builders.scene_files import save
from levelground.cli import main
from levelground.datasets.dataset import read_dataset

ENCODER = "tu-mobilenetv3_small_050"
SMALL = f"--encoder {ENCODER} --encoder-weights none --tile 32 --halo 4 --batch 2 --validations 1 --device cpu --precision fp32 --threads 1"
TRAIN = f"train study --arch linknet {SMALL} --steps 4"
EVALUATE = "evaluate study --device cpu --precision fp32 --threads 1"
RUN = "study/runs/a-s0"
TRAINED = "study/runs/linknet-mobilenetv3_small_050-s0"


def study(root: Path) -> None:
    """A prepared study with pixels on disk."""
    from builders.study import build_study

    build_study(root)


def with_run(root: Path) -> None:
    """A prepared study with a finished run in it."""
    from builders.study import add_run, build_study

    add_run(build_study(root), "a-s0")


def compared(root: Path) -> None:
    """Two evaluated runs and their comparison, without pixels."""
    from builders.runs import build_dataset, build_run, noisy_counts

    scenes = [f"scene{i:03d}" for i in range(6)]
    build_dataset(root / "study", {"train": ["t"], "val": ["v"], "test": scenes})
    for name, arch in (("a-s0", "unet"), ("b-s0", "fpn")):
        build_run(root / "study", name, noisy_counts(6, 0.2, seed=len(arch)), arch=arch, vals=(0.2, 0.4))
    assert main(["compare", str(root / "study")]) == 0


def stopped(root: Path) -> None:
    """A study with a run that was begun and not finished, for the command :data:`TRAIN`."""
    study(root)
    assert main(shlex.split(TRAIN)) == 0
    edit(f"{TRAINED}/run.json", status="stopped")(root)


def adopted_weights(root: Path) -> None:
    """A study with adopted weights in it."""
    with_run(root)
    (root / "w.safetensors").write_bytes((root / RUN / "model" / "model.safetensors").read_bytes())
    command = f"adopt w.safetensors --study study --name a --arch linknet --encoder {ENCODER}"
    assert main(shlex.split(command)) == 0
    shutil.rmtree(root / RUN)


def other_weights(root: Path) -> None:
    """Weights of another architecture in the run's folder."""
    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    network = smp.create_model("fpn", encoder_name=ENCODER, encoder_weights=None, classes=3)
    save_file(network.state_dict(), root / RUN / "model" / "model.safetensors")


def masks_of(**changes: object) -> Spoil:
    """A folder of predicted masks; a change is an array in place of a mask, or None for no mask."""

    def write(root: Path) -> None:
        dataset = read_dataset(root / "study")
        for scene in dataset.ids("test"):
            size = dataset.scene(scene).height, dataset.scene(scene).width
            mask = changes.get(scene.replace("/", ""), np.zeros(size, np.uint8))
            if mask is not None:
                save(root / "masks" / f"{scene}.png", mask)  # type: ignore[arg-type]

    return write


ADOPT = "adopt --study study"
RUNS = {
    "a checkpoint of another arch": Case(
        with_run,
        other_weights,
        r"WeightsError: \S+runs/a-s0/model: lacks \S+, which the network needs\. Give weights of this very network\.",
        EVALUATE,
    ),
    "a run of another legend": Case(
        with_run,
        edit(f"{RUN}/run.json", legend_sha256="0" * 64),
        r"UnlikeError: a-s0: learnt another legend than 'land' of study\. Evaluate it on the data it was trained on, or train it anew\.",
        EVALUATE,
    ),
    "a run of other scenes": Case(
        with_run,
        edit(f"{RUN}/run.json", train_sha256="0" * 64),
        r"UnlikeError: a-s0: learnt from other scenes or labels than .+",
        EVALUATE,
    ),
    "a run of other bands": Case(
        with_run,
        edit(f"{RUN}/run.json", in_channels=4),
        r"ModelError: a-s0: reads 4 bands, the scenes have 3\. .+",
        EVALUATE,
    ),
    "weights cut short": Case(
        with_run,
        cut(f"{RUN}/model/model.safetensors"),
        r"WeightsError: \S+model\.safetensors: unreadable weights \(.+\)\. It is cut short: fetch or copy it again\.",
        EVALUATE,
    ),
    "weights of another arch, adopted": Case(
        with_run,
        other_weights,
        r"WeightsError: \S*model\.safetensors: .+",
        f"{ADOPT} {RUN}/model/model.safetensors --arch unet --encoder {ENCODER}",
    ),
    "a pickle with code in it for weights": Case(
        study,
        pickled("w.pth"),
        r"WeightsError: w\.pth: no plain weights \(.+\)\. Save the state_dict alone, or as \.safetensors: .+",
        f"{ADOPT} w.pth",
    ),
    "a pickle with code in it for encoder weights": Case(
        study,
        pickled("w.pth"),
        r"WeightsError: w\.pth: no plain weights \(.+\)\. .+",
        TRAIN + " --encoder-weights w.pth",
    ),
    "a pickle with code in it for a training state": Case(
        stopped,
        pickled(f"{TRAINED}/state.ckpt", checksum=True),
        r"RecordError: \S+state\.ckpt: unsafe or unreadable training state \(.+\)\. No sound state is left: remove \S+ and train anew\.",
        TRAIN,
        (f"{TRAINED}/run.json",),
    ),
    "a run card of a newer schema": Case(
        with_run,
        edit(f"{RUN}/run.json", schema=2),
        r"RecordError: \S+run\.json: run record of schema 2, this version reads 1\. Use the levelground that wrote it, or make the record anew\.",
        EVALUATE,
    ),
    "a run card with a number for a text": Case(
        with_run,
        edit(f"{RUN}/run.json", arch=3),
        r"RecordError: \S+run\.json: arch: Input should be a valid string\. Make the run anew\.",
        EVALUATE,
    ),
    "a run whose name leaves its folder": Case(
        with_run,
        edit(f"{RUN}/run.json", name="../../x"),
        r"RecordError: \S+run\.json: name: String should match pattern .+\. Make the run anew\.",
        EVALUATE,
    ),
    "a data set of a newer schema": Case(
        with_run,
        edit("study/dataset.json", schema=2),
        r"RecordError: study/dataset\.json: dataset record of schema 2, this version reads 1\. .+",
        TRAIN,
    ),
    "a data set cut short": Case(
        with_run,
        cut("study/dataset.json"),
        r"RecordError: study/dataset\.json: unreadable dataset record \(.+\)\. Run levelground prepare again\.",
        TRAIN,
    ),
    "an edited split": Case(
        with_run,
        edit("study/dataset.json", split={"train": ["a/1"], "val": ["b/1"], "test": ["c/1"]}),
        r"RecordError: study/dataset\.json: the split was changed after it was written\. Run prepare again\.",
        EVALUATE,
    ),
    "a cache that is gone": Case(
        with_run,
        forget_cache,
        r"RecordError: \S+\.npy: cached scene is missing or damaged\. Run levelground prepare again\.",
        EVALUATE,
    ),
    "a cache that is gone, met by loaders": Case(
        study,
        forget_cache,
        r"RecordError: \S+\.npy: cached scene is missing or damaged\. Run levelground prepare again\.",
        TRAIN + " --workers 2",
        (f"{TRAINED}/run.json", f"{TRAINED}/history.jsonl"),
    ),
    "no such run": Case(
        with_run,
        None,
        r"MissingRecordError: study/runs/b/run\.json: no such record; expected a run written by levelground\. Give .+",
        EVALUATE + " --runs b",
    ),
    "a mask that was not predicted": Case(
        study,
        masks_of(c2=None),
        r"SceneError: masks: no prediction for 1 of 3 test scenes, the first is 'c/2'\. Name it c/2\.png, or give the pattern .+",
        f"{ADOPT} --predictions masks",
    ),
    "a predicted mask of another size": Case(
        study,
        masks_of(b2=np.zeros((9, 9), np.uint8)),
        r"SceneError: masks/b/2\.png: mask has 9 × 9 pixels, scene b/2 31 × 33 \(width × height\)\. .+",
        f"{ADOPT} --predictions masks",
    ),
    "weights and masks at once": Case(
        study,
        None,
        r"ConfigError: give either a file of weights or --predictions FOLDER, and not both\.",
        f"{ADOPT} w.pth --predictions masks",
    ),
    "a name that leaves the study": Case(
        study,
        masks_of(),
        r"ConfigError: --name \.\./x: not a name for a folder\. .+",
        f"{ADOPT} --predictions masks --name ../x",
    ),
    "counts cut short": Case(
        compared,
        cut(f"{RUN}/counts-test.npz"),
        r"RecordError: \S+counts-test\.npz: is not what was counted for a-s0: it was changed, or copied from another run\. Count the "
        r"scenes anew with levelground evaluate\.",
        "compare study",
    ),
    "a pickle with code in it for counts": Case(
        compared,
        pickled(f"{RUN}/counts-test.npz"),
        r"RecordError: \S+counts-test\.npz: is not what was counted for a-s0: it was changed, or copied from another run\. Count the "
        r"scenes anew with levelground evaluate\.",
        "compare study",
    ),
    "counts of another run": Case(
        compared,
        copy_file("study/runs/b-s0/counts-test.npz", f"{RUN}/counts-test.npz"),
        r"RecordError: \S+counts-test\.npz: is not what was counted for a-s0: it was changed, or copied from another run\. Count the "
        r"scenes anew with levelground evaluate\.",
        "compare study",
    ),
    "a run card with a changed byte": Case(
        compared,
        flip(f"{RUN}/run.json", b'"fp32"'),
        r"RecordError: \S+run\.json: was changed after it was written \(its checksum does not fit\)\. Restore it from a copy, or make "
        r"the run anew; or remove its last key, sha256, if you changed it on purpose\.",
        "compare study",
    ),
    "a history with a changed byte": Case(
        compared,
        flip(f"{RUN}/history.jsonl", b'"val_miou"'),
        r"RecordError: \S+history\.jsonl: line 1 was changed after it was written \(its checksum does not fit\)\. Remove the line\.",
        "compare study",
    ),
    "weights with a changed byte": Case(
        adopted_weights,
        flip("study/runs/a/model/model.safetensors"),
        r"WeightsError: \S+model\.safetensors: is not the file that a ended with: it was changed or exchanged\. Restore it from a copy, "
        r"or adopt the weights anew\.",
        EVALUATE,
    ),
    "no run to compare": Case(
        study,
        None,
        r"RecordError: study: no run\.json and no runs/ in it\. Give a run folder or a study folder\.",
        "compare study",
    ),
    "a comparison of a newer schema": Case(
        compared,
        edit("study/comparison.json", schema=9),
        r"RecordError: study/comparison\.json: comparison record of schema 9, this version reads 1\. .+",
        "report study",
    ),
    "a comparison with half of its keys": Case(
        compared,
        edit("study/comparison.json", runs=None, pairs=3),
        r"RecordError: study/comparison\.json: runs: Input should be a valid array\. Run `levelground compare` again\.",
        "report study",
    ),
    "a damaged line of history": Case(
        compared,
        content(f"{RUN}/history.jsonl", '{"step": 1}\n{"ste\n{"step": 3}\n'),
        r"RecordError: \S+history\.jsonl: line 2 is not a JSON object .+\. Remove the line\.",
        "compare study",
    ),
}

RECIPE = TRAIN + " --recipe mine.toml"
FLAGS = {
    "an unknown recipe key": Case(
        study,
        content("mine.toml", "learning_rate = 1\n"),
        r"ConfigError: mine\.toml: unknown recipe key 'learning_rate'\. Known keys: name, encoder, .+",
        RECIPE,
    ),
    "a recipe value out of range": Case(
        study,
        content("mine.toml", "lr = 11\n"),
        r"ConfigError: mine\.toml: lr = 11 should be less than or equal to 10\. Mend the recipe\.",
        RECIPE,
    ),
    "a recipe value of another type": Case(
        study,
        content("mine.toml", 'batch = "many"\n'),
        r"ConfigError: mine\.toml: batch = 'many' should be a valid integer, .+\. Mend the recipe\.",
        RECIPE,
    ),
    "a recipe that is not TOML": Case(
        study, content("mine.toml", "lr = "), r"ConfigError: mine\.toml: no TOML \(.+\)\. Mend the file\.", RECIPE
    ),
    "a recipe that is no text": Case(
        study,
        content("mine.toml", b"\xff\0"),
        r"ConfigError: mine\.toml: unreadable recipe \(.+\)\. Give a UTF-8 TOML file\.",
        RECIPE,
    ),
    "a recipe that is not there": Case(
        study,
        None,
        r"ConfigError: --recipe mine\.toml: no such recipe\. Give default, origin or the path of a \.toml\.",
        RECIPE,
    ),
    "--steps 0": Case(
        study,
        None,
        r"ConfigError: --steps 0: should be greater than or equal to 1\. See levelground train --help-all\.",
        TRAIN + " --steps 0",
    ),
    "two budgets": Case(
        study,
        None,
        r"ConfigError: train: give one of --steps, --epochs and --minutes, not --steps and --minutes\. .+",
        TRAIN + " --minutes 1",
    ),
    "a seed below zero": Case(
        study, None, r"ConfigError: --seed -1: should be greater than or equal to 0\. .+", TRAIN + " --seed -1"
    ),
    "--save-every 0": Case(
        study, None, r"ConfigError: --save-every 0\.0: should be greater than 0\. .+", TRAIN + " --save-every 0"
    ),
    "a tile of 40": Case(
        study, None, r"ModelError: --tile 40: not a multiple of 32\. Give --tile 32\.", TRAIN + " --tile 40"
    ),
    "an unknown architecture": Case(
        study, None, r"ModelError: unett: no such architecture\. Known: unet, .+", TRAIN + " --arch unett"
    ),
    "an unknown encoder": Case(
        study,
        None,
        r"ModelError: linknet with encoder resnet19: cannot be built \(no such encoder\)\. Near: .+",
        TRAIN + " --encoder resnet19",
    ),
    "a metric that is none": Case(compared, None, r"ConfigError: .*offical.*", "compare study --metric offical.miou"),
    "an unknown command": Case(
        None, None, r"ConfigError: trian: no such command\. The nearest is train\. Commands: .+", "trian study"
    ),
    "a study that is not prepared": Case(
        None,
        lambda root: (root / "study").mkdir(),
        r"MissingRecordError: study/dataset\.json: no such record; expected a dataset written by levelground\. .+",
        TRAIN,
    ),
}
