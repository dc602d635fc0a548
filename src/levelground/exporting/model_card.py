"""Model card of a run, ``model/README.md``, for readers who have the weights without the study.

It is a pure function of the run's card, its counts and the study's data set: written again it has the same bytes, and
it names no time and no folder of this machine.
"""

from pathlib import Path

from levelground.comparison.compare import compare_runs
from levelground.comparison.record import Comparison
from levelground.comparison.text import MISSING, between, count_of, listing, per_cent, score, weights_kept
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import LevelgroundError
from levelground.escaping import escape_markdown, visible
from levelground.imagery.legend import hex_colour
from levelground.metrics.named import METRICS, class_kinds, overall_metrics
from levelground.models.own_networks import is_own
from levelground.models.smp_backend import read_smp_config
from levelground.models.spec import (
    ONNX_FILE,
    SCRIPT_FILE,
    SPEC_FILE,
    ModelSpec,
    model_file,
    read_model_spec,
    replace_text,
    write_spec,
)
from levelground.records import HASHES_FILE, keep_hashes
from levelground.runs import Run

FRONT = """---
{library}pipeline_tag: image-segmentation
tags:
{tags}- semantic-segmentation
- land-cover
- remote-sensing
---
"""
"""Metadata for model hubs. No licence: it follows the training data, which only their owner knows."""

LIMITS = (
    "one_group",
    "few_groups",
    "unknown_protocol",
    "split_separates_groups",
    "one_raster",
    "still_learning",
    "confused_most",
    "never_predicted",
)
"""Findings about one run that its user should know, by code."""


def write_model_card(run: Run) -> None:
    """Write ``model/README.md`` of a run, and beside it the model specification that makes the folder work on its own.

    Args:
        run: The run; one without weights (adopted masks) gets none, nor one that was trained on another data set.
    Raises:
        DiskError: They cannot be written.
    """
    trained_here = run.card.transferred_from is None  # else the card beside the original holds
    if not model_file(run).exists() or not run.card.outputs or not trained_here:
        return
    spec = read_model_spec(run)
    text, path = card_text(run, spec), run.model_folder / "README.md"
    write_spec(spec, run.model_folder / SPEC_FILE)
    replace_text(path, text)
    hashes, weights = run.model_folder / HASHES_FILE, model_file(run)
    others = [] if hashes.exists() else [file for file in run.model_folder.iterdir() if file not in (hashes, weights)]
    keep_hashes(hashes, {path, run.model_folder / SPEC_FILE, *others})


def card_text(run: Run, spec: ModelSpec) -> str:
    """Write the text of a run's model card.

    Args:
        run: The run; evaluated or not.
        spec: The specification of its model.
    """
    dataset, comparison = _dataset(run), _scores(run)
    parts = [
        _front(run) + f"# {escape_markdown(run.name)}",
        _summary(run, spec),
        *_loading(run, spec),
        *_outputs(run, spec),
        *_training(run, spec, dataset),
        *_evaluation(comparison),
        *_limits(spec, comparison),
    ]
    return "\n\n".join(parts) + "\n"


def _dataset(run: Run) -> Dataset | None:
    """Read the data set that the run was trained on, if it is unchanged."""
    try:
        dataset = read_dataset(run.study)
    except LevelgroundError:
        return None
    return dataset if run.card.train_sha256 == dataset.train_sha256 else None


def _scores(run: Run) -> Comparison | None:
    """Compare the run alone, on test where it was scored there, else on validation."""
    for split in ("test", "val"):
        if run.counts_path(split).exists():
            try:
                return compare_runs([run], split=split)
            except LevelgroundError:  # damaged counts; evaluate and compare say so, a card is none the worse
                continue
    return None


def _front(run: Run) -> str:
    """Write the metadata for model hubs: the library that loads the model, where there is one."""
    library = "segmentation-models-pytorch"
    if _program(run) is not None or (is_own(run.arch) and not run.arch.startswith("hf:")):
        return FRONT.format(library="", tags="")
    if run.arch.startswith("hf:"):
        library = "transformers"
    return FRONT.format(library=f"library_name: {library}\n", tags=f"- {library}\n")


def _program(run: Run) -> str | None:
    """Return the format of a run's whole network; ``None`` where it has weights."""
    return {ONNX_FILE: "ONNX", SCRIPT_FILE: "TorchScript"}.get(model_file(run).name)


def _summary(run: Run, spec: ModelSpec) -> str:
    arch, encoder = (visible(name).replace("`", "'").replace("\n", " ") for name in (run.arch, run.encoder))
    words = f"`{arch}` with encoder `{encoder}` of segmentation_models_pytorch"
    if arch == "unknown":
        words = "a network of unknown architecture"
    elif is_own(run.arch):
        words = f"`{arch}`, " + ("of transformers" if arch.startswith("hf:") else "of its own code")
    program = _program(run)
    if program is not None:
        words += f", a whole network in {program}"
    counts = f"{count_of(spec.bands, 'band')} in, {count_of(len(spec.outputs), 'class', 'classes')} out"
    if program is not None:
        made = "It was adopted by levelground as it is."
    else:
        made = "Its weights were adopted by levelground." if run.adopted else "Trained by levelground."
    return f"Land-cover segmentation: {words}, {counts}. {made}"


def _loading(run: Run, spec: ModelSpec) -> list[str]:
    """Write five lines of Python that load the model and run it; a test runs them."""
    side = spec.geometry.tile or 512
    if _program(run) is not None:
        return _loading_program(run, spec)
    if is_own(spec.arch):
        return _loading_own(spec)
    mean, std = ([round(value, 6) for value in values] for values in (spec.mean, spec.std))
    lines = [
        "import segmentation_models_pytorch as smp, torch",
        'model = smp.from_pretrained(".").eval()  # the folder of this file',
        f"image = torch.randint(0, 256, (1, {spec.bands}, {side}, {side})).float()  # stored values, "
        f"{spec.dtype or 'type unknown'}",
        f"image = (image - torch.tensor({mean})[:, None, None]) / torch.tensor({std})[:, None, None]",
        *_decision(run, spec),
    ]
    scale = "unknown" if spec.gsd_m is None else f"{spec.gsd_m:g} m a pixel"
    return [
        "## Load it",
        "```python\n" + "\n".join(lines) + "\n```",
        "Or run it over whole rasters, normalisation and tiles included: `levelground predict` takes this folder. "
        f"Tiles of {side} px; height and width are multiples of 32. Ground sample distance: {scale}.",
    ]


def _decision(run: Run, spec: ModelSpec) -> list[str]:
    """Write the lines of Python that turn logits into classes: numbers of the table of outputs."""
    if _single(run):
        return ["classes = (model(image).sigmoid()[:, 0] > 0.5).long()  # (1, height, width), rows of the table below"]
    if spec.outputs == run.card.outputs:
        return ["classes = model(image).argmax(1)  # (1, height, width), numbers of the table below"]
    members = [[n for n, other in enumerate(run.card.outputs) if other == index] for index in spec.outputs]
    return [
        "probabilities = model(image).softmax(1)  # several outputs are one class",
        f"sums = [probabilities[:, members].sum(1) for members in {members}]",
        f"classes = torch.tensor({list(spec.outputs)})[torch.stack(sums, 1).argmax(1)]  # indices in the legend",
    ]


def _single(run: Run) -> bool:
    """Tell whether a run's network has one output, the probability of the second of two classes."""
    config = read_smp_config(run.model_folder)
    return config is not None and config.n_outputs == 1 and _program(run) is None


def _loading_program(run: Run, spec: ModelSpec) -> list[str]:
    """Write how to run a whole network."""
    side, file = spec.geometry.tile or 512, model_file(run).name
    runs = "onnxruntime runs it" if file == ONNX_FILE else "`torch.jit.load` opens it"
    mean, std = ([round(value, 6) for value in values] for values in (spec.mean, spec.std))
    only = f"It takes tiles of {side} px only." if spec.fixed_tile else f"Tiles of {side} px."
    return [
        "## Load it",
        f"`{file}` is the whole network, as it was adopted; {runs}. Its input is (stored value − mean) / deviation, "
        f"with means {mean} and deviations {std}. `levelground predict` runs the folder of the run over "
        f"rasters. {only}",
    ]


def _loading_own(spec: ModelSpec) -> list[str]:
    """Write how to load a model that segmentation_models_pytorch does not have."""
    arch = visible(spec.arch).replace("`", "'").replace("\n", " ")
    code = "" if arch.startswith("hf:") else f" --code {arch}"
    return [
        "## Load it",
        "`model.safetensors` holds the weights under the network's own names; code or configuration lie beside it. "
        f"Normalisation and classes are in `{SPEC_FILE}`. `levelground predict RUN IMAGES{code}` runs it over rasters.",
    ]


def _outputs(run: Run, spec: ModelSpec) -> list[str]:
    single = _single(run)
    classes = [spec.legend.classes[index] for index in run.card.outputs]
    numbers = ["up to .5", "above .5"] if single else [str(number) for number in range(len(classes))]
    rows = [
        f"| {number} | {escape_markdown(c.name)} | {hex_colour(c.colour)} | {c.index} |"
        for number, c in zip(numbers, classes, strict=True)
    ]
    head = "probability" if single else "output"
    texts = [_table(f"| {head} | class | colour | index in the legend |", "|---:|---|---|---:|", rows)]
    if single:
        texts.append("The network has one output; a sigmoid makes it the probability of the second class.")
    elif spec.outputs != run.card.outputs:
        texts.append("The probabilities of outputs of one class are summed.")
    return ["## Outputs", *texts]


def _training(run: Run, spec: ModelSpec, dataset: Dataset | None) -> list[str]:
    rows = [*_data_rows(run, dataset), *_recipe_rows(run)]
    rows.append(("Pixels", f"{count_of(spec.bands, 'band')}, {spec.dtype or 'type unknown'}"))
    rows += [
        (words, f"`{digest}`")
        for words, digest in (
            ("SHA-256 of training and validation scenes, labels and legend", run.card.train_sha256),
            ("SHA-256 of the split", run.card.split_sha256),
            ("SHA-256 of the legend", run.card.legend_sha256),
        )
        if digest
    ]
    lines = [f"| {words} | {value} |" for words, value in rows]
    text = "How these weights were trained is not known to levelground. " if run.adopted else ""
    return ["## Training", *([text.strip()] if text else []), _table("| what | value |", "|---|---|", lines)]


def _data_rows(run: Run, dataset: Dataset | None) -> list[tuple[str, str]]:
    if dataset is None:
        return []
    split = dataset.split
    sizes = [f"{len(split.train)} training", f"{len(split.val)} validation", f"{len(split.test)} test"]
    rule = split.text or split.rule
    return [("Data", escape_markdown(dataset.data.name)), ("Scenes", escape_markdown(f"{listing(sizes)}; {rule}"))]


def _recipe_rows(run: Run) -> list[tuple[str, str]]:
    """List the training protocol from the run card; paths that a user gave are named by their last part."""
    card, recipe = run.card, run.card.recipe
    if recipe is None:
        return []
    started = card.initial_weights
    if started is None:
        start = ("Encoder weights", str(card.encoder_weights))
    else:
        of = f" of {started.study}" if started.study else ""
        start = ("Starts from", f"{started.name}{of}, SHA-256 {started.sha256}")
    megapixels = f", {card.megapixels_seen:.3g} megapixels seen" if card.megapixels_seen else ""
    rows = [
        ("Recipe", f"{Path(recipe.name).name}, seed {card.seed}"),
        start,
        ("Tile, batch", f"{recipe.tile} px, {recipe.batch}"),
        ("Loss", recipe.loss),
        ("Optimiser", f"{recipe.optimiser}, learning rate {recipe.lr}, {recipe.schedule}"),
        ("Steps", f"{card.steps_done}{megapixels}"),
    ]
    if card.selection.step is not None:
        rows.append(("Weights kept", weights_kept(card.selection)))
    made = [f"{name} {card.versions[name]}" for name in ("levelground", "torch") if name in card.versions]
    if card.versions:
        rows.append(("Made with", ", ".join(made)))
    return [(words, escape_markdown(value)) for words, value in rows if "None" not in value]


def _evaluation(comparison: Comparison | None) -> list[str]:
    """Write scores with 95 % intervals over groups of scenes, and the table by class."""
    if comparison is None:
        return ["## Scores", "Not evaluated yet."]
    run = comparison.runs[0]
    found, boundary = run.scores["official"], run.boundary
    split = {"test": "test", "val": "validation"}[comparison.split]
    where = f"{count_of(len(comparison.scenes), f'{split} scene')} in {count_of(comparison.n_groups, 'group')}"
    rows = [
        f"| {METRICS[one.kind].words} | {score(found.overall(one.kind))} | "
        f"{between(found.interval) if one.kind == 'miou' else MISSING} |"
        for one in overall_metrics("official", columns=True)
    ]
    if boundary is not None:
        distance = f"boundary IoU, {boundary.distance_px} px"
        rows.append(f"| {distance} | {score(boundary.mean)} | {between(boundary.interval)} |")
    shares = comparison.truth.class_share
    by_class = [
        f"| {escape_markdown(c.name)} | {per_cent(shares[k])} | "
        + " | ".join(score(found.per_class(kind)[k]) for kind in class_kinds("official"))
        + " |"
        for k, c in enumerate(comparison.legend.classes)
        if c.counted
    ]
    head = " | ".join(["| class | share of pixels", *(METRICS[kind].words for kind in class_kinds("official"))]) + " |"
    return [
        "## Scores",
        f"On {where}, over counted classes, from pixels summed over scenes (scoring: official).",
        _table("| score | value | 95 % interval |", "|---|---:|---:|", rows),
        _table(head, "|---|---:|" + "---:|" * len(class_kinds("official")), by_class),
    ]


def _limits(spec: ModelSpec, comparison: Comparison | None) -> list[str]:
    texts = [finding.text for finding in comparison.findings if finding.code in LIMITS] if comparison else []
    if comparison is None:
        texts.append("Nothing is known of how well it does.")
    if spec.gsd_m is None:
        texts.append("The ground sample distance of its imagery is unknown: it may fail at another.")
    if spec.dtype is None:
        texts.append("The type of its pixels is unknown: the scale of its input is a guess.")
    texts.append("Other places, seasons and sensors than those of its scenes were not tried.")
    return ["## Limits", "\n".join(f"- {escape_markdown(text)}" for text in texts)]


def _table(head: str, rule: str, rows: list[str]) -> str:
    return "\n".join([head, rule, *rows])
