"""What every kind of source needs: contents as bytes, their digest, and errors with the reason."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from collections.abc import Iterable
from pathlib import Path

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.flatbuffer import MAX_BYTES


def read_source_file(path: Path) -> bytes:
    """Return the content. Raises `CompressionError` (invalid_model) with the reason."""
    try:
        require_bounded(path.stat().st_size, path)
        content = path.read_bytes()
    except OSError as error:
        raise invalid_model(f"{path}: the model file cannot be read ({error.strerror}).") from error
    if not content:
        raise invalid_model(f"{path} is empty.")
    return content


def require_bounded(size: int, path: Path) -> None:
    """Raise `CompressionError` (invalid_model) for more bytes than any `.tflite` file can have."""
    if size > MAX_BYTES:
        raise invalid_model(f"{path} has {size} bytes; models of more than 2 GiB cannot become a .tflite file.")


def require_bounded_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise `CompressionError` (invalid_model) for an archive that unpacks to too much, before unpacking it."""
    require_bounded(sum(entry.file_size for entry in archive.infolist()), path)


def digest_of_files(folder: Path, files: Iterable[Path]) -> str:
    """Return the SHA-256 over paths relative to `folder` and contents, in the order of the paths.

    Each path and each content is preceded by its length, so that no two sets of files give the same bytes.
    Raises `CompressionError` (invalid_model) for what cannot be read.
    """
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise invalid_model(f"{path}: cannot be read ({error.strerror}).") from error
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def invalid_model(message: str, error: BaseException | None = None) -> CompressionError:
    """Return the error for a model that is missing, cut short or something else than its name says."""
    return CompressionError(Failure(FailureClass.INVALID_MODEL, message, "" if error is None else str(error)))


def conversion_failed(message: str, evidence: str = "") -> CompressionError:
    """Return the error for a model that is whole and that a converter refuses all the same."""
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message, evidence))


def require_extra(package: str, extra: str, what: str) -> None:
    """Raise `CompressionError` with the pip command if an extra's package (an import name) is missing."""
    if importlib.util.find_spec(package) is None:
        raise conversion_failed(
            f"{what} needs the package {package}, which is not installed: pip install 'harness[{extra}]'."
        )
