"""Hooks of the site's build: pages made of files that are not pages themselves.

The notebooks (with their committed outputs) and the repository's own ``CONTRIBUTING.md`` and ``CHANGELOG.md`` become
pages, and links to notebooks lead to those pages.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
FROM_ROOT = ("CONTRIBUTING.md", "CHANGELOG.md")
PICTURES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


def fenced(text: str, language: str = "") -> str:
    """Put text into a code block that no backticks in it can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def joined(text: str | list[str]) -> str:
    """Join the lines of a notebook's text field."""
    return text if isinstance(text, str) else "".join(text)


def output_markdown(output: dict[str, Any]) -> str:
    """Return one output of a cell as Markdown: a picture, HTML, or text."""
    if output["output_type"] == "stream":
        return fenced(joined(output["text"]), "text")
    data = output.get("data", {})
    for mime, kind in PICTURES.items():
        if mime in data:
            encoded = "".join(joined(data[mime]).split())
            return f'<img alt="Output of the cell above" src="data:image/{kind};base64,{encoded}">\n'
    if "text/html" in data:
        return f'<div markdown="0">\n{joined(data["text/html"]).strip()}\n</div>\n'
    return fenced(joined(data.get("text/plain", "")), "text")


def notebook_markdown(path: Path) -> str:
    """Return a notebook as one page of Markdown."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n")
        elif source.strip():
            parts.append(fenced(source, "python"))
            outputs = "\n".join(output_markdown(output) for output in cell.get("outputs", []))
            parts.append(f'<div class="notebook-output" markdown="1">\n\n{outputs}\n</div>\n' if outputs else "")
    origin = f"\nThis page is the notebook `docs/notebooks/{path.name}` with the outputs of its last run.\n"
    return "\n".join([*parts, origin])


def page_of_root_file(text: str) -> str:
    """Turn links from the repository's root into links from the site's root."""
    text = re.sub(r"\]\(docs/([^)]*)\)", r"](\1)", text)
    return re.sub(r"\]\((CONTRIBUTING|CHANGELOG)\.md", lambda m: f"]({m[1].lower()}.md", text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for path in sorted(DOCS.glob("notebooks/*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook_markdown(path)))
    for name in FROM_ROOT:
        text = (DOCS.parent / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name.lower(), content=page_of_root_file(text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to notebooks to their pages."""
    del page, config, files
    return re.sub(r"\]\((?!https?:)([^)#\s]*notebooks/[a-z]+)\.ipynb\)", r"](\1.md)", markdown)
