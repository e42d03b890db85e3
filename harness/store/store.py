"""Write results: every finished invocation is on disk before the next one starts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Executable, Table, delete, func, insert, or_, select, update

from harness.accuracy.outcome import AccuracyOutcome
from harness.benchmark.invocation import Pass
from harness.benchmark.tool import Tool
from harness.devices.device import DeviceFacts
from harness.errors import NOT_CAUSED_BY_THE_CELL, Failure, HarnessError, is_final
from harness.store import schema
from harness.store.backend import Log, log_path
from harness.store.reader import StoreReader
from harness.store.records import CARRIED_ON, SET_ASIDE, Cell, SweepRecord, SweepStatus
from harness.store.rows import (
    FileCheck,
    FinishedInvocation,
    accuracy_values,
    failure_values,
    invocation_values,
    only_columns,
    tampered,
)
from harness.text import utc_text
from harness.tflite.variant import VariantCard


class Store(StoreReader):
    """A store that a sweep writes to. Several threads may write; each call is one transaction."""

    def start_sweep(self, record: SweepRecord) -> None:
        """Store a new sweep."""
        row = asdict(record) | {"started_at_utc": utc_text(record.started_at), "finished_at_utc": None}
        self.locks.acquire(record.id)
        start = insert(schema.sweeps).values(only_columns(schema.sweeps, row))
        known = select(schema.sweeps.c.id).where(schema.sweeps.c.id == record.id)
        self._transactions.write(
            lambda connection: connection.execute(start), lambda connection: connection.scalar(known) is not None
        )

    def resume_sweep(self, sweep_id: str) -> None:
        """Mark a sweep as running again. Raises `UsageError` if another process runs or removes it."""
        self.locks.acquire(sweep_id)
        self._set_status(sweep_id, SweepStatus.RUNNING, None)

    def note_sitting(self, sweep_id: str, spec: Mapping[str, object], sitting: Mapping[str, object]) -> None:
        """Store with which spec a sweep is resumed from now, and what `SweepRecord.carried_on` tells of it."""

        def noted(host: dict[str, Any]) -> dict[str, Any]:
            return {**host, CARRIED_ON: [*(host.get(CARRIED_ON) or ()), dict(sitting)]}

        self._change_host(sweep_id, noted, spec=dict(spec), preset=spec["preset"], seed=spec["seed"])

    def set_aside(self, sweep_id: str, reasons: Mapping[str, str], *, planned: Collection[str] = ()) -> None:
        """Store which cells were measured again under other conditions and why, by key; `planned` ones are taken back.

        Their rows stay as they are.
        """

        def changed(host: dict[str, Any]) -> dict[str, Any]:
            kept = {key: reason for key, reason in (host.get(SET_ASIDE) or {}).items() if key not in planned}
            return {**host, SET_ASIDE: {**kept, **reasons}}

        self._change_host(sweep_id, changed)

    def _change_host(
        self, sweep_id: str, change: Callable[[dict[str, Any]], dict[str, Any]], **columns: object
    ) -> None:
        """Read the facts of a sweep, change them, and write them back in one transaction."""
        table = schema.sweeps

        def work(connection: Connection) -> None:
            here = table.c.id == sweep_id
            host = connection.scalar(select(table.c.host).where(here).with_for_update())
            connection.execute(update(table).where(here).values(host=change(dict(host or {})), **columns))

        self._transactions.write(work)

    def finish_sweep(self, sweep_id: str, status: SweepStatus, finished_at: datetime | None = None) -> None:
        """Say how a sweep ended; `finished_at` defaults to now."""
        self._set_status(sweep_id, status, utc_text(finished_at or datetime.now(UTC)))
        self.locks.release(sweep_id)

    def remove_sweep(self, sweep_id: str) -> None:
        """Remove all rows of a sweep, in one transaction; raw logs that are files stay."""

        def work(connection: Connection) -> None:
            for table in reversed(schema.metadata.sorted_tables):  # what refers to a row goes before it
                if table is schema.sweeps:
                    connection.execute(delete(table).where(table.c.id == sweep_id))
                elif "sweep_id" in table.c:
                    connection.execute(delete(table).where(table.c.sweep_id == sweep_id))

        self._transactions.write(work)

    def _set_status(self, sweep_id: str, status: SweepStatus, finished_at_utc: str | None) -> None:
        change = update(schema.sweeps).where(schema.sweeps.c.id == sweep_id)
        self._execute(change.values(status=status, finished_at_utc=finished_at_utc))

    def add_device(self, sweep_id: str, facts: DeviceFacts, profile: str, labels: Sequence[str] = ()) -> None:
        """Store a device, or what is now known of it; a failure stored before is taken back."""
        self._replace(
            schema.devices,
            {"sweep_id": sweep_id, "serial": facts.serial},
            {
                "title": facts.title,
                "kind": facts.kind,
                "profile": profile,
                "labels": list(dict.fromkeys(labels)),
                "facts": asdict(facts),
            },
        )

    def add_device_failure(
        self, sweep_id: str, serial: str, failure: Failure, facts: DeviceFacts | None = None
    ) -> None:
        """Store that a whole device could not be measured, or was lost; facts stored before are kept."""
        here = (schema.devices.c.sweep_id == sweep_id) & (schema.devices.c.serial == serial)

        def work(connection: Connection) -> None:
            known = connection.execute(select(schema.devices).where(here)).mappings().first()
            row: dict[str, Any] = dict(known) if known else {"title": serial, "labels": []}
            if facts:
                row |= {"title": facts.title, "kind": facts.kind, "facts": asdict(facts)}
            connection.execute(delete(schema.devices).where(here))
            row |= {"sweep_id": sweep_id, "serial": serial, **failure_values(failure)}
            connection.execute(insert(schema.devices).values(row))

        self._transactions.write(work)

    def set_preparation(self, sweep_id: str, serial: str, preparation: Mapping[str, object]) -> None:
        """Store how a device was prepared and restored, over what was stored of it before."""
        table = schema.devices
        here = (table.c.sweep_id == sweep_id) & (table.c.serial == serial)
        self._execute(update(table).where(here).values(preparation=dict(preparation)))

    def add_variant(self, sweep_id: str, card: VariantCard) -> None:
        """Store a variant under its recipe's name; another one of that name that was measured is given its own."""
        self._keep_measured_variant(sweep_id, card.recipe, card.sha256)
        values = {"sha256": card.sha256, "size_bytes": card.size_bytes, "gzip_size_bytes": card.gzip_size_bytes}
        self._replace(
            schema.variants,
            {"sweep_id": sweep_id, "name": card.recipe},
            values | {"card": card.model_dump(mode="json")},
        )

    def _keep_measured_variant(self, sweep_id: str, name: str, new_sha256: str | None) -> None:
        table, cells = schema.variants, schema.cells

        def work(connection: Connection) -> None:
            here = (table.c.sweep_id == sweep_id) & (table.c.name == name)
            sha256 = connection.scalar(select(table.c.sha256).where(here))
            of_it = (cells.c.sweep_id == sweep_id) & (cells.c.variant_sha256 == sha256)
            if sha256 not in (None, new_sha256) and connection.scalar(select(cells.c.key).where(of_it).limit(1)):
                connection.execute(update(table).where(here).values(name=f"{name} ({sha256[:12]})"))

        self._transactions.write(work)

    def add_variant_failure(self, sweep_id: str, name: str, failure: Failure) -> None:
        """Store that a recipe gave no variant; one of that name that was measured is given its own."""
        self._keep_measured_variant(sweep_id, name, None)
        self._replace(schema.variants, {"sweep_id": sweep_id, "name": name}, failure_values(failure))

    def add_tool(self, sweep_id: str, tool: Tool) -> None:
        """Store which binary measured."""
        self._replace(
            schema.tools,
            {"sweep_id": sweep_id, "sha256": tool.sha256},
            {"name": tool.name, "family": tool.family, "facts": tool.model_dump(mode="json")},
        )

    def add_cell(self, sweep_id: str, cell: Cell) -> None:
        """Store a cell; one that is there already stays as it is."""
        row = asdict(cell) | {"sweep_id": sweep_id, "key": cell.key}

        def work(connection: Connection) -> None:
            if _find_cell(connection, sweep_id, cell.key) is None:
                connection.execute(insert(schema.cells).values(row))

        self._transactions.write(work)

    def add_invocation(self, sweep_id: str, cell_key: str, finished: FinishedInvocation) -> None:
        """Store one finished process and its log. When this returns, both are on disk.

        The same index may come again, after a lost phone or a throttled run: each attempt is kept, the last counts.
        Raises `HarnessError` for an unknown cell or a full disk.
        """
        table, receipt = schema.invocations, secrets.token_hex(16)
        purpose, index = finished.purpose, finished.index

        def work(connection: Connection) -> None:
            cell = _cell(connection, sweep_id, cell_key)
            mine = (table.c.sweep_id == sweep_id) & (table.c.cell_key == cell_key) & (table.c.purpose == purpose)
            latest = select(func.max(table.c.attempt)).where(mine & (table.c.invocation_index == index))
            attempt = (connection.scalar(latest) or 0) + 1
            path = log_path(sweep_id, cell, purpose, index, attempt)
            self.logs.write(connection, Log(sweep_id, path, finished.invocation.log, receipt))
            identity = {"sweep_id": sweep_id, "cell_key": cell_key, "attempt": attempt, "log_path": path.as_posix()}
            connection.execute(insert(table).values(identity | invocation_values(finished)))

        self._transactions.write(work, lambda connection: self.logs.has(connection, receipt))

    def add_accuracy(self, sweep_id: str, cell_key: str, outcome: AccuracyOutcome) -> None:
        """Store the accuracy pass of one cell and its logs. Given again, each attempt is kept, the last counts."""
        table, receipt = schema.accuracies, secrets.token_hex(16)

        def work(connection: Connection) -> None:
            cell = _cell(connection, sweep_id, cell_key)
            latest = select(func.max(table.c.attempt)).where(
                (table.c.sweep_id == sweep_id) & (table.c.cell_key == cell_key)
            )
            attempt = (connection.scalar(latest) or 0) + 1
            path = log_path(sweep_id, cell, "accuracy", 0, attempt)
            self.logs.write(connection, Log(sweep_id, path, outcome.log, receipt))
            row = {
                "sweep_id": sweep_id,
                "cell_key": cell_key,
                "attempt": attempt,
                "wall_s": outcome.wall_s,
                "log_path": path.as_posix(),
                "samples_per_process": outcome.samples_per_process,
                "note": outcome.note,
                **accuracy_values(outcome),
                **failure_values(outcome.failure),
            }
            connection.execute(insert(table).values(row))

        self._transactions.write(work, lambda connection: self.logs.has(connection, receipt))

    def add_file_checks(self, sweep_id: str, serial: str, checks: Sequence[FileCheck]) -> int:
        """Store one look at the files on a device, and return how many rows turn out to be `tampered`.

        Those are the rows since the last look at a file that is not what was pushed.
        """
        marked: list[int] = []

        def work(connection: Connection) -> None:
            cells, marked[:] = schema.cells, []
            mine = (cells.c.sweep_id == sweep_id) & (cells.c.serial == serial)
            for check in checks:
                if not check.passed:
                    uses_it = or_(
                        cells.c.variant_sha256 == check.owner_sha256, cells.c.tool_sha256 == check.owner_sha256
                    )
                    keys = connection.scalars(select(cells.c.key).where(mine & uses_it)).all()
                    marked.extend(_mark_tampered(connection, sweep_id, serial, check, keys))
            keys = connection.scalars(select(cells.c.key).where(mine)).all()
            common = {
                "sweep_id": sweep_id,
                "serial": serial,
                "checked_at_utc": utc_text(datetime.now(UTC)),
                **{
                    column: connection.scalar(
                        select(func.max(table.c.id)).where((table.c.sweep_id == sweep_id) & table.c.cell_key.in_(keys))
                    )
                    or 0
                    for column, table in _CHECKED.items()
                },
            }
            connection.execute(insert(schema.file_checks), [asdict(check) | common for check in checks])

        if checks:
            self._transactions.write(work)
        return sum(marked)

    def _replace(self, table: Table, identity: dict[str, Any], values: dict[str, Any]) -> None:
        here = [table.c[name] == value for name, value in identity.items()]
        self._execute(delete(table).where(*here), insert(table).values(identity | values))

    def _execute(self, *statements: Executable) -> None:
        """Carry out statements as one transaction."""

        def work(connection: Connection) -> None:
            for statement in statements:
                connection.execute(statement)

        self._transactions.write(work)

    # ---- what is done, for --resume ----

    def done(self, sweep_id: str) -> set[tuple[str, Pass, int]]:
        """Return (cell key, pass, index) of every invocation that need not be repeated.

        The last attempt counts: a failure of the cell itself is done, one from outside (`NOT_CAUSED_BY_THE_CELL`) is
        not.
        """
        table = schema.invocations
        columns = (table.c.cell_key, table.c.purpose, table.c.invocation_index, table.c.failure_class)
        query = select(*columns).where(table.c.sweep_id == sweep_id).order_by(table.c.attempt)
        rows = self._transactions.read(query)
        last = {(key, Pass(purpose), index): failed for key, purpose, index, failed in rows}
        return {place for place, failed in last.items() if is_final(failed)}

    def done_accuracies(self, sweep_id: str) -> set[str]:
        """Return the keys of the cells whose accuracy pass need not be repeated."""
        table = schema.accuracies
        query = select(table.c.cell_key, table.c.failure_class).where(table.c.sweep_id == sweep_id)
        rows = self._transactions.read(query.order_by(table.c.attempt))
        last: dict[str, str | None] = {row.cell_key: row.failure_class for row in rows}
        return {key for key, failed in last.items() if is_final(failed)}


_CHECKED = {"last_invocation_id": schema.invocations, "last_accuracy_id": schema.accuracies}
"""What was measured between two looks at the files on a device, by the column that says up to where it is known."""


def _mark_tampered(
    connection: Connection, sweep_id: str, serial: str, check: FileCheck, keys: Collection[str]
) -> Iterator[int]:
    """Mark what these cells measured since the last look at a file; yield the number of rows."""
    looks = schema.file_checks
    of_it = (looks.c.sweep_id == sweep_id) & (looks.c.serial == serial) & (looks.c.owner_sha256 == check.owner_sha256)
    failure = tampered(check)
    for column, table in _CHECKED.items():
        last = connection.scalar(select(func.max(looks.c[column])).where(of_it)) or 0
        is_own = or_(table.c.failure_class.is_(None), table.c.failure_class.not_in(NOT_CAUSED_BY_THE_CELL))
        since = (table.c.sweep_id == sweep_id) & table.c.cell_key.in_(keys) & (table.c.id > last)
        change = update(table).where(since & is_own).values(failure_values(failure))
        yield connection.execute(change).rowcount


def _find_cell(connection: Connection, sweep_id: str, key: str) -> Cell | None:
    """Find a cell and lock it, so that of two writers of one cell the second sees what the first has stored.

    SQLite needs no such lock: it has one writer at a time.
    """
    table = schema.cells
    query = select(table).where((table.c.sweep_id == sweep_id) & (table.c.key == key))
    row = connection.execute(query.with_for_update(key_share=True)).mappings().first()
    return None if row is None else Cell.of_row(row)


def _cell(connection: Connection, sweep_id: str, key: str) -> Cell:
    cell = _find_cell(connection, sweep_id, key)
    if cell is None:
        raise HarnessError(f"Cell {key} of sweep {sweep_id} was never stored.", "This is a fault of harness.")
    return cell
