"""The JSON documents that the program prints, held against the schemas in docs/schemas."""

import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def published(name):
    """Return a published schema."""
    return json.loads((FOLDER / f"{name}.v1.json").read_text())


def validate(name, document):
    """Fail where a document is not what the schema says."""
    checker = jsonschema.Draft202012Validator(published(name), format_checker=jsonschema.FormatChecker())
    checker.validate(document)


def document_of(arguments: Sequence[str]) -> str | None:
    """Return the name of the document that a command prints; None for one whose schema is not published."""
    verb, *rest = [part for part in arguments if not part.startswith("-")] or [""]
    if verb == "results" and rest and rest[0] == "export" and "json" in arguments and "-o" not in arguments:
        return "export-invocations" if "invocations" in arguments else "export-summary"
    if "--json" not in arguments or ("--dry-run" in arguments and verb != "results"):
        return None
    if verb == "results" and rest:
        return {"list": "results-list", "show": "sweep", "prune": "results-prune", "remove": "results-prune"}.get(
            rest[0]
        )
    return "sweep" if verb in ("sweep", "bench") else None


def check_output(arguments: Sequence[str], output: str) -> None:
    """Hold what a command printed against its schema; where it failed, it printed nothing or its error."""
    name = document_of(arguments)
    if name and output and "error" not in json.loads(output):
        validate(name, json.loads(output))
