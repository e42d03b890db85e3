"""Download the official prebuilt binaries, resumably, and register each by the SHA-256 of what came."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool, ToolFamily
from harness.errors import MissingPrerequisiteError, UsageError

_NIGHTLY = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest"
_LITERT = "https://storage.googleapis.com/litert/binaries/2.2.0"
CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 30
ATTEMPTS = 5
_PAUSE_S = 1.0
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Download:
    """One official binary and where it lies. The interpreter's are nightly: an address gives other files later."""

    name: str
    family: ToolFamily
    url: str


DOWNLOADS: tuple[Download, ...] = (
    Download("android-arm64", ToolFamily.INTERPRETER, f"{_NIGHTLY}/android_aarch64_benchmark_model"),
    Download("android-arm", ToolFamily.INTERPRETER, f"{_NIGHTLY}/android_arm_benchmark_model"),
    Download("linux-x86_64", ToolFamily.INTERPRETER, f"{_NIGHTLY}/linux_x86-64_benchmark_model"),
    Download("linux-arm64", ToolFamily.INTERPRETER, f"{_NIGHTLY}/linux_aarch64_benchmark_model"),
    Download("litert-android-arm64", ToolFamily.COMPILED_MODEL, f"{_LITERT}/android_arm64/benchmark_model"),
    Download("litert-linux-x86_64", ToolFamily.COMPILED_MODEL, f"{_LITERT}/linux_x86_64/benchmark_model"),
    Download("litert-linux-arm64", ToolFamily.COMPILED_MODEL, f"{_LITERT}/linux_arm64/benchmark_model"),
)
"""Addresses as Google's documentation gives them (measurement guide of TFLite; benchmark page of LiteRT)."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all, None if the server does not say."""


def find_download(name: str) -> Download:
    """Return a download by name. Raises `UsageError` that lists all."""
    found = next((download for download in DOWNLOADS if download.name == name), None)
    if found is None:
        names = ", ".join(download.name for download in DOWNLOADS)
        raise UsageError(f"There is no official binary {name!r}.", f"Allowed are: {names}.")
    return found


def fetch(download: Download, registry: ToolRegistry, *, progress: Progress = lambda _have, _all: None) -> Tool:
    """Download one binary, resuming an earlier attempt, and register it. Raises `MissingPrerequisiteError`."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = registry.folder / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    downloader = ResumingDownloader(progress)
    try:
        file = pooch.retrieve(download.url, known_hash=None, fname=download.name, path=folder, downloader=downloader)
        (tool,) = registry.add(Path(file), family=download.family, origin=download.url)
    finally:
        (folder / download.name).unlink(missing_ok=True)  # the next fetch asks the server again: "latest" moves
    return tool


class ResumingDownloader:
    """A downloader for pooch that resumes where a broken connection stopped (HTTP range requests, RFC 9110)."""

    def __init__(self, progress: Progress, *, pause_s: float = _PAUSE_S) -> None:
        self._progress = progress
        self._pause_s = pause_s

    def __call__(self, url: str, output_file: str, _pooch: Any, check_only: bool = False) -> None:  # noqa: ANN401
        """Download to `output_file`; the partial file stands next to pooch's own, so that the next try finds it."""
        target = Path(output_file)
        part = target.parent / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
        last_error: Exception | None = None
        for attempt in range(ATTEMPTS):
            time.sleep(self._pause_s * attempt)
            try:
                if self._carry_on(url, part):
                    part.replace(target)
                    part.with_suffix(".version").unlink()
                    return
            except urllib.error.HTTPError as error:
                if error.code == _RANGE_NOT_SATISFIABLE:  # the file changed and is shorter now
                    part.unlink(missing_ok=True)
                elif error.code < 500:  # noqa: PLR2004 - the server's word is final
                    raise _failure(url, error) from error
                last_error = error
            except OSError as error:
                last_error = error
        raise _failure(url, last_error) from last_error

    def _carry_on(self, url: str, part: Path) -> bool:
        """Ask for what is missing; return whether the file is whole now.

        `If-Range` makes the server send the whole file when it is another one already: "latest" moves every night, and
        two halves of two binaries would look like one. What came without a version is never resumed.
        """
        version_file = part.with_suffix(".version")
        version = version_file.read_text() if version_file.exists() else ""
        have = part.stat().st_size if version and part.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - addresses of ours
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as response:  # noqa: S310 - addresses of ours
            if have and response.status != _PARTIAL_CONTENT:
                have = 0  # this server sends the whole again
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            version_file.write_text(_version(response.headers))
            with part.open("ab" if have else "wb") as file:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    have += len(chunk)
                    self._progress(have, total)
        return total is None or have >= total


def _version(headers: Message) -> str:
    """Return what names this very file: its ETag if that is a strong one, else its date, else nothing."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _failure(url: str, error: Exception | None) -> MissingPrerequisiteError:
    return MissingPrerequisiteError(
        f"{url} cannot be downloaded: {error or 'the connection broke again and again'}.",
        "Check the network and run it again: it resumes. Or download it elsewhere and `harness tools add` it.",
    )
