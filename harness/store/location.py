"""Where results are kept: a folder with a SQLite file, or a PostgreSQL database that several hosts share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.store.records import FILE_NAME

if TYPE_CHECKING:
    from sqlalchemy import URL

KINDS = ("sqlite", "postgresql")
_ADVICE = "Give a folder, or a URL such as postgresql+psycopg://USER@HOST/DATABASE."


@dataclass(frozen=True)
class StoreLocation:
    """A store that may or may not be there yet."""

    url: URL
    """Of the database; never to be shown, since it may hold a password."""
    folder: Path
    """Files of this host: next to a SQLite file its raw logs and locks; what a night writes."""
    title: str
    """For people."""

    @property
    def is_shared(self) -> bool:
        """Return True if the database is on a server, where other hosts may use it too."""
        return self.url.get_backend_name() != "sqlite"


def is_url(place: str | Path) -> bool:
    """Return True if a place is a URL, and not a path."""
    return "://" in str(place)


def title_of(place: str | Path) -> str:
    """Return a place for people: never the URL itself, since it may hold a password."""
    return find_location(place).title if is_url(place) else str(place)


def find_location(place: str | Path) -> StoreLocation:
    """Understand a folder, a `.sqlite3` file or a URL. Raises `UsageError`, which never repeats a URL."""
    from sqlalchemy import URL

    if not is_url(place):
        file = Path(place) if Path(place).suffix == ".sqlite3" else Path(place) / FILE_NAME
        return StoreLocation(URL.create("sqlite", database=str(file)), file.parent, str(file.parent))
    url = _parsed(str(place))
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        return StoreLocation(url, file.parent, str(file))
    parts = {name: getattr(url, name) for name in ("drivername", "username", "host", "port", "database")}
    shown = URL.create(**parts).render_as_string()  # without the query: a password may be there too
    server = url.host or "localhost"
    return StoreLocation(url, Path("results") / f"{server}-{url.port or 5432}-{url.database}".replace("/", "_"), shown)


def _parsed(text: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise UsageError("The URL of the results store cannot be understood.", _ADVICE) from None
    if backend not in KINDS:
        raise UsageError(f"Results cannot be kept in a {backend} database.", _ADVICE)
    if not url.database:
        raise UsageError("The URL of the results store names no database.", _ADVICE)
    return url
