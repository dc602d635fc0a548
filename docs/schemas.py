"""Write the JSON Schema of each record that levelground leaves on disk into ``docs/schemas/``, from its type.

``python docs/schemas.py`` renews the files; ``--check`` fails where one is missing or stale.
"""

import importlib
import json
import sys
from pathlib import Path

DOCS = Path(__file__).parent
FOLDER = DOCS / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
SOURCES = {
    "comparison": "levelground.comparison.record:comparison_schema",
    "dataset": "levelground.datasets.dataset:dataset_schema",
    "model": "levelground.models.metadata:metadata_schema",
    "run": "levelground.runs:card_schema",
    "study": "levelground.pipeline:study_schema",
}
"""Where the function lies that returns a record's schema; those that are not there yet are passed over."""


def schema_text(kind: str) -> str | None:
    """Return a schema as the text of its file; ``None`` where its type is not there."""
    module, _, name = SOURCES[kind].partition(":")
    function = getattr(importlib.import_module(module), name, None)
    if function is None:
        return None
    return json.dumps({"$schema": DRAFT, **function()}, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Renew or check all schemas."""
    check, faults, known = "--check" in sys.argv[1:], [], set()
    for kind in SOURCES:
        if (text := schema_text(kind)) is not None:
            path = FOLDER / f"{kind}.json"
            known.add(path)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                faults.append(f"schemas/{path.name} is stale; run python docs/schemas.py")
                if not check:
                    FOLDER.mkdir(exist_ok=True)
                    path.write_text(text, encoding="utf-8")
    faults += [f"schemas/{path.name} is of no record" for path in FOLDER.glob("*.json") if path not in known]
    sys.stdout.write(
        "\n".join(faults if check and faults else [f"schemas: {len(known)} of {len(SOURCES)} records"]) + "\n"
    )
    return 1 if check and faults else 0


if __name__ == "__main__":
    sys.exit(main())
