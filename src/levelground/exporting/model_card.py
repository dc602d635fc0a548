"""Model card of a run, ``model/README.md``, for readers who have the weights without the study.

It is a pure function of the run's card, its counts and the study's data set: written again it has the same bytes, and
it names no time and no folder of this machine. It is written in the current language.
"""

import json
from pathlib import Path

from levelground.comparison.compare import compare_runs, in_current_language
from levelground.comparison.record import Comparison
from levelground.comparison.text import MISSING, between, listing, metric_words, per_cent, recorded, score, weights_kept
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import LevelgroundError, MissingRecordError
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
from levelground.wording import current_language, decimal, gettext, ngettext, npgettext, pgettext, whole

FRONT = """---
license: unknown
{library}pipeline_tag: image-segmentation
tags:
{tags}- semantic-segmentation
- land-cover
- remote-sensing
{index}---
"""
"""Metadata for model hubs. The licence follows the training data, which only their owner knows."""

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
        _front(run, dataset, comparison) + f"# {escape_markdown(run.name)}",
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
    except MissingRecordError:
        return None
    return dataset if run.card.train_sha256 == dataset.train_sha256 else None


def _scores(run: Run) -> Comparison | None:
    """Compare the run alone, on test where it was scored there, else on validation."""
    for split in ("test", "val"):
        if run.counts_path(split).exists():
            try:
                return in_current_language(compare_runs([run], split=split))
            except LevelgroundError:  # damaged counts; evaluate and compare say so, a card is none the worse
                continue
    return None


def _front(run: Run, dataset: Dataset | None, comparison: Comparison | None) -> str:
    """Write the metadata for model hubs: the library that loads the model, where there is one, and its scores."""
    library, index = "segmentation-models-pytorch", _index(run, dataset, comparison)
    if _program(run) is not None or (is_own(run.arch) and not run.arch.startswith("hf:")):
        return FRONT.format(library="", tags="", index=index)
    if run.arch.startswith("hf:"):
        library = "transformers"
    return FRONT.format(library=f"library_name: {library}\n", tags=f"- {library}\n", index=index)


def _index(run: Run, dataset: Dataset | None, comparison: Comparison | None) -> str:
    """Write the scores as hubs read them (``model-index``); nothing where the run was not scored."""
    if comparison is None:
        return ""
    found = comparison.runs[0].scores["official"]
    scores = {
        "mean_iou": found.overall("miou"),
        "f1": found.overall("mf1"),
        "accuracy": found.overall("pixel_accuracy"),
    }
    name = json.dumps(dataset.data.name if dataset else "unknown", ensure_ascii=False)  # JSON is YAML too
    rows = [f"    - type: {kind}\n      value: {value:.4f}" for kind, value in scores.items() if value is not None]
    lines = [
        "model-index:",
        f"- name: {json.dumps(run.name, ensure_ascii=False)}",
        "  results:",
        "  - task:",
        "      type: image-segmentation",
        "    dataset:",
        f"      name: {name}",
        "      type: other",
        f"      split: {comparison.split}",
        "    metrics:",
        *rows,
    ]
    return "\n".join(lines) + "\n" if rows else ""


def _program(run: Run) -> str | None:
    """Return the format of a run's whole network; ``None`` where it has weights."""
    return {ONNX_FILE: "ONNX", SCRIPT_FILE: "TorchScript"}.get(model_file(run).name)


def _summary(run: Run, spec: ModelSpec) -> str:
    arch, encoder = (visible(name).replace("`", "'").replace("\n", " ") for name in (run.arch, run.encoder))
    if arch == "unknown":
        words = gettext("a network of unknown architecture")
    elif arch.startswith("hf:"):
        words = gettext("%(arch)s, of transformers", arch=f"`{arch}`")
    elif is_own(run.arch):
        words = gettext("%(arch)s, of its own code", arch=f"`{arch}`")
    else:
        words = gettext(
            "%(arch)s with encoder %(encoder)s of segmentation_models_pytorch", arch=f"`{arch}`", encoder=f"`{encoder}`"
        )
    program = _program(run)
    if program is not None:
        words = gettext("%(network)s, a whole network in %(form)s", network=words, form=program)
        made = gettext("It was adopted by levelground as it is.")
    elif run.adopted:
        made = gettext("Its weights were adopted by levelground.")
    else:
        made = gettext("Trained by levelground.")
    summary = gettext(
        "Land-cover segmentation: %(network)s, %(bands)s in, %(classes)s out.",
        network=words,
        bands=ngettext("%(n)s band", "%(n)s bands", spec.bands),
        classes=ngettext("%(n)s class", "%(n)s classes", len(spec.outputs)),
    )
    return f"{summary} {made}"


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
    if spec.gsd_m is None:
        scale = gettext("Ground sample distance: unknown.")
    else:
        scale = gettext("Ground sample distance: %(gsd)s m a pixel.", gsd=decimal(f"{spec.gsd_m:g}"))
    text = gettext(
        "Or run it over whole rasters, normalisation and tiles included: `levelground predict` takes this folder. "
        "Tiles of %(side)s px; height and width are multiples of 32.",
        side=str(side),
    )
    return [_heading(gettext("Load it")), "```python\n" + "\n".join(lines) + "\n```", f"{text} {scale}"]


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
    return config is not None and config.n_outputs == 1 and len(run.card.outputs) == 2 and _program(run) is None


def _loading_program(run: Run, spec: ModelSpec) -> list[str]:
    """Write how to run a whole network."""
    side, file = spec.geometry.tile or 512, model_file(run).name
    mean, std = ([round(value, 6) for value in values] for values in (spec.mean, spec.std))
    if file == ONNX_FILE:
        what = gettext("`%(file)s` is the whole network, as it was adopted; onnxruntime runs it.", file=file)
    else:
        what = gettext("`%(file)s` is the whole network, as it was adopted; `torch.jit.load` opens it.", file=file)
    values = gettext(
        "Its input is (stored value − mean) / deviation, with means %(mean)s and deviations %(std)s.",
        mean=str(mean),
        std=str(std),
    )
    runs = gettext("`levelground predict` runs the folder of the run over rasters.")
    if spec.fixed_tile:
        only = gettext("It takes tiles of %(side)s px only.", side=str(side))
    else:
        only = gettext("Tiles of %(side)s px.", side=str(side))
    return [_heading(gettext("Load it")), f"{what} {values} {runs} {only}"]


def _loading_own(spec: ModelSpec) -> list[str]:
    """Write how to load a model that segmentation_models_pytorch does not have."""
    arch = visible(spec.arch).replace("`", "'").replace("\n", " ")
    code = "" if arch.startswith("hf:") else f" --code {arch}"
    text = gettext(
        "`model.safetensors` holds the weights under the network's own names; code or configuration lie beside it. "
        "Normalisation and classes are in `%(file)s`. `levelground predict RUN IMAGES%(code)s` runs it over rasters.",
        file=SPEC_FILE,
        code=code,
    )
    return [_heading(gettext("Load it")), text]


def _outputs(run: Run, spec: ModelSpec) -> list[str]:
    single = _single(run)
    legend = spec.legend.in_language(current_language())
    classes = [legend.classes[index] for index in run.card.outputs]
    halves = [gettext("up to .5"), gettext("above .5")]
    numbers = halves if single else [str(number) for number in range(len(classes))]
    rows = [
        f"| {number} | {escape_markdown(c.name)} | {hex_colour(c.colour)} | {c.index} |"
        for number, c in zip(numbers, classes, strict=True)
    ]
    head = gettext("probability") if single else gettext("output")
    titles = (head, gettext("class"), gettext("colour"), gettext("index in the legend"))
    texts = [_table(f"| {' | '.join(titles)} |", "|---:|---|---|---:|", rows)]
    if single:
        texts.append(gettext("The network has one output; a sigmoid makes it the probability of the second class."))
    elif spec.outputs != run.card.outputs:
        texts.append(gettext("The probabilities of outputs of one class are summed."))
    return [_heading(gettext("Outputs")), *texts]


def _training(run: Run, spec: ModelSpec, dataset: Dataset | None) -> list[str]:
    rows = [*_data_rows(run, dataset), *_recipe_rows(run)]
    bands = ngettext("%(n)s band", "%(n)s bands", spec.bands)
    dtype = spec.dtype or gettext("type unknown")
    rows.append((gettext("Pixels"), f"{bands}, {dtype}"))
    rows += [
        (words, f"`{digest}`")
        for words, digest in (
            (gettext("SHA-256 of training and validation scenes, labels and legend"), run.card.train_sha256),
            (gettext("SHA-256 of the split"), run.card.split_sha256),
            (gettext("SHA-256 of the legend"), run.card.legend_sha256),
        )
        if digest
    ]
    lines = [f"| {words} | {value} |" for words, value in rows]
    text = [gettext("How these weights were trained is not known to levelground.")] if run.adopted else []
    head = " | ".join([gettext("what"), gettext("value")])
    return [_heading(gettext("Training")), *text, _table(f"| {head} |", "|---|---|", lines)]


def _data_rows(run: Run, dataset: Dataset | None) -> list[tuple[str, str]]:
    if dataset is None:
        return []
    split = dataset.split
    sizes = [
        gettext("%(n)s training", n=whole(len(split.train))),
        gettext("%(n)s validation", n=whole(len(split.val))),
        gettext("%(n)s test", n=whole(len(split.test))),
    ]
    scenes = f"{listing(sizes)}; {recorded(split.text) or split.rule}"
    return [
        (gettext("Data"), escape_markdown(dataset.data.name)),
        (gettext("Scenes"), escape_markdown(scenes)),
    ]


def _recipe_rows(run: Run) -> list[tuple[str, str]]:
    """List the training protocol from the run card; paths that a user gave are named by their last part."""
    card, recipe = run.card, run.card.recipe
    if recipe is None:
        return []
    started = card.initial_weights
    if started is None:
        start = (gettext("Encoder weights"), str(card.encoder_weights))
    else:
        name = started.name
        if started.study:
            name = gettext("%(name)s of %(study)s", name=name, study=started.study)
        start = (gettext("Starts from"), f"{name}, SHA-256 {started.sha256}")
    steps = str(card.steps_done)
    if card.megapixels_seen:
        seen = decimal(f"{card.megapixels_seen:.3g}")
        steps = gettext("%(steps)s, %(megapixels)s megapixels seen", steps=steps, megapixels=seen)
    seed = gettext("seed %(n)s", n=str(card.seed))
    rate = gettext("learning rate %(rate)s", rate=decimal(str(recipe.lr)))
    rows = [
        (gettext("Recipe"), f"{Path(recipe.name).name}, {seed}"),
        start,
        (gettext("Tile, batch"), f"{recipe.tile} px, {recipe.batch}"),
        (gettext("Loss"), recipe.loss),
        (gettext("Optimiser"), f"{recipe.optimiser}, {rate}, {recipe.schedule}"),
        (gettext("Steps"), steps),
    ]
    if card.selection.step is not None:
        rows.append((gettext("Weights kept"), weights_kept(card.selection)))
    made = [f"{name} {card.versions[name]}" for name in ("levelground", "torch") if name in card.versions]
    if card.versions:
        rows.append((gettext("Made with"), ", ".join(made)))
    return [(words, escape_markdown(value)) for words, value in rows if "None" not in value]


def _evaluation(comparison: Comparison | None) -> list[str]:
    """Write scores with 95 % intervals over groups of scenes, and the table by class."""
    if comparison is None:
        return [_heading(gettext("Scores")), gettext("Not evaluated yet.")]
    run = comparison.runs[0]
    found, boundary = run.scores["official"], run.boundary
    rows = [
        f"| {gettext(METRICS[one.kind].words)} | {score(found.overall(one.kind))} | "
        f"{between(found.interval) if one.kind == 'miou' else MISSING} |"
        for one in overall_metrics("official", columns=True)
    ]
    if boundary is not None:
        distance = f"{metric_words('boundary.miou', ())}, {boundary.distance_px} px"
        rows.append(f"| {distance} | {score(boundary.mean)} | {between(boundary.interval)} |")
    shares = comparison.truth.class_share
    by_class = [
        f"| {escape_markdown(c.name)} | {per_cent(shares[k])} | "
        + " | ".join(score(found.per_class(kind)[k]) for kind in class_kinds("official"))
        + " |"
        for k, c in enumerate(comparison.legend.classes)
        if c.counted
    ]
    kinds = [gettext(METRICS[kind].words) for kind in class_kinds("official")]
    head = " | ".join([gettext("class"), gettext("share of pixels"), *kinds])
    titles = " | ".join([gettext("score"), gettext("value"), gettext("95 %% interval")])
    return [
        _heading(gettext("Scores")),
        _scored_on(comparison),
        _table(f"| {titles} |", "|---|---:|---:|", rows),
        _table(f"| {head} |", "|---|---:|" + "---:|" * len(kinds), by_class),
    ]


def _scored_on(comparison: Comparison) -> str:
    """Say which scenes the scores are of."""
    n = len(comparison.scenes)
    split = pgettext("scenes of", "test") if comparison.split == "test" else pgettext("scenes of", "validation")
    return gettext(
        "On %(scenes)s in %(groups)s, over counted classes, from pixels summed over scenes (scoring: official).",
        scenes=npgettext("on", "%(n)s %(split)s scene", "%(n)s %(split)s scenes", n, split=split),
        groups=npgettext("in", "%(n)s group", "%(n)s groups", comparison.n_groups),
    )


def _limits(spec: ModelSpec, comparison: Comparison | None) -> list[str]:
    texts = [finding.text for finding in comparison.findings if finding.code in LIMITS] if comparison else []
    if comparison is None:
        texts.append(gettext("Nothing is known of how well it does."))
    if spec.gsd_m is None:
        texts.append(gettext("The ground sample distance of its imagery is unknown: it may fail at another."))
    if spec.dtype is None:
        texts.append(gettext("The type of its pixels is unknown: the scale of its input is a guess."))
    texts.append(gettext("Other places, seasons and sensors than those of its scenes were not tried."))
    return [_heading(gettext("Limits")), "\n".join(f"- {escape_markdown(text)}" for text in texts)]


def _heading(text: str) -> str:
    return f"## {text}"


def _table(head: str, rule: str, rows: list[str]) -> str:
    return "\n".join([head, rule, *rows])
