"""Logging under the name `harness`: to stderr on request, to one file per sweep, and never with a secret."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_NAME = "harness.log"
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_HIDDEN = "[hidden]"
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]*@")
_NAMED_SECRET = re.compile(r"(?i)\b(password|passwd|passfile|token|secret|api_?key)=[^&\s'\"]+")
_SECRET_VARIABLE = re.compile(r"HARNESS_.*(WEBHOOK|TOKEN|SECRET|PASSWORD|KEY)|PGPASSWORD")
_registered: set[str] = set()


def hide_in_logs(secret: str) -> None:
    """Keep a value, such as a webhook's URL, out of every log."""
    _registered.add(secret)


def redact(text: str) -> str:
    """Return text without passwords in URLs, registered values, and the values of secret variables."""
    variables = {value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)}
    for secret in sorted(filter(None, variables | _registered), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", text)
    return _NAMED_SECRET.sub(rf"\1={_HIDDEN}", text)


class RedactingFormatter(logging.Formatter):
    """Redacts whole entries: a filter would miss tracebacks and arguments."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one entry without secrets."""
        return redact(super().format(record))


class _Forward(logging.Handler):
    """Passes records to the program's own handlers at the level that the program chose."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().callHandlers(record)


def log_to_stderr(verbosity: int) -> None:
    """Log decisions (1) or also every ADB call (2 and more) to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(_FORMAT))
    handler.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    logger = logging.getLogger("harness")
    logger.addHandler(handler)
    logger.setLevel(handler.level)


@contextmanager
def log_to_folder(folder: Path) -> Iterator[None]:
    """Append everything to `harness.log` in a sweep's folder; a folder that cannot be written gets no log."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / LOG_NAME, encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(RedactingFormatter(_FORMAT))
    logger = logging.getLogger("harness")
    level, propagates = logger.level, logger.propagate
    forward = _Forward(logger.getEffectiveLevel())
    added = [handler, forward] if propagates else [handler]
    for each in added:
        logger.addHandler(each)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagates
        for each in added:
            logger.removeHandler(each)
        handler.close()
