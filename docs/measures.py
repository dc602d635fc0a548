"""Print the measures of the code's structure and check each against its limit.

``python docs/measures.py`` lists what breaks a limit, package by package, and exits with 1 where one is broken;
``--all`` lists every offender, ``--package NAME`` those of one package.
"""

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
ROOT = "levelground"
SHOWN = 12  # offenders shown of each package; the rest with --all

# First words that open a verb phrase (imperative).
VERB_LIST = """
    abbreviate accept adapt add adjust adopt advance aggregate align allocate allow analyse answer append apply
    arrange ask assemble assert assign attach average balance begin bin blend block blur bound break bring broadcast
    build cache calculate calibrate call cancel cap carry cast centre change check choose claim clamp classify clean
    clear clip close collapse collect colour combine compare compile complete compose compress compute concatenate
    configure confirm connect construct continue convert convolve copy correct count cover create crop cut darken
    decide declare decode define delete derive describe detect determine digest discard disable display divide do
    download downsample draw drop dump edit embed emit enable encode end ensure enter enumerate erase escape
    estimate evaluate exclude execute exit expand explain export expose extend extract fail fetch fill filter find
    finish fit fix flag flip flush follow forbid forget format freeze gather generate get give go group guard guess
    handle hash hide hold identify ignore import include increase index infer initialise insert inspect install
    interpolate invert iterate join keep label launch lay lead leave let limit link list load locate lock log look
    lower make map mark mask match measure merge migrate mirror mix move multiply name narrow normalise note number
    observe offer omit open order pack pad paint pair parse partition pass patch pause perform permute pick place
    plan plant plot point poll predict prepare prevent print process produce project propose prove publish put raise
    rank read rebuild recognise record recreate reduce refuse register reject release remember remove rename render
    reorder repeat replace report request rescale reserve reset resample reshape resize resolve restore restrict
    resume retry return reuse reverse rewrite rotate round run sample save say scale scan scatter score search seed
    select send separate serialise serve set shade shape share shift show shrink shuffle shut sign simplify simulate
    skip slice smooth snap sort split spread stack standardise start state stitch stop store stream stretch strip
    subtract sum summarise supply suppress swap switch synchronise take tell test thin throw tile time trace track
    train transform translate transpose trim try turn unfreeze unify unlock unpack unwrap update upsample use
    validate verify wait walk warm warn weight widen wrap write yield
"""
VERBS = set(VERB_LIST.split())
# First words that say that the line is a riddle, a clause or a sentence about something else.
QUESTION_WORDS = "what whether who whom whose which why how where when whatever if"
PRONOUNS = "it its they them their those these this that he she we you others"
PREPOSITIONS = """
    about above across after against among as at because before behind below beside between beyond by during for
    from in inside into of off on onto over since than through to toward towards under until with within without
"""
THIRD_PERSON = """
    adds blends builds chooses computes cuts decodes draws gives holds keeps loads makes prints puts reads refuses
    removes returns says stops takes tells turns writes
"""
BAD_STARTS = set(f"{QUESTION_WORDS} {PRONOUNS} {PREPOSITIONS} {THIRD_PERSON}".split())
FINITE_LIST = """
    is are was were has have had does did may might can could must shall should will would cannot isn't aren't gives
    takes needs stands lies knows says tells goes comes keeps gets holds makes becomes differs decides agrees speaks
    appears happens remains stays belongs begins ends fits matters
"""
FINITE = set(FINITE_LIST.split())
CLAUSE_END = re.compile(
    r"[,;:(—–]|\s-\s|\.\s|\b(?:that|which|who|whose|where|when|while|if|as|because|until|so|how|whether|it|they|before|after|than)\b"
)


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that the module lies in, without the root's name."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 else "(top)"


@dataclass(frozen=True)
class Measure:
    """One measure: its figure as text, whether it keeps its limit, and the offenders by package."""

    title: str
    figure: str
    holds: bool
    offenders: dict[str, list[str]] = field(default_factory=dict)


def read_modules(source: Path = SOURCE) -> list[Module]:
    """Parse every module of the package that is not an ``__init__``."""
    modules = []
    for path in sorted((source / ROOT).rglob("*.py")):
        if path.name == "__init__.py":
            continue
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(source).with_suffix("").parts)
        modules.append(Module(name, len(text.splitlines()), ast.parse(text)))
    return modules


def grouped(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Collect offenders by package."""
    groups: dict[str, list[str]] = defaultdict(list)
    for package, text in pairs:
        groups[package].append(text)
    return dict(sorted(groups.items()))


def imported_names(module: Module) -> set[str]:
    """Return every dotted name that a module imports, anywhere in its file."""
    names = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.name.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def measure_importers(modules: list[Module]) -> Measure:
    """Measure the share of modules that exactly one other module imports."""
    importers: dict[str, set[str]] = defaultdict(set)
    known = {module.name for module in modules}
    for module in modules:
        for name in imported_names(module) & known - {module.name}:
            importers[name].add(module.name)
    lone = [(m, *importers[m.name]) for m in modules if len(importers[m.name]) == 1]
    share = len(lone) / len(modules)
    offenders = grouped([(m.package, f"{m.name} ({m.lines} lines), imported by {only} alone") for m, only in lone])
    return Measure("modules with one importer, at most 12 %", f"{share:.1%} ({len(lone)})", share <= 0.12, offenders)


def measure_modules(modules: list[Module]) -> Measure:
    """Measure the number of modules."""
    return Measure("modules, at most 125", str(len(modules)), len(modules) <= 125)


def measure_lengths(modules: list[Module]) -> Measure:
    """Measure which modules are longer than 450 lines."""
    long = [(m.package, f"{m.name}: {m.lines} lines") for m in modules if m.lines > 450]
    median = statistics.median(m.lines for m in modules)
    return Measure("modules over 450 lines, none", f"{len(long)} (median {median:.0f} lines)", not long, grouped(long))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(tree: ast.Module) -> Iterator[Function]:
    """Yield every function of a module, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def measure_functions(modules: list[Module]) -> Measure:
    """Measure which functions are longer than 60 lines, docstring included."""
    sizes = [(m, f, (f.end_lineno or f.lineno) - f.lineno + 1) for m in modules for f in functions_of(m.tree)]
    long = [(m.package, f"{m.name}.{f.name}: {size} lines") for m, f, size in sizes if size > 60]
    over_40 = sum(size > 40 for *_, size in sizes)
    figure = f"{len(long)} of {len(sizes)} ({over_40} over 40)"
    return Measure("functions over 60 lines, none", figure, not long, grouped(long))


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield the public functions and methods of a module with their qualified names."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and (not inner.name.startswith("_") or inner.name == "__init__"):
                    yield f"{node.name}.{inner.name}", inner


def parameters_of(function: Function) -> list[ast.arg]:
    """Return the parameters of a function without ``self`` and ``cls``."""
    a = function.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [arg for arg in named if arg.arg not in ("self", "cls")]


def measure_parameters(modules: list[Module]) -> Measure:
    """Measure which public functions outside the commands take more than 8 parameters."""
    wide = []
    for module in modules:
        if module.package == "commands":
            continue
        for name, function in public_functions(module.tree):
            if (n := len(parameters_of(function))) > 8:
                wide.append((module.package, f"{module.name}.{name}: {n} parameters"))
    return Measure("public signatures with more than 8 parameters, none", str(len(wide)), not wide, grouped(wide))


def is_any_dict(node: ast.expr) -> bool:
    """Tell whether a node is ``dict[str, Any]`` or another mapping to ``Any``."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("dict", "Mapping", "MutableMapping")
        and isinstance(node.slice, ast.Tuple)
        and ast.unparse(node.slice.elts[-1]) in ("Any", "typing.Any")
    )


def any_dict_aliases(modules: list[Module]) -> set[str]:
    """Return the names that stand for a mapping to ``Any``, such as ``Record``."""
    aliases = set()
    for module in modules:
        for node in module.tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.expr) and is_any_dict(value):
                aliases.add(target.id)
    return aliases


def untyped_dicts(annotation: ast.expr | None, aliases: set[str]) -> bool:
    """Tell whether an annotation holds a mapping to ``Any``, itself or under another name."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return any(
        (isinstance(node, ast.expr) and is_any_dict(node))
        or (isinstance(node, ast.Name) and node.id in aliases)
        or (isinstance(node, ast.Attribute) and node.attr in aliases)
        for node in ast.walk(annotation)
    )


def measure_records(modules: list[Module]) -> Measure:
    """Measure which public signatures and fields outside ``records`` are mappings to ``Any``."""
    aliases, found = any_dict_aliases(modules), []
    for module in modules:
        if module.name == f"{ROOT}.records":
            continue
        for name, function in public_functions(module.tree):
            slots = [(arg.arg, arg.annotation) for arg in parameters_of(function)] + [("return", function.returns)]
            if bad := [slot for slot, annotation in slots if untyped_dicts(annotation, aliases)]:
                found.append((module.package, f"{module.name}.{name}: {', '.join(bad)}"))
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found += [
                    (module.package, f"{module.name}.{node.name}: field {ast.unparse(f.target)}")
                    for f in node.body
                    if isinstance(f, ast.AnnAssign) and untyped_dicts(f.annotation, aliases)
                ]
    title = "public signatures with dict[str, Any] or Record outside records.py, none"
    return Measure(title, str(len(found)), not found, grouped(found))


def fault_of_first_line(line: str) -> str | None:
    """Return what is wrong with a docstring's first line; ``None`` for a verb phrase or a plain noun phrase.

    Example:
        >>> fault_of_first_line("Count pixels by true class and predicted class.")
        >>> fault_of_first_line("Options of `predict`.")
        >>> fault_of_first_line("What the scratch folder lacks.")
        'opens with "what"'
        >>> fault_of_first_line("The first process is the one that writes.")
        'is a sentence: "is"'
    """
    words = re.findall(r"[^\s,;:.()]+", line.lower())
    if not words:
        return "is empty"
    first = words[0]
    if first in VERBS:
        return None
    if first in BAD_STARTS:
        return f'opens with "{first}"'
    head = CLAUSE_END.split(re.sub(r"``.*?``|`.*?`", "x", line.lower()), maxsplit=1)[0]
    finite = next((word for word in re.findall(r"[\w']+", head) if word in FINITE), None)
    if finite:
        return f'is a sentence: "{finite}"'
    riddle = re.search(r"\b(what|all that|those that|nobody|somebody)\b", line.lower())
    return f'hides its noun: "{riddle[1]}"' if riddle else None


def docstrings_of(module: Module) -> Iterator[tuple[str, str]]:
    """Yield the name and the first line of every docstring of a module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "(module)"), text.splitlines()[0]


def measure_docstrings(modules: list[Module]) -> Measure:
    """Measure the share of docstrings whose first line is a verb phrase or a plain noun phrase."""
    lines = [(module, name, line) for module in modules for name, line in docstrings_of(module)]
    faults = [(m, name, line, fault) for m, name, line in lines if (fault := fault_of_first_line(line))]
    share, verbs = (
        1 - len(faults) / len(lines),
        sum(line.split()[0].lower().strip(",.:") in VERBS for *_, line in lines),
    )
    figure = f"{share:.1%} of {len(lines)} ({verbs / len(lines):.0%} are verb phrases)"
    offenders = grouped([(m.package, f"{m.name}.{name} {fault}: {line}") for m, name, line, fault in faults])
    return Measure("first lines that are verb or plain noun phrases, at least 95 %", figure, share >= 0.95, offenders)


def measure_all(modules: list[Module]) -> list[Measure]:
    """Take all measures."""
    measures = (
        measure_modules,
        measure_importers,
        measure_lengths,
        measure_functions,
        measure_parameters,
        measure_records,
        measure_docstrings,
    )
    return [measure(modules) for measure in measures]


def listing(measure: Measure, shown: int, package: str | None) -> Iterator[str]:
    """Yield a measure's offenders as lines, package by package."""
    for name, texts in measure.offenders.items():
        if package in (None, name):
            yield f"    {name}: {len(texts)}"
            yield from (f"      {text}" for text in texts[:shown])
            if len(texts) > shown:
                yield f"      ... and {len(texts) - shown} more (--all)"


def main() -> int:
    """Print the measures; 1 where a limit is broken."""
    arguments = sys.argv[1:]
    package = arguments[arguments.index("--package") + 1] if "--package" in arguments else None
    shown = 10**6 if "--all" in arguments or package else SHOWN
    measures = measure_all(read_modules())
    for measure in measures:
        sys.stdout.write(f"{'holds ' if measure.holds else 'BROKEN'}  {measure.title}: {measure.figure}\n")
        if not measure.holds or package or "--all" in arguments:
            sys.stdout.writelines(line + "\n" for line in listing(measure, shown, package))
    return 0 if all(measure.holds for measure in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
