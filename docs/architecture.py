"""Write the tree of packages and modules, and the order of layers, into ``architecture.md``, between the markers.

What a package or module is for stands in its own docstring; the order stands in ``pyproject.toml``, where import-linter
holds it. ``python docs/architecture.py`` renews the page; ``--check`` fails where it is stale.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "architecture.md"
PACKAGE = DOCS.parent / "src" / "levelground"
BEGIN, END = "<!-- {}: made by docs/architecture.py -->", "<!-- end of {} -->"


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring, without its full stop and with roles as plain names."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n", 1)[0]
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`").replace("|", "\\|")
    return text.removesuffix(".")


def layers(pyproject: Path = DOCS.parent / "pyproject.toml") -> dict[str, list[str]]:
    """Return the layers of each container, top first; the root's under ``levelground``, without its name."""
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    orders = {}
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            container = contract.get("containers", ["levelground"])[0]
            orders[container] = [layer.replace("levelground.", "") for layer in contract["layers"]]
    return orders


def module_table(folder: Path, order: list[str]) -> list[str]:
    """Return a package's modules as a table: those that its contract names in that order, then the others by name."""
    names = [name for layer in order for name in re.split(r"\s*[|:]\s*", layer)]
    paths = sorted(
        (path for path in folder.glob("*.py") if path.name != "__init__.py"),
        key=lambda path: (names.index(path.stem) if path.stem in names else len(names), path.stem),
    )
    return ["| module | purpose |", "|---|---|", *(f"| `{path.name}` | {first_line(path)} |" for path in paths)]


def packages() -> list[Path]:
    """Return the package folders, from the lowest layer to the highest."""
    order = [name for layer in layers()["levelground"] for name in re.split(r"\s*[|:]\s*", layer)]
    folders = [path.parent for path in PACKAGE.glob("*/__init__.py")]
    return sorted(folders, key=lambda path: (-order.index(path.name) if path.name in order else 1, path.name))


def tree() -> str:
    """Return the tree: the modules at the top, then each package from the lowest layer to the highest."""
    orders = layers()
    parts = ["### levelground/", "", *module_table(PACKAGE, []), ""]
    for folder in packages():
        table = module_table(folder, orders.get(f"levelground.{folder.name}", []))
        parts += [f"### {folder.name}/", "", f"{first_line(folder / '__init__.py')}.", "", *table, ""]
    return "\n".join(parts).rstrip()


def order() -> str:
    """Return the order of layers, top first."""
    lines = [f"{len(layers()['levelground']) - n:2}  {layer}" for n, layer in enumerate(layers()["levelground"])]
    return "\n".join(["```text", *lines, "```"])


def renewed(page: str) -> str:
    """Return the page with its made parts renewed."""
    for name, text in (("order", order()), ("tree", tree())):
        begin, end = BEGIN.format(name), END.format(name)
        block = f"{begin}\n{text}\n{end}"
        page = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _, b=block: b, page, flags=re.DOTALL)
    return page


def main() -> int:
    """Renew or check the page."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = renewed(page)
    if fresh == page:
        sys.stdout.write("architecture: the page names every module\n")
        return 0
    if "--check" in sys.argv[1:]:
        sys.stdout.write("architecture.md is stale; run python docs/architecture.py\n")
        return 1
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
