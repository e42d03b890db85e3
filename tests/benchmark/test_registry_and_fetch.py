"""The registry of tools, reading binaries, downloading, probing."""

import errno
import http.server
import json
import os
import shutil
import struct
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from harness.benchmark.benchmark_model.program import flags_in_help
from harness.benchmark.download import Download, ResumingDownloader, fetch
from harness.benchmark.registry import TOOLS_VARIABLE, ToolRegistry, probe_flags
from harness.benchmark.tool import ToolFamily, ToolSystem, read_binary
from harness.devices.device import DeviceFacts, DeviceKind
from harness.devices.host import HostDevice
from harness.errors import DeviceError, FailureClass, MissingPrerequisiteError, UsageError


def elf(machine, extra=b""):
    return struct.pack("<4sBB10xHH", b"\x7fELF", 2, 1, 3, machine) + b"\0" * 200 + extra


ANDROID_ARM64 = elf(183, b"/system/bin/linker64\0")


@pytest.fixture
def registry(tmp_path):
    return ToolRegistry(tmp_path / "tools")


@pytest.fixture
def android_tool(tmp_path):
    file = tmp_path / "android_aarch64_benchmark_model"
    file.write_bytes(ANDROID_ARM64)
    return file


def facts(kind=DeviceKind.PHONE, abis=("arm64-v8a",)):
    return DeviceFacts("S1", kind, model="Pixel", abis=abis, executable_abis=abis)


def test_a_binary_is_known_by_its_header(tmp_path):
    file = tmp_path / "b"
    for machine, abi in ((183, "arm64-v8a"), (40, "armeabi-v7a"), (62, "x86_64"), (3, "x86")):
        file.write_bytes(elf(machine))
        assert read_binary(file).abi == abi
        assert not read_binary(file).android
    file.write_bytes(ANDROID_ARM64)
    assert read_binary(file).android


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04apk", b"\x7fEL", elf(9999)])
def test_what_is_no_tool_is_refused(tmp_path, registry, content):
    file = tmp_path / "benchmark_model"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        registry.add(file)
    assert str(file) in str(caught.value)
    assert registry.tools() == []


def test_add_choose_remember_remove(registry, android_tool):
    (tool,) = registry.add(android_tool)
    assert (tool.abi, tool.system, tool.family) == ("arm64-v8a", ToolSystem.ANDROID, ToolFamily.INTERPRETER)
    android_tool.unlink()
    assert tool.path.read_bytes() == ANDROID_ARM64
    assert registry.choose(facts()) == tool
    assert registry.remember_flags(tool, {"graph"}).flags == {"graph"}
    assert ToolRegistry(registry.folder).find(tool.sha256[:8]).flags == {"graph"}
    registry.remove(tool.sha256)
    assert registry.tools() == []
    assert not tool.path.exists()


def test_a_tool_that_is_gone_is_told(registry, android_tool):
    (tool,) = registry.add(android_tool)
    tool.path.unlink()
    with pytest.raises(DeviceError, match="no longer at") as caught:
        registry.choose(facts())
    assert tool.sha256[:12] in caught.value.failure.evidence


def test_adding_twice_keeps_one(registry, android_tool):
    registry.add(android_tool)
    registry.add(android_tool)
    assert len(registry.tools()) == 1


def test_no_tool_for_the_abi_names_the_abi_and_what_to_do(registry, android_tool):
    registry.add(android_tool)
    with pytest.raises(DeviceError) as caught:
        registry.choose(facts(abis=("armeabi-v7a", "armeabi")))
    assert caught.value.failure.failure_class is FailureClass.WRONG_ABI
    assert "armeabi-v7a" in str(caught.value)
    assert "harness tools" in caught.value.failure.evidence


def test_an_emulator_and_a_virtual_phone_do_not_share_tools(registry, android_tool):
    registry.add(android_tool)
    assert registry.choose(facts(DeviceKind.EMULATOR)).system is ToolSystem.ANDROID
    with pytest.raises(DeviceError):
        registry.choose(facts(DeviceKind.VIRTUAL))


def test_a_host_without_a_tool_is_measured_with_litert(registry):
    tool = registry.choose(facts(DeviceKind.HOST, abis=("x86_64",)))
    assert tool.family == ToolFamily.LITERT_PYTHON
    assert "ai-edge-litert" in tool.name


def test_a_broken_index_is_told(registry, android_tool):
    registry.add(android_tool)
    (registry.folder / "tools.json").write_text("{")
    with pytest.raises(UsageError, match="index of tools"):
        registry.tools()


def test_names_of_files_survive(tmp_path, registry):
    file = tmp_path / "tool $(touch x) 'ü' \"q\": a,b"
    file.write_bytes(ANDROID_ARM64)
    assert registry.add(file)[0].name == file.name


@pytest.mark.official_tool
def test_a_bundle_gives_a_host_tool_and_a_phone_tool(registry, official_tools):
    tools = registry.add(official_tools)
    assert {tool.system for tool in tools} == {ToolSystem.LINUX, ToolSystem.VIRTUAL_PHONE}
    assert registry.choose(facts(DeviceKind.VIRTUAL, abis=("x86_64",))).vendor_folder == official_tools


def pack_tools(tmp_path):
    """Return an archive of tools as small as they can be."""
    bundle = tmp_path / "tools-1"
    (bundle / "phone").mkdir(parents=True)
    for name, extra in (("benchmark_model_verbose.bin", b"host"), ("phone/benchmark_model_verbose", b"phone")):
        (bundle / name).write_bytes(elf(62, extra))
    (bundle / "benchmark_model_verbose").write_text("#!/bin/sh\n")
    archive = tmp_path / "tools-1.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(bundle, "tools-1")
    return archive


def test_an_archive_is_unpacked_once_and_goes_with_its_last_tool(registry, tmp_path):
    archive = pack_tools(tmp_path)
    tools = registry.add(archive)
    assert registry.add(archive) == tools
    assert all(tool.path.is_relative_to(registry.folder) for tool in tools)
    registry.remove(tools[0].sha256)
    assert tools[1].path.exists()
    registry.remove(tools[1].sha256)
    assert list((registry.folder / "bundles").iterdir()) == []


def test_phones_that_start_at_once_unpack_the_named_tools_once(tmp_path, monkeypatch):
    monkeypatch.setenv(TOOLS_VARIABLE, str(pack_tools(tmp_path)))
    said = []
    start = threading.Barrier(8)

    def ask(_):
        start.wait()
        return ToolRegistry(tmp_path / "registry", report=said.append).tools()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert all(len(tools) == 2 and tools == found[0] for tools in found)
    assert [text.split()[0] for text in said] == ["Registering", "Unpacking"]


def test_a_folder_of_the_users_stays_when_its_tool_is_forgotten(registry, tmp_path, android_tool):
    (tool,) = registry.add(android_tool)
    registry.remove(tool.sha256)
    assert android_tool.exists()


@pytest.mark.parametrize("member", ["../outside", "/tmp/outside", "link"])
def test_an_archive_that_reaches_outside_its_folder_is_refused(registry, tmp_path, member):
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo(member)
        if member == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(UsageError, match=r"evil\.tar"):
        registry.add(archive)
    assert registry.tools() == []
    assert [
        path for path in registry.folder.rglob("*") if path.suffix != ".lock" and path.name not in (".lock", "bundles")
    ] == []


def test_a_full_disk_is_no_reason_to_download_again(registry, tmp_path, monkeypatch):
    archive = tmp_path / "tools.tar"
    with tarfile.open(archive, "w"):
        pass
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(tarfile.TarFile, "extractall", Mock(side_effect=full))
    with pytest.raises(UsageError, match="No space left on device") as raised:
        registry.add(archive)
    assert raised.value.advice == f"Free space in {registry.folder}."


def test_a_cut_archive_is_refused_and_leaves_nothing(registry, tmp_path):
    whole = tmp_path / "whole.tar"
    (tmp_path / "content").write_bytes(bytes(100_000))
    with tarfile.open(whole, "w") as tar:
        tar.add(tmp_path / "content", "content")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:50_000])
    with pytest.raises(UsageError, match="cannot be unpacked"):
        registry.add(cut)
    assert list((registry.folder / "bundles").iterdir()) == []


def test_processes_that_add_at_once_lose_nothing(registry, tmp_path):
    files = []
    for number in range(8):
        files.append(tmp_path / f"tool{number}")
        files[-1].write_bytes(ANDROID_ARM64 + bytes([number]))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: ToolRegistry(registry.folder).add(file), files))
    assert {tool.name for tool in registry.tools()} == {file.name for file in files}


@pytest.mark.official_tool
def test_probing_the_official_tool_lists_its_flags(registry, official_tools):
    host = next(tool for tool in registry.add(official_tools) if tool.system is ToolSystem.LINUX)
    flags = probe_flags(HostDevice(), host, str(host.path))
    assert {"graph", "use_gpu", "use_xnnpack", "input_layer_value_files", "output_filepath"} <= flags
    assert "result_file_path" not in flags


def test_a_folder_that_is_no_bundle_is_refused(registry, tmp_path):
    with pytest.raises(UsageError, match="no benchmark_model_verbose"):
        registry.add(tmp_path)


def test_help_is_read_in_the_tools_own_form():
    text = (
        "Flags:\n\t--num_runs=50    \tint32\toptional\texpected\n\t--graph=   \tstring\toptional\tname --use_gpu=true\n"
    )
    assert flags_in_help(text) == {"num_runs", "graph"}


# -- downloading --


class Server:
    """A local web server that cuts the connection in the middle of the first answers."""

    def __init__(self, content, *, cuts=0, ranges=True, status=200, version='"1"'):
        outer = self
        self.requests = []
        self.content, self.version = content, version

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.headers.get("Range"))
                if status != 200:
                    self.send_error(status)
                    return
                asked = self.headers.get("Range")
                same = self.headers.get("If-Range") == outer.version
                start = int(asked[6:-1]) if asked and ranges and same else 0
                body = outer.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                if outer.version:
                    self.send_header("ETag", outer.version)
                self.end_headers()
                if len(outer.requests) <= cuts:
                    body = body[: len(body) // 2]
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/benchmark_model"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


CONTENT = ANDROID_ARM64 + bytes(range(256)) * 2000


def download(url):
    return Download("android-arm64", ToolFamily.INTERPRETER, url)


def test_fetch_registers_what_came_with_its_origin(serve, registry):
    server = serve(CONTENT)
    seen = []
    tool = fetch(download(server.url), registry, progress=lambda have, total: seen.append((have, total)))
    assert tool.path.read_bytes() == CONTENT
    assert tool.origin == server.url
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert json.loads((registry.folder / "tools.json").read_text())[0]["sha256"] == tool.sha256


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_carried_on(serve, registry, tmp_path, ranges):
    server = serve(CONTENT, cuts=2, ranges=ranges)
    target = tmp_path / "out"
    ResumingDownloader(lambda _have, _all: None, pause_s=0)(server.url, str(target), None)
    assert target.read_bytes() == CONTENT
    assert server.requests[0] is None
    assert server.requests[1] == f"bytes={len(CONTENT) // 2}-"


def downloaded(server, target):
    ResumingDownloader(lambda _have, _all: None, pause_s=0)(server.url, str(target), None)
    return target.read_bytes()


def test_what_an_earlier_try_left_is_carried_on(serve, tmp_path):
    server = serve(CONTENT, cuts=7)
    with pytest.raises(MissingPrerequisiteError, match="connection broke"):
        downloaded(server, tmp_path / "out")
    before = len(server.requests)
    assert downloaded(server, tmp_path / "out") == CONTENT
    assert int(server.requests[before].removeprefix("bytes=").rstrip("-")) > len(CONTENT) // 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("version", ['"2"', "", 'W/"1"'])
def test_two_versions_are_never_put_together(serve, tmp_path, version):
    server = serve(CONTENT, cuts=5, version='"1"' if version == '"2"' else version)
    with pytest.raises(MissingPrerequisiteError):
        downloaded(server, tmp_path / "out")
    server.content, server.version = CONTENT[::-1], version
    assert downloaded(server, tmp_path / "out") == CONTENT[::-1]


def test_a_refusal_is_final_and_clear(serve, registry):
    server = serve(b"", status=404)
    with pytest.raises(MissingPrerequisiteError, match="404"):
        fetch(download(server.url), registry)
    assert len(server.requests) == 1
    assert registry.tools() == []


def test_a_page_instead_of_a_binary_is_refused(serve, registry):
    with pytest.raises(UsageError, match="no ELF header"):
        fetch(download(serve(b"<html>sign in</html>").url), registry)
    assert registry.tools() == []
    shutil.rmtree(registry.folder)
