"""Fixtures for all tests: an adb server of their own, the official tools, virtual phones.

In CI a phone or tool that cannot be had is a failure; elsewhere the test is skipped with a sentence that says what is
missing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock
from hypothesis import settings
from postgresql_server import PostgresqlServer, postgresql_server, programs_folder
from published_schemas import check_output

settings.register_profile("harness", deadline=None)  # timing never decides a test
settings.load_profile("harness")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_ARCHIVES = REPOSITORY.parent / "shared" / "tflite-tools"
OFFICIAL_TOOLS = os.environ.pop("HARNESS_TFLITE_TOOLS", None) or os.environ.get("HARNESS_TEST_TOOLS")
"""Taken out of the environment, so that the tests have no tools but those that they register."""
if OFFICIAL_TOOLS:
    os.environ["HARNESS_TEST_TOOLS"] = OFFICIAL_TOOLS  # the processes of pytest-xdist inherit this environment
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def give_up(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; in CI, where everything must be there, fail it."""
    if IN_CI:
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


DEVICE_FIXTURES = {"phone_ready", "official_tools"}
HOST_FIXTURES = {"postgresql", "harness_cli"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test as host or device by what it needs; a unit test has no mark, a long one marks itself slow."""
    for item in items:
        needs = set(getattr(item, "fixturenames", ()))
        marks = {mark.name for mark in item.iter_markers()}
        if needs & DEVICE_FIXTURES or marks & {"virtual_phone", "official_tool"}:
            item.add_marker(pytest.mark.device)
        elif needs & HOST_FIXTURES or "training" in marks:
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session")
def must_have() -> Callable[[str], NoReturn]:
    """What a fixture calls that finds something missing on this machine."""
    return give_up


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def real_cache() -> Path:
    """The cache folder that outlives the tests: the phone's root folder and the unpacked tools are kept there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory, real_cache: Path) -> Iterator[None]:
    """Give every test process its own cache, home, results and adb server, so that nothing of the user's is touched."""
    folder = tmp_path_factory.mktemp("environment")
    base_images = real_cache / "virtual-phone"
    base_images.mkdir(exist_ok=True)
    cache = folder / "cache"
    (cache / "virtual-phone").mkdir(parents=True)
    settings = {
        "HARNESS_CACHE": str(cache),
        "HARNESS_RESULTS": str(folder / "results"),
        "HARNESS_BASE_IMAGES": str(base_images),
        "HARNESS_LEASES": str(folder),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "ANDROID_ADB_SERVER_PORT": str(_free_port()),
        "ADB_MDNS": "0",
        "ADB_EMU": "0",
    }
    for name in ("ANDROID_SERIAL", "ANDROID_ADB_SERVER_ADDRESS", "ADB_VENDOR_KEYS"):
        os.environ.pop(name, None)
    os.environ.update(settings)
    yield
    if adb := _adb():
        subprocess.run([adb, "kill-server"], timeout=20, capture_output=True, check=False)


def _adb() -> str | None:
    from harness.devices.adb.server import adb_program
    from harness.errors import HarnessError

    try:
        return adb_program()
    except HarnessError:
        return None


@pytest.fixture(scope="session")
def adb() -> str:
    """The adb program, for what the tests do behind harness's back."""
    return _adb() or give_up("the program adb (Debian: apt install adb)")


@pytest.fixture(scope="session")
def official_tools(real_cache: Path) -> Path:
    """The unpacked official tools: `$HARNESS_TFLITE_TOOLS` (folder or archive), or the archive beside the checkout."""
    given = OFFICIAL_TOOLS
    found = Path(given) if given else next(iter(sorted(SHARED_ARCHIVES.glob("tflite-tools-*.tar.xz"))), None)
    if found is None or not found.exists():
        give_up("the official tools: set HARNESS_TFLITE_TOOLS to their folder or archive (docs/building-tools.md)")
    if found.is_dir():
        return found
    target = real_cache / found.name.removesuffix(".tar.xz")
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            half = Path(f"{target}.part")
            shutil.rmtree(half, ignore_errors=True)
            with tarfile.open(found) as archive:
                archive.extractall(half, filter="tar")
            half.rename(target)
    (inside,) = target.iterdir()
    return inside


@pytest.fixture(scope="session")
def phone_ready() -> None:
    """Make sure that a virtual phone can be built here."""
    from harness.errors import HarnessError
    from harness.virtual_phone.base_image import base_image

    try:
        base_image()
    except HarnessError as error:
        give_up(f"a virtual phone: {error} {error.advice}")


@pytest.fixture
def start_phone(phone_ready: None, adb: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., object]]:
    """Start virtual phones for one test; each is connected to the tests' adb server unless `connect=False`."""
    from harness.devices.adb.discovery import connect as connect_to
    from harness.devices.adb.discovery import disconnect
    from harness.virtual_phone.phone import VirtualPhone

    phones: list[VirtualPhone] = []

    def start(name: str | None = None, *, connect: bool = True, **options: object) -> VirtualPhone:
        phone = VirtualPhone.start(name or f"test-{os.getpid()}-{len(phones)}", owned=True, **options)  # type: ignore[arg-type]
        phones.append(phone)
        if connect:
            connect_to(phone.serial)
        return phone

    yield start
    for phone in phones:
        if phone.running:
            disconnect(phone.serial)
        phone.stop()


@pytest.fixture(scope="module")
def virtual_phone(phone_ready: None, adb: str, official_tools: Path) -> Iterator[object]:
    """One running phone for a module's tests, dressed as a Pixel 8, with the official tools as its vendor partition."""
    from harness.devices.adb.discovery import connect, disconnect
    from harness.virtual_phone.phone import virtual_phone as run_phone

    with run_phone(f"module-{os.getpid()}", vendor=official_tools) as phone:
        connect(phone.serial)
        yield phone
        disconnect(phone.serial)


@pytest.fixture
def registered_tools(official_tools: Path) -> Path:
    """Register the official tools with harness, for the length of one test."""
    from harness.benchmark.registry import ToolRegistry

    registry = ToolRegistry()
    registry.add(official_tools)
    yield registry.folder
    shutil.rmtree(registry.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL server; a test that stops it starts it again."""
    if programs_folder() is None:
        give_up("PostgreSQL's server (Debian: apt install postgresql)")
    with postgresql_server() as server:
        yield server


@pytest.fixture
def shared_store_url(postgresql: PostgresqlServer) -> Iterator[str]:
    """The URL of an empty database on a real server, for one test."""
    name = f"store_{secrets.token_hex(8)}"
    yield postgresql.new_database(name)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def harness_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the console program as a user does, in a folder of its own; JSON must be what docs/schemas say."""

    def run(*arguments: str, timeout_s: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160", **environment},
            timeout=timeout_s,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        check_output(arguments, finished.stdout)
        return finished

    return run
