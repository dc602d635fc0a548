"""Write each command's table of flags into its page, between the two markers, from its options class.

``python docs/flags.py`` renews the pages; ``--check`` fails where a page is missing, stale or links to nothing.
"""

import dataclasses
import re
import sys
from pathlib import Path

from levelground.arguments import COMMANDS, command_arguments

DOCS = Path(__file__).parent
BEGIN, END = "<!-- flags: made by docs/flags.py -->", "<!-- end of flags -->"


def default_text(default: object) -> str:
    """Return a default as text of a table cell."""
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or "none"
    if default is None or isinstance(default, bool):
        return {None: "none", True: "on", False: "off"}[default]
    return f"{default:g}" if isinstance(default, int | float) else str(default)


def table_of(command: str) -> str:
    """Return the Markdown table of a command's flags."""
    rows = [
        f"| `{one.flag}` | {default_text(one.default)} | {one.text.replace('|', '/')} |"
        for one in command_arguments(command)
    ]
    return "\n".join([BEGIN, "| flag | default | meaning |", "|---|---|---|", *rows, END])


def renewed(command: str, page: str) -> str:
    """Return a command's page with its table of flags renewed."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    table = table_of(command)
    return (
        re.sub(pattern, lambda _: table, page, flags=re.DOTALL)
        if BEGIN in page
        else f"{page.rstrip()}\n\n## Flags\n\n{table}\n"
    )


def dead_links() -> list[str]:
    """Find relative links of the documentation that lead nowhere."""
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    return [
        f"{page.relative_to(DOCS.parent)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]


def main() -> int:
    """Renew or check all pages."""
    check, faults = "--check" in sys.argv[1:], []
    for command in COMMANDS:
        path = DOCS / f"{command}.md"
        page = (
            path.read_text(encoding="utf-8")
            if path.exists()
            else f"# levelground {command}\n\n{COMMANDS[command].summary}\n"
        )
        faults += [f"{command}: {a.flag} has no text under its field" for a in command_arguments(command) if not a.text]
        fresh = renewed(command, page)
        if fresh != page or not path.exists():
            faults.append(f"{path.name}: flags are stale; run python docs/flags.py")
            if not check:
                path.write_text(fresh, encoding="utf-8")
    links = dead_links()
    problems = (faults if check else []) + [f"dead link {link}" for link in links]
    sys.stdout.write("\n".join(problems or [f"docs: {len(COMMANDS)} commands, all links lead somewhere"]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
