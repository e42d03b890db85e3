"""What a database's errors mean, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from harness.errors import HarnessError, UsageError

_ELSEWHERE = "Check the folder's permissions, or choose another: --results."
_FREE_SPACE = "start the same sweep with --resume; everything stored before is kept."
_RIGHTS = "Ask its administrator for the right to write, or choose another store: --results."
_ANSWERS = "Check that the server runs and that its name and port are right (docs/store.md)."

_EXPLANATIONS: tuple[tuple[str, type[HarnessError], str, str], ...] = (
    # SQLite
    ("is not a database", UsageError, "is not a results store", "Choose another folder with --results."),
    ("unable to open", UsageError, "cannot be opened", _ELSEWHERE),
    ("readonly", UsageError, "cannot be written", _ELSEWHERE),
    ("is full", HarnessError, "cannot grow", f"Free space on this host, then {_FREE_SPACE}"),
    ("malformed", HarnessError, "is damaged", "The raw logs next to it are intact; restore the file from a copy."),
    ("locked", HarnessError, "is in use", "Wait for the other command to end, then try again."),
    # PostgreSQL: SQLSTATEs where it gives one, and what its client says where it could not connect
    ("password authentication failed", UsageError, "refused the password", "Fix PGPASSWORD, ~/.pgpass or the URL."),
    ("no password supplied", UsageError, "asks for a password", "Give it by PGPASSWORD or ~/.pgpass (docs/store.md)."),
    ("pg_hba.conf", UsageError, "does not let this host in", "Its administrator allows hosts in pg_hba.conf."),
    ('" does not exist', UsageError, "is not there", "Make it with createuser or createdb (docs/store.md)."),
    ("resolve host", UsageError, "is on a host that is not known", _ANSWERS),
    ("connection failed", HarnessError, "does not answer", _ANSWERS),
    ("connection is bad", HarnessError, "does not answer", _ANSWERS),
    ("timeout expired", HarnessError, "does not answer", _ANSWERS),
    ("SQLSTATE 25006", UsageError, "cannot be written", "Name the server that is written to, not one that copies it."),
    ("SQLSTATE 42501", UsageError, "does not let this user in", _RIGHTS),
    ("SQLSTATE 53100", HarnessError, "cannot grow", f"Free space on its server, then {_FREE_SPACE}"),
    ("SQLSTATE 53300", HarnessError, "has too many users", "Raise max_connections of its server, or try again later."),
    ("SQLSTATE 22P05", UsageError, "cannot hold every text", "Make a database with --encoding UTF8 (docs/store.md)."),
    ("SQLSTATE 57P", HarnessError, "was shut down", _ANSWERS),
)
"""A sign in what the database says, and what that means: kind of error, sentence, advice."""

_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK = "23505", "40001", "40P01"
_GOING_AWAY = ("08", "57P", "53300")
"""SQLSTATEs, or how they begin: connection exceptions, a server that stops or starts, too many connections."""


@contextmanager
def explained(title: str) -> Iterator[None]:
    """Turn a store's errors into `HarnessError`s with advice; whatever was committed before stays committed."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _explain(error, title) from error


def _explain(error: SQLAlchemyError, title: str) -> HarnessError:
    cause = str(getattr(error, "orig", None) or error).split("\n", maxsplit=1)[0].removesuffix(".")
    signs = f"SQLSTATE {_sqlstate(error)}: {cause}"
    for sign, kind, sentence, advice in _EXPLANATIONS:
        if sign in signs:
            return kind(f"{title} {sentence}: {cause}.", advice)
    if is_lost(error):
        return HarnessError(
            f"{title} was lost: {cause}.", "When it answers again, start the same sweep with --resume; nothing is lost."
        )
    return HarnessError(
        f"The results store {title} failed: {cause}.", "Check its disk; everything stored before is kept."
    )


def is_lost(error: SQLAlchemyError) -> bool:
    """Return True if the server went away, or could not be reached."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = _sqlstate(error)
    return isinstance(error, OperationalError) and (not state or state.startswith(_GOING_AWAY))


def is_conflict(error: SQLAlchemyError) -> bool:
    """Return True if another writer was faster, so that the same transaction may succeed when it is made again."""
    return _sqlstate(error) in (_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK)


def _sqlstate(error: SQLAlchemyError) -> str:
    """Return the five characters that PostgreSQL gives; none with SQLite, or where there was no connection."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
