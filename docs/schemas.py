"""Write the JSON Schema of each record that levelground leaves on disk into ``docs/schemas/``, from its type.

``python docs/schemas.py`` renews the files; ``--check`` fails where one is missing or stale.
"""

import importlib
import json
import sys
from pathlib import Path

from levelground.records import SCHEMAS

DOCS = Path(__file__).parent
FOLDER = DOCS / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
SOURCES = {
    "benchmark": "levelground.comparison.benchmark_record:benchmark_schema",
    "comparison": "levelground.comparison.record:comparison_schema",
    "dataset": "levelground.datasets.dataset:dataset_schema",
    "hashes": "levelground.records:hashes_schema",
    "history": "levelground.runs:schemas:history.jsonl",
    "model": "levelground.models.spec:spec_schema",
    "run": "levelground.runs:schemas:run.json",
    "study": "levelground.runs:schemas:study.json",
}
"""The function that returns a record's schema, and where it returns several, the record's key among them."""


def schema_text(kind: str) -> str:
    """Return a record's schema as the text of its file, with the schema number and kind that the record begins with."""
    module, name, *key = SOURCES[kind].split(":")
    schema = getattr(importlib.import_module(module), name)()
    for part in key:
        schema = schema[part]
    if kind in SCHEMAS and "schema" not in schema["properties"]:
        head = {"schema": {"const": SCHEMAS[kind]}, "kind": {"const": kind}}
        schema = schema | {
            "properties": head | schema["properties"],
            "required": [*head, *schema.get("required", ())],
        }
    return json.dumps({"$schema": DRAFT, **schema}, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Renew or check all schemas."""
    check, faults = "--check" in sys.argv[1:], []
    texts = {FOLDER / f"{kind}.json": schema_text(kind) for kind in SOURCES}
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            faults.append(f"schemas/{path.name} is stale; run python docs/schemas.py")
            if not check:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    faults += [f"schemas/{path.name} is of no record" for path in FOLDER.glob("*.json") if path not in texts]
    sys.stdout.write("\n".join(faults if check and faults else [f"schemas: {len(texts)} records"]) + "\n")
    return 1 if check and faults else 0


if __name__ == "__main__":
    sys.exit(main())
