"""What harness 0.1 stored and published (`make_fixtures.py`), and the command line run on it in this process.

Nothing of harness is imported but its entry point, so these tests see what a user of the old version sees.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import platform
import re
import signal
import sqlite3
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jsonschema

from harness.cli.main import main

ARCHIVE = Path(__file__).with_name("data") / "stored-by-0.1.tar.xz"
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
STORE = "results/results.sqlite3"

PROSE = {
    "failure_advice": "made of the failure class when a table is made",
    "why": "the reason for a finding",
    "flags": "what to keep in mind about a finding",
    "noise_floor_source": "where a noise floor comes from",
}
"""Keys whose sentences are harness's own and not stored: they may be worded better, but must not come or go."""
PROMISE_PROSE = ("title", "sentence")
"""The same in a promise of `explain`; elsewhere a `title` is a device's."""
ADDED_SINCE = {"file_checks"}
"""Keys that later versions added."""
PROMISES_OF_0_1 = 22
COMPUTED_MESSAGE = "fell_back"
"""The verdict whose `failure_message` is made with the table; every other message is stored."""


@dataclass(frozen=True)
class Stored:
    """A folder with the store of harness 0.1 and what it made of it."""

    folder: Path

    @property
    def sweeps(self) -> Mapping[str, str]:
        """Return the ids of the sweeps by what they are."""
        named: dict[str, str] = self.read_json("sweeps.json")
        return named

    def read_json(self, path: str) -> object:
        """Return a JSON file."""
        return json.loads((self.folder / path).read_text())

    def rows(self, table: str) -> list[dict[str, object]]:
        """Return a table of the store, read without harness."""
        with closing(sqlite3.connect(f"file:{self.folder / STORE}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]

    def move_to_this_computer(self) -> None:
        """Let the host of the store have this computer's system: a sweep is never resumed on another one."""
        with closing(sqlite3.connect(self.folder / STORE)) as connection, connection:
            connection.execute(
                "UPDATE devices SET facts = json_set(facts, '$.fingerprint', ?) WHERE kind = 'host'",
                (platform.platform(),),
            )

    def run(self, *arguments: str) -> Finished:
        """Run the command line in this process, in the folder."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        environment = {"HARNESS_RESULTS": "results", "HARNESS_CACHE": str(self.folder / "cache"), "COLUMNS": "160"}
        with (
            mock.patch.object(sys, "argv", ["harness", *arguments]),
            mock.patch.dict(os.environ, environment),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _signal_handlers_kept(),
        ):
            try:
                main()
                code: object = 0
            except SystemExit as ended:
                code = ended.code or 0
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
        return Finished(code, *texts)


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str

    @property
    def document(self) -> dict[str, object]:
        """Return the JSON on stdout."""
        document: dict[str, object] = json.loads(self.out)
        return document


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def unpack(folder: Path) -> Stored:
    """Unpack the fixtures into a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Stored(folder)


def validate(name: str, document: object) -> None:
    """Fail if a document is not what a published schema says."""
    schema = json.loads((SCHEMAS / f"{name}.v1.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)


def without_prose(value: object, prose: Sequence[str] = tuple(PROSE)) -> object:
    """Put the number of sentences in place of sentences that are harness's own."""
    if isinstance(value, list):
        return [
            without_prose(item, prose)
            for item in value
            if prose is not PROMISE_PROSE or item["number"] <= PROMISES_OF_0_1
        ]
    if not isinstance(value, dict):
        return value
    names = {*prose, *(["failure_message"] if value.get("verdict") == COMPUTED_MESSAGE else [])}
    return {
        name: _count(inner) if name in names
        else without_prose(inner, PROMISE_PROSE if name == "promises" else prose)
        for name, inner in value.items()
        if name not in ADDED_SINCE
    }  # fmt: skip


def _count(sentences: object) -> object:
    return len(sentences) if isinstance(sentences, list) else sentences and "a sentence"


def differences(old: object, new: object, place: str = "$") -> list[str]:
    """Return where two JSON values differ; numbers may differ by what another processor rounds otherwise."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [f"{place}.{name}: gone" for name in old.keys() - new.keys()]
        if not found and list(old) != [name for name in new if name in old]:  # a later version appends fields
            found.append(f"{place}: another order: {list(new)}")
        return found + [line for name in old.keys() & new.keys()
                        for line in differences(old[name], new[name], f"{place}.{name}")]  # fmt: skip
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return [f"{place}: {len(old)} items before, {len(new)} now"]
        pairs = enumerate(zip(old, new, strict=True))
        return [line for index, (a, b) in pairs for line in differences(a, b, f"{place}[{index}]")]
    if isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-9):
        return []
    return [] if old == new and type(old) is type(new) else [f"{place}: {old!r} before, {new!r} now"]


def page_data(page: str) -> dict[str, object]:
    """Return the data that a report holds for its script."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    document: dict[str, object] = json.loads(data)
    return document
