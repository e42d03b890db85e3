"""A store that harness 0.1 wrote is listed, shown, compared, explained and reported as it was then."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from stored import differences, page_data, unpack, validate, without_prose

DOCUMENTS = (
    "compare-delegates", "compare-hosts", "compare-sweeps", "compare-variants", "explain-as-is-cpu",
    "explain-as-is-cpu-builtin", "explain-as-is-gpu", "explain-as-is-nnapi", "explain-failed",
    "explain-prune50-untrained-cpu", "explain-prune50-untrained-cpu-builtin", "explain-prune50-untrained-gpu",
    "explain-prune50-untrained-nnapi", "explain-resumed", "history", "list", "log", "prune", "resume-preview",
    "show-first_night", "show-interrupted", "show-resumed", "show-second_night",
)  # fmt: skip
PUBLISHED = {"list": "results-list", "show": "sweep", "prune": "results-prune"}
"""Documents with a published schema, by the first word of their names."""
CELL_FIELDS = (
    "variant_sha256", "variant_name", "serial", "delegate", "threads", "tool_sha256", "core_mask", "profile", "mode",
)  # fmt: skip
TABLES = ("sweeps", "devices", "variants", "tools", "cells", "invocations", "accuracies")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_json_document_is_what_it_was(stored, name):
    kept = stored.read_json(f"documents/{name}.json")
    finished = stored.run(*kept["command"])
    assert finished.code == 0, finished.err
    assert differences(without_prose(kept["document"]), without_prose(finished.document)) == []


def test_every_kept_document_is_tested(stored):
    assert sorted(path.stem for path in stored.folder.glob("documents/*.json")) == sorted(DOCUMENTS)


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.split("-")[0] in PUBLISHED])
def test_documents_old_and_new_fit_the_published_schema(stored, name):
    kept = stored.read_json(f"documents/{name}.json")
    schema = PUBLISHED[name.split("-")[0]]
    validate(schema, kept["document"])
    validate(schema, stored.run(*kept["command"]).document)


def test_reading_the_store_changes_none_of_its_rows(stored, tmp_path):
    untouched = unpack(tmp_path)
    assert stored.run("results", "show", stored.sweeps["resumed"]).code == 0
    for table in TABLES:
        assert stored.rows(table) == untouched.rows(table), table


def test_every_raw_log_is_found(stored):
    paths = [row["log_path"] for table in ("invocations", "accuracies") for row in stored.rows(table)]
    assert len(paths) > 200
    assert all((stored.folder / "results" / path).is_file() for path in paths if path)
    for path in paths[:: len(paths) // 10]:
        log = gzip.decompress((stored.folder / "results" / path).read_bytes())
        assert stored.run("results", "log", path).out == log.decode()


def test_a_stored_key_is_the_hash_of_its_cell(stored):
    for row in stored.rows("cells"):
        cell = {name: row[name] for name in CELL_FIELDS} | {"mode": json.loads(row["mode"])}
        text = json.dumps(cell, sort_keys=True, ensure_ascii=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == row["key"]


@pytest.mark.parametrize("verb", [["results", "list"], ["results", "show"], ["compare"], ["history"]])
def test_tables_for_people_are_drawn(stored, verb):
    finished = stored.run(*verb)
    assert finished.code == 0, finished.err
    assert "as-is" in finished.out or stored.sweeps["first_night"] in finished.out


def test_a_report_holds_the_same_data(stored, tmp_path):
    nights = [stored.sweeps[name] for name in ("second_night", "first_night")]
    finished = stored.run("report", *nights, "-o", str(tmp_path / "report.html"))
    assert finished.code == 0, finished.err
    pages = [(folder / "report.html").read_text() for folder in (stored.folder, tmp_path)]
    old, new = ({"figures": _drawn(page_data(page)), "table": _cells(page_data(page))} for page in pages)
    assert differences(old, new) == []
    for told in (*nights, "as-is", "prune50-untrained", "qat-int8", "R58M0000000", "0.1.0"):
        assert told in pages[1]


def _drawn(data):
    """Return the data of each chart; titles, headings and how it is drawn may change."""
    return {name: figure["data"] for name, figure in data["figures"].items()}


def _cells(data):
    """Return the table of all rows by the names of its columns."""
    names = [column["name"] for column in data["table"]["columns"]]
    return [dict(zip(names, row, strict=True)) for row in data["table"]["rows"]]
