"""The documentation's generated parts, its scripts, and the files that it names."""

import ast
import functools
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import yaml

import levelground as lg
from levelground import __version__
from levelground.arguments import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "levelground"
NEWER = {"benchmark", "hashes"}
"""Records that 0.1.0 did not write."""
RECORDS = {
    "benchmark": "benchmark.json",
    "comparison": "comparison.json",
    "dataset": "dataset.json",
    "hashes": "hashes.json",
    "history": "history.jsonl",
    "model": "levelground.json",
    "run": "run.json",
    "study": "study.json",
}


def load(name: str) -> ModuleType:
    """Import a script of the documentation."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def section(page: str, name: str) -> str:
    """Return a made part of the architecture page."""
    return page.split(f"<!-- {name}: made by docs/architecture.py -->")[1].split(f"<!-- end of {name} -->")[0]


def test_the_architecture_page_names_each_module_once() -> None:
    """The tree is the folder's: none missing, none twice, none that is gone."""
    named, folder = [], ""
    for line in section((DOCS / "architecture.md").read_text(encoding="utf-8"), "tree").splitlines():
        if heading := re.match(r"### (\S+)/$", line):
            folder = "" if heading[1] == "levelground" else heading[1] + "/"
        elif row := re.match(r"\| `(\w+\.py)` \| (.+) \|$", line):
            assert row[2].strip(), line
            named.append(folder + row[1])
    modules = [str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"]
    assert sorted(named) == sorted(modules)


def test_the_architecture_page_has_the_layers_that_are_checked() -> None:
    """The order on the page is import-linter's."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers" and "containers" not in c)
    order = section((DOCS / "architecture.md").read_text(encoding="utf-8"), "order")
    shown = re.findall(r"^ *\d+  (.+)$", order, re.MULTILINE)
    assert shown == [layer.replace("levelground.", "") for layer in layers]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "README.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    """Paths in code marks are files or folders of the repository or of the package."""
    text = (ROOT / page).read_text(encoding="utf-8").split("<!-- order")[0]
    paths = re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?)`", text)
    ours = [path for path in paths if (ROOT / path.split("/")[0]).exists() or (PACKAGE / path.split("/")[0]).is_dir()]
    assert ours
    assert [path for path in ours if not (ROOT / path).exists() and not (PACKAGE / path).exists()] == []


def test_no_page_holds_a_conflict() -> None:
    """A merge that was not finished would be read as text."""
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    assert [page.name for page in pages if re.search(r"^\s*\"?(<{7}|>{7}) ", page.read_text("utf-8"), re.M)] == []


def test_both_readmes_name_every_command() -> None:
    """The English one links each command's page; the Russian one shows its name."""
    english, russian = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ru.md"))
    assert [name for name in COMMANDS if f"[`{name}`](docs/{name}.md)" not in english] == []
    assert [name for name in COMMANDS if f"`{name}`" not in russian] == []


TRANSLATED = {"README.md": "README.ru.md"} | {
    f"docs/{name}.md": f"docs/ru/{name}.md" for name in ("index", "study", "report", "metrics", "statistics")
}
"""Each English page with its Russian one."""


def shape(page: str) -> dict[str, list[object]]:
    """What a page and its translation share: commands without comments, rows of tables, figures, pictures."""
    text = re.sub(r"<!-- flags.*?end of flags -->", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    code = [
        re.sub(r"\s+#.*| --lang ru", "", block).strip() for block in re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
    ]
    prose = re.sub(r"^```.*?^```$|\]\([^)]*\)|`[^`]*`", "", text, flags=re.M | re.S)
    figures = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<!\d)\.(?=\d)", "0.", re.sub(r"(?<=\d),(?=\d)", ".", prose)))
    tables = [block.strip().count("\n") - 1 for block in re.findall(r"(?:^\|.*\n?)+", text, re.M)]
    return {
        "code": [*code],
        "tables": [*tables],
        "figures": [*figures],
        "pictures": re.findall(r"images/([\w.-]+)", text),
    }


@pytest.mark.parametrize(("page", "translation"), TRANSLATED.items(), ids=TRANSLATED)
def test_a_russian_page_says_as_much(page: str, translation: str) -> None:
    """It has the code, the tables, the figures and the pictures of the English page, and may have more."""
    english, russian = shape(page), shape(translation)
    assert [part for part in english["pictures"] if part not in russian["pictures"]] == []
    assert sorted({*english["figures"]} - {*russian["figures"]}, key=str) == []
    assert [rows for rows in english["tables"] if rows not in russian["tables"]] == []
    for block in english["code"]:
        assert any({*str(block).splitlines()} <= {*str(one).splitlines()} for one in russian["code"]), block


def test_the_reference_has_every_public_name() -> None:
    """Each name of the front door has its entry; the packages have pages of their own."""
    page = (DOCS / "reference" / "levelground.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: levelground\.(\w+)$", page, re.MULTILINE)
    modules = {name for name in lg.__all__ if (DOCS / "reference" / f"{name}.md").exists()}
    assert sorted(shown) == sorted(set(lg.__all__) - modules - {"__version__"})
    assert modules == {"errors", "metrics", "statistics"}


PYTHON = [
    pytest.param(code, id=f"{page.stem}-{n}")
    for page in [ROOT / "README.md", ROOT / "README.ru.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("ru/*.md"))]
    for n, code in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("code", PYTHON)
def test_python_on_the_pages_calls_what_is_there(code: str) -> None:
    """Imported names exist, and the arguments given to the front door's functions fit their signatures."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        if isinstance(node, ast.Call) and re.fullmatch(r"lg(\.\w+)+", ast.unparse(node.func)):
            function = functools.reduce(getattr, ast.unparse(node.func).split(".")[1:], lg)
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(function).bind(*(None for _ in node.args), **keywords)


def test_the_citation_is_of_this_version() -> None:
    """CITATION.cff has what version 1.2.0 of the format demands, and names this version and licence."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"].startswith("levelground")
    assert citation["authors"] == [{"name": "levelground contributors"}]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])


def test_issue_templates_ask_for_something() -> None:
    """Each form has a name, a description and one field that must be filled in."""
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert {form.stem for form in forms} == {"bug", "config", "misread_data", "question"}
    for form in forms:
        if form.stem != "config":
            content = yaml.safe_load(form.read_text(encoding="utf-8"))
            assert content["name"] and content["description"]
            assert any(field.get("validations", {}).get("required") for field in content["body"])


@pytest.mark.parametrize("path", sorted((DOCS / "schemas").glob("*.json")), ids=lambda path: path.stem)
def test_records_of_the_first_version_fit_the_schemas(path: Path) -> None:
    """Each published schema is one, and the records of a study that 0.1.0 wrote fit it."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    records = sorted((ROOT / "tests" / "data" / "study-0.1.0").rglob(RECORDS[path.stem]))
    assert records or path.stem in NEWER
    for record in records:
        text = record.read_text(encoding="utf-8")
        for part in text.splitlines() if record.suffix == ".jsonl" else [text]:
            jsonschema.validate(json.loads(part), schema)


@pytest.mark.parametrize(
    "line",
    [
        "Count pixels by true class (rows) and predicted class (columns).",
        "Options of `predict`.",
        "The run folder of a study.",
        "Rows and columns that the raster has.",
        "``levelground.json`` beside the weights.",
        "Return what is left of a raster.",
    ],
)
def test_plain_first_lines_pass(line: str) -> None:
    """Verb phrases and noun phrases are plain, whatever their relative clauses hold."""
    assert load("measures").fault_of_first_line(line) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("What the scratch folder lacks.", 'opens with "what"'),
        ("Whether two runs are alike.", 'opens with "whether"'),
        ("For each model the classes it confuses.", 'opens with "for"'),
        ("Its run folder.", 'opens with "its"'),
        ("Blends tiles in reading order.", 'opens with "blends"'),
        ("One group gives no interval; few groups decide little.", 'is a sentence: "gives"'),
        ("The hash of all that decides a run's weights.", 'hides its noun: "all that"'),
        ("", "is empty"),
    ],
)
def test_riddles_and_sentences_do_not_pass(line: str, fault: str) -> None:
    """Question words, pronouns, prepositions, third persons and whole sentences are faults, each by its name."""
    assert load("measures").fault_of_first_line(line) == fault


def test_measures_count_what_they_say(tmp_path: Path) -> None:
    """On a small package: one module with one importer, a wide signature, bare records, a long function."""
    package = tmp_path / "levelground"
    (package / "commands").mkdir(parents=True)
    long = "def long():\n" + "    x = 1\n" * 60
    wide = f"def wide({', '.join(f'a{n}: int' for n in range(9))}) -> None: ..."
    files = {
        "__init__.py": "from levelground import a",
        "records.py": "from typing import Any\nRecord = dict[str, Any]\ndef read() -> Record: ...\n",
        "a.py": "def f():\n    from levelground import b\n",
        "b.py": "from levelground.records import Record\n" + long,
        "c.py": f"from levelground.records import Record\nclass C:\n    card: list[Record]\n{wide}\n",
        "d.py": "import levelground.b, levelground.c\ndef g(x: 'dict[str, Any] | None') -> int: ...\n",
        "commands/e.py": f"import levelground.d\n{wide}",
    }
    for name, text in files.items():
        (package / name).write_text(text, encoding="utf-8")
    measures = load("measures")
    modules = measures.read_modules(tmp_path)
    assert measures.measure_modules(modules).figure == "6"
    lone = measures.measure_importers(modules)
    assert (lone.figure, lone.holds) == ("33.3% (2)", False)
    assert [text.split(" ")[0] for text in lone.offenders["(top)"]] == ["levelground.c", "levelground.d"]
    assert measures.measure_parameters(modules).offenders == {"(top)": ["levelground.c.wide: 9 parameters"]}
    assert measures.measure_functions(modules).offenders == {"(top)": ["levelground.b.long: 61 lines"]}
    assert measures.measure_records(modules).offenders == {
        "(top)": ["levelground.c.C: field card", "levelground.d.g: x"]
    }
    assert measures.measure_lengths(modules).holds


def test_pictures_are_shown_and_small() -> None:
    """Every picture is on a page with words for those who cannot see it; together they stay under 2 MB."""
    pictures = {path.name for path in (DOCS / "images").iterdir()}
    pages = [ROOT / "README.md", ROOT / "README.ru.md", *DOCS.rglob("*.md")]
    shown = [m for page in pages for m in re.findall(r"!\[([^\]]*)\]\(\S*?images/([^)\s]+)\)", page.read_text("utf-8"))]
    assert {name for _, name in shown} == pictures
    assert [name for words, name in shown if len(words) < 20] == []
    assert sum((DOCS / "images" / name).stat().st_size for name in pictures) < 2_000_000


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_with_small_outputs(path: Path) -> None:
    """Most cells show something; nothing tells of the machine that ran them; a notebook stays under 300 kB."""
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(cell["outputs"]) for cell in cells) >= len(cells) / 2
    assert {cell["execution_count"] for cell in cells} == {None}
    assert re.findall(r"/(?:home|root|tmp|Users|usr)/|0x[0-9a-f]{6,}", text) == []
    assert len(text) < 300_000


def test_notebooks_become_pages(tmp_path: Path) -> None:
    """Text, code and outputs follow each other; backticks in an output do not end its block."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": "print('```')",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["```\n"]},
                {"output_type": "display_data", "data": {"image/png": "QUJD\n", "text/plain": "<Figure>"}},
                {"output_type": "execute_result", "data": {"text/html": ["<table></table>"], "text/plain": "x"}},
            ],
        },
    ]
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    page = load("site_hooks").notebook_markdown(path)
    assert page.startswith("# Title\ntext\n")
    assert "````python\nprint('```')\n````" in page and "````text\n```\n````" in page
    assert 'src="data:image/png;base64,QUJD"' in page and "<table></table>" in page
