"""The tools registered on this host: added once, identified by the SHA-256 of their binary, chosen by ABI."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from harness.benchmark.failures import find_failure
from harness.benchmark.litert_python.program import installed_tool
from harness.benchmark.log_lines import split_lines
from harness.benchmark.program import program_of, program_of_family
from harness.benchmark.tool import Binary, Tool, ToolFamily, ToolSystem, read_binary
from harness.devices.device import Device, DeviceFacts, DeviceKind
from harness.errors import DeviceError, Failure, FailureClass, FailureError, UsageError
from harness.files import FULL, sha256_of
from harness.paths import cache_folder

TOOLS_VARIABLE = "HARNESS_TFLITE_TOOLS"
"""Names the folder or archive of the official tools."""
_INDEX = "tools.json"
_LOCK_TIMEOUT_S = 30
_UNPACK_TIMEOUT_S = 600
"""Longer than the slowest disk needs: another process or phone unpacks."""
_BUNDLE_PROGRAM = "benchmark_model_verbose"
"""The program of a bundle that logs at Android's level, and so says how many nodes a delegate took."""


class ToolRegistry:
    """A folder with the binaries and an index of them. Safe to use from several processes."""

    def __init__(self, folder: Path | None = None, *, report: Callable[[str], None] = lambda _: None) -> None:
        """`report` says what takes long."""
        self.folder = folder or cache_folder() / "tools"
        self._report = report

    def tools(self) -> list[Tool]:
        """Return all registered tools, and those of `$HARNESS_TFLITE_TOOLS`, which are registered at their first use.

        Raises `UsageError` if the index or what the variable names cannot be read.
        """
        known = self._registered()
        if (named := os.environ.get(TOOLS_VARIABLE)) is None:
            return known
        path = Path(named)
        if not path.exists():
            raise UsageError(
                f"Cannot find the tools in {TOOLS_VARIABLE}: {path} does not exist.",
                "Set it to the folder or archive of the official tools, or unset it.",
            )
        if self._holds(known, path):
            return known
        with self._locked(".registering.lock", _UNPACK_TIMEOUT_S):  # the phones of a sweep all ask at once
            if not self._holds(self._registered(), path):
                self._report(f"Registering the tools of {TOOLS_VARIABLE} (once).")
                self.add(path)
        return self._registered()

    def _holds(self, known: Iterable[Tool], path: Path) -> bool:
        """Return True if the tools at a path are registered, and the path has not changed since."""
        origin = str(path.resolve())
        return any(tool.origin == origin and tool.path.is_file() for tool in known) and (
            path.stat().st_mtime <= (self.folder / _INDEX).stat().st_mtime
        )

    def _registered(self) -> list[Tool]:
        index = self.folder / _INDEX
        if not index.exists():
            return []
        try:
            return [Tool.model_validate(entry) for entry in json.loads(index.read_text())]
        except ValueError as error:
            raise UsageError(
                f"The index of tools {index} cannot be read.",
                "Remove it and add the tools again with `harness tools add`.",
            ) from error

    def add(self, path: Path, *, family: str | None = None, origin: str | None = None) -> list[Tool]:
        """Register a benchmark_model binary, or a bundle (folder or archive) with one for this host and virtual phones.

        Raises `UsageError` for what is neither.
        """
        if not path.exists():
            raise UsageError(f"{path}: no such file.", "Name a benchmark_model binary or an archive of tools.")
        origin = origin or str(path.resolve())
        if path.is_dir():
            return self._store(self._bundle_tools(path.resolve(), origin))
        if tarfile.is_tarfile(path):
            return self._store(self._archived_tools(path, origin))
        return self._store([self._single_tool(path, family or ToolFamily.INTERPRETER, origin)])

    def remove(self, sha256_prefix: str) -> Tool:
        """Forget one tool, and delete what the registry holds of it. Raises `UsageError` as `find` does."""
        tool = self.find(sha256_prefix)
        with self._locked():
            left = [other for other in self._registered() if other.sha256 != tool.sha256]
            self._write(left)
            places = (self.folder, self.folder / "bundles")
            kept = next((folder for folder in tool.path.parents if folder.parent in places), None)
            if kept and not any(other.path.is_relative_to(kept) for other in left):
                shutil.rmtree(kept, ignore_errors=True)
        return tool

    def find(self, text: str) -> Tool:
        """Return the one tool whose SHA-256 starts with, or whose name is, `text`."""
        found = [tool for tool in self.tools() if tool.sha256.startswith(text) or tool.name == text]
        if not found:
            raise UsageError(f"No tool is called {text!r}.", "`harness tools list` shows all.")
        if len(found) > 1:
            hashes = ", ".join(f"{tool.sha256[:12]} ({tool.system})" for tool in found)
            raise UsageError(f"{len(found)} tools match {text!r}.", f"Name one by its SHA-256: {hashes}.")
        return found[0]

    def remember_flags(self, tool: Tool, flags: Iterable[str]) -> Tool:
        """Store what `--help` listed, so that a binary is asked once."""
        probed = tool.model_copy(update={"flags": frozenset(flags)})
        self._store([probed])
        return probed

    def choose(self, facts: DeviceFacts) -> Tool:
        """Return the tool for a device. Raises `DeviceError` if there is none (`tool_missing`) or of no ABI that fits.

        A host without a registered tool is measured with LiteRT's own Python benchmark.
        """
        system = {DeviceKind.HOST: ToolSystem.LINUX, DeviceKind.VIRTUAL: ToolSystem.VIRTUAL_PHONE}.get(
            facts.kind, ToolSystem.ANDROID
        )
        tools = [tool for tool in self.tools() if tool.system is system]
        for abi in facts.executable_abis:  # best first
            fitting = [tool for tool in tools if tool.abi == abi]
            if fitting:
                return _present(min(fitting, key=lambda tool: tool.family != ToolFamily.INTERPRETER))
        if facts.kind is DeviceKind.HOST:
            return installed_tool()
        if not tools:
            raise no_tool_for(system, f"No registered tool runs on {facts.title}: none is built for {system}.")
        wanted = ", ".join(facts.executable_abis) or "an unknown ABI"
        registered = ", ".join(sorted({f"{tool.abi} ({tool.system})" for tool in self.tools()})) or "none"
        raise DeviceError(
            Failure(
                FailureClass.WRONG_ABI,
                f"No registered tool runs on {facts.title}: it needs {wanted} for {system}; registered: {registered}.",
                "run `harness tools fetch`, or `harness tools add PATH`",
            )
        )

    def _single_tool(self, path: Path, family: str, origin: str) -> Tool:
        binary = read_binary(path)
        sha256 = sha256_of(path)
        stored = self.folder / sha256 / program_of_family(family).name
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, stored)
        stored.chmod(0o755)
        system = ToolSystem.ANDROID if binary.android else ToolSystem.LINUX
        return Tool(
            name=path.name, family=family, system=system, abi=binary.abi, sha256=sha256, path=stored, origin=origin
        )

    def _bundle_tools(self, folder: Path, origin: str) -> list[Tool]:
        """Return a bundle's tools: `NAME` + `NAME.bin` for this host, `phone/NAME` for a virtual phone."""
        inside = list(folder.iterdir())
        if len(inside) == 1 and inside[0].is_dir():  # an archive holds one folder
            folder = inside[0]
        host, phone = folder / _BUNDLE_PROGRAM, folder / "phone" / _BUNDLE_PROGRAM
        if not phone.is_file() or not host.with_suffix(".bin").is_file():
            raise UsageError(
                f"{origin} holds no {_BUNDLE_PROGRAM}: it is not a bundle of the official tools.",
                "Name a benchmark_model binary, or the folder that holds phone/benchmark_model_verbose.",
            )
        phone_binary: Binary = read_binary(phone)
        on_host = Tool(
            name=host.name,
            family=ToolFamily.INTERPRETER,
            system=ToolSystem.LINUX,
            abi=read_binary(host.with_suffix(".bin")).abi,
            sha256=sha256_of(host.with_suffix(".bin")),
            path=host,
            origin=origin,
        )
        on_phone = Tool(
            name=phone.name,
            family=ToolFamily.INTERPRETER,
            system=ToolSystem.VIRTUAL_PHONE,
            abi=phone_binary.abi,
            sha256=sha256_of(phone),
            path=phone,
            vendor_folder=folder,
            origin=origin,
        )
        return [on_host, on_phone]

    def _archived_tools(self, archive: Path, origin: str) -> list[Tool]:
        folder = self._unpack(archive)
        try:
            return self._bundle_tools(folder, origin)
        except UsageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _unpack(self, archive: Path) -> Path:
        """Unpack an archive under its own hash and return the folder."""
        target = self.folder / "bundles" / sha256_of(archive)
        with self._locked(".unpacking.lock", _UNPACK_TIMEOUT_S):
            if target.is_dir():
                return target
            self._report(f"Unpacking {archive} (once, about 20 s).")
            half = target.with_name(f"{target.name}.part")
            shutil.rmtree(half, ignore_errors=True)  # of a process that was killed
            try:
                half.mkdir(parents=True)
                with tarfile.open(archive) as tar:
                    tar.extractall(half, filter="data")  # filter: neither files nor links lead outside
                half.rename(target)
            except (tarfile.TarError, OSError, EOFError) as error:
                shutil.rmtree(half, ignore_errors=True)
                is_full = isinstance(error, OSError) and error.errno in FULL
                advice = f"Free space in {self.folder}." if is_full else "Download it again."
                raise UsageError(f"{archive} cannot be unpacked: {error}.", advice) from error
        return target

    def _store(self, added: list[Tool]) -> list[Tool]:
        with self._locked():
            hashes = {tool.sha256 for tool in added}
            self._write([tool for tool in self._registered() if tool.sha256 not in hashes] + added)
        return added

    def _write(self, tools: list[Tool]) -> None:
        part = self.folder / f"{_INDEX}.{os.getpid()}.part"
        part.write_text(json.dumps([json.loads(tool.model_dump_json()) for tool in tools], indent=1))
        part.replace(self.folder / _INDEX)

    def _locked(self, name: str = ".lock", timeout_s: float = _LOCK_TIMEOUT_S) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / name, timeout=timeout_s)


_HOW_TO_GET = {
    ToolSystem.ANDROID: "Run `harness tools fetch android-arm64`, or `harness tools add PATH`.",
    ToolSystem.VIRTUAL_PHONE: (
        f"Run `harness tools add ARCHIVE` with the archive of the official tools, or set {TOOLS_VARIABLE} to it."
    ),
}


def no_tool_for(system: ToolSystem, message: str) -> DeviceError:
    """Return the error for a device of a kind that no tool is registered for."""
    return DeviceError(Failure(FailureClass.TOOL_MISSING, message), _HOW_TO_GET.get(system, ""))


def _present(tool: Tool) -> Tool:
    """Return a tool whose file is still there; one added as a folder stays where the user has it."""
    if tool.path.is_file():
        return tool
    name = tool.sha256[:12]
    raise DeviceError(
        Failure(FailureClass.TOOL_MISSING, f"The registered tool {name} is no longer at {tool.path}.", f"tool {name}"),
        f"Run `harness tools remove {name}`, then `harness tools add` with where it is now.",
    )


PROBE_TIMEOUT_S = 30.0


def with_flags(tool: Tool, registry: ToolRegistry, device: Device, tool_path: str) -> Tool:
    """Return the tool with its flags: a binary that was never asked for them is asked now. Raises `FailureError`."""
    return tool if tool.flags is not None else registry.remember_flags(tool, probe_flags(device, tool, tool_path))


def probe_flags(device: Device, tool: Tool, tool_path: str) -> frozenset[str]:
    """Run `--help` on a device (exit code 1 is normal there). Raises `FailureError` if it lists no flags."""
    program = program_of(tool)
    command = [*(tool.launcher or (tool_path,)), "--help"]
    environment = program.environment(tool, tool_path)
    result = device.run(command, timeout_s=PROBE_TIMEOUT_S, environment=environment or None)
    told = result.stdout + "\n" + result.stderr
    if flags := program.probe(told):
        return flags
    raise FailureError(
        find_failure(split_lines(told))
        or Failure(
            FailureClass.TOOL_OUTPUT_UNREADABLE,
            f"{tool.name} does not answer --help like a {program.name} (exit code {result.exit_code}).",
            (result.stderr or result.stdout)[-400:],
        )
    )
