"""Build the root folder that all virtual phones share: Debian trixie's adbd, mksh and toybox, laid out like Android.

It is built once (some seconds, 18 MB) from the mirror in this computer's apt sources, then cached, without root.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from harness.errors import MissingPrerequisiteError
from harness.paths import cache_folder
from harness.virtual_phone.authentication_patch import require_authorization

RELEASE = "trixie"
PACKAGES = ("adbd", "mksh", "toybox")
HOST_PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "g++": "g++",
    "unshare": "util-linux",
    "mount": "mount",
    "nsenter": "util-linux",
}
"""Programs that building and starting a phone needs on this computer, each with its Debian package."""

_HERE = Path(__file__).parent
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT_TIMEOUT_S = 300
_BUILD_TIMEOUT_S = 900
_NOT_NEEDED = ("usr/share/", "etc/", "usr/lib/klibc/", "usr/lib/x86_64-linux-musl/", "usr/bin/lksh")
_SCRIPTS = ("getprop", "setprop", "dumpsys", "settings", "getenforce", "reboot", "cmd", "input")
_RECORDED = ("svc", "wm", "am", "pm", "logcat")
_FOLDERS = (
    "system/bin",
    "system/etc",
    "vendor/bin",
    "product",
    "dev",
    "proc",
    "sys",
    "data",
    "tmp",
    "run/state",
    "etc",
)
_APPLETS = """
acpi base64 basename blockdev cal cat chgrp chmod chown chroot chrt cksum clear cmp comm cp cpio cut date dd df diff
dirname dmesg dos2unix du echo egrep env expand expr fallocate false fgrep file find flock free fsync getconf grep
groups gunzip gzip head hostname id inotifyd ionice iorenice kill killall ln logname losetup ls lsof md5sum microcom
mkdir mknod mktemp mount mountpoint mv nc netstat nice nl nohup nproc od paste patch pgrep pidof pkill pmap printenv
printf ps pwd readlink realpath renice rev rm rmdir sed seq setsid sha1sum sha224sum sha256sum sha512sum sleep sort
split stat strings su sync sysctl tac tail tar taskset tee test time timeout top touch tr true truncate tty ulimit
umount uname uniq unlink uptime usleep uudecode uuencode vmstat wc which whoami xargs xxd yes zcat
""".split()  # noqa: SIM905 - a list of words reads better than a hundred lines
"""Toybox's commands that Android links into /system/bin."""


def virtual_phone_folder() -> Path:
    """Return the folder of the base image and the phones."""
    return cache_folder() / "virtual-phone"


def base_image(report: Callable[[str], None] = lambda _: None) -> Path:
    """Return the root folder; build it if it is not cached. Raises `MissingPrerequisiteError`."""
    target = _images_folder() / f"base-{_fingerprint()}"
    if target.is_dir():
        return target
    check_programs()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / ".build.lock", timeout=_BUILD_TIMEOUT_S):
        if not target.is_dir():  # another process may have built it in the meantime
            report(f"Building the virtual phone's root folder from Debian {RELEASE} (once).")
            half = target.with_name(target.name + ".part")
            shutil.rmtree(half, ignore_errors=True)
            _build(half)
            half.rename(target)
    return target


def _images_folder() -> Path:
    """Return the folder of built root folders; several caches can share `$HARNESS_BASE_IMAGES`."""
    shared = os.environ.get("HARNESS_BASE_IMAGES")
    return Path(shared) if shared else virtual_phone_folder()


def check_programs() -> None:
    """Raise `MissingPrerequisiteError` with every program that this computer lacks and its Debian package."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = {program: package for program, package in HOST_PROGRAMS.items() if not shutil.which(program, path=path)}
    if missing:
        raise MissingPrerequisiteError(
            f"Cannot run a virtual phone: this computer lacks {', '.join(missing)}.",
            f"On Debian: apt install {' '.join(dict.fromkeys(missing.values()))}",
        )


def _fingerprint() -> str:
    """Return a hash of everything that goes into the image, so that any change rebuilds it."""
    digest = hashlib.sha256(repr((RELEASE, PACKAGES, _APPLETS, _RECORDED)).encode())
    for file in sorted([*(_HERE / "root").iterdir(), _HERE / "properties.cpp", Path(__file__)]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _build(root: Path) -> None:
    root.mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in _download():
        _unpack(package, root)
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    _lay_out_like_android(root)
    _build_preload(root)
    require_authorization(root / "usr/sbin/adbd", root / "usr/sbin/adbd-auth")


def _download() -> list[Path]:
    """Download the packages with their dependencies, using an own apt state in which nothing is installed."""
    apt = _images_folder() / "apt"
    archives = apt / "cache" / "archives"
    for folder in (apt / "lists" / "partial", archives / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    signed_by = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    (apt / "sources.list").write_text(f"deb {signed_by}{debian_mirror()} {RELEASE} main\n")
    (apt / "status").write_text("")  # so that apt downloads every dependency
    options = [
        f"Dir::Etc::sourcelist={apt}/sources.list",
        "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={apt}/lists",
        f"Dir::Cache={apt}/cache",
        f"Dir::State::status={apt}/status",
        "Acquire::Languages=none",
        "APT::Install-Recommends=false",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=",
    ]
    command = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    _run([*command, "update"])
    _run([*command, "-y", "install", "--download-only", *PACKAGES])
    return sorted(archives.glob("*.deb"))


def debian_mirror(apt_folder: Path = Path("/etc/apt")) -> str:
    """Return the mirror in this computer's apt sources, of either format. Raises `MissingPrerequisiteError`."""
    for file in sorted((apt_folder / "sources.list.d").glob("*.sources")):
        match = re.search(r"^URIs:\s*(\S+)", file.read_text(), re.MULTILINE)
        if match:
            return match[1]
    for file in (apt_folder / "sources.list", *sorted((apt_folder / "sources.list.d").glob("*.list"))):
        match = re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", file.read_text() if file.exists() else "", re.MULTILINE)
        if match:
            return match[1]
    raise MissingPrerequisiteError(
        f"Cannot find a Debian mirror in {apt_folder}.", "Build virtual phones on Debian or a distribution based on it."
    )


def _unpack(package: Path, root: Path) -> None:
    unpacking = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(unpacking, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        for member in tar:
            name = member.name.removeprefix("./")
            if name and not name.startswith(_NOT_NEEDED) and "/gconv" not in name and not member.isdir():
                tar.extract(member, root, set_attrs=True, filter="tar")
    if process.returncode != 0:
        raise MissingPrerequisiteError(f"Cannot unpack {package.name}.", "Run `harness phone build` again.")


def _lay_out_like_android(root: Path) -> None:
    system = root / "system/bin"
    (root / "usr/lib/diet/bin/mksh").rename(system / "sh")  # the static build, which is Android's shell
    (root / "usr/bin/sh").symlink_to("/system/bin/sh")
    (root / "usr/bin/toybox").rename(system / "toybox")
    for applet in _APPLETS:
        (system / applet).symlink_to("toybox")
    for script in _SCRIPTS:
        (system / script).unlink(missing_ok=True)
        _install(script, system / script)
    _install("recorder", system / "recorder")
    for name in _RECORDED:
        (system / name).symlink_to("recorder")
    _install("init", root / "init")
    (root / "usr/lib/android-sdk/platform-tools/adbd").rename(root / "usr/sbin/adbd.real")
    shutil.rmtree(root / "usr/lib/android-sdk")
    (root / "usr/sbin/adbd").unlink(missing_ok=True)
    (root / "usr/sbin/adbd.real").rename(root / "usr/sbin/adbd")
    (root / "etc/hosts").symlink_to("/system/etc/hosts")
    (root / "system/etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/passwd").write_text("root:x:0:0::/:/system/bin/sh\nshell:x:2000:2000::/:/system/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nshell:x:2000:\n")


def _install(script: str, target: Path) -> None:
    shutil.copyfile(_HERE / "root" / script, target)
    target.chmod(0o755)


def _build_preload(root: Path) -> None:
    source, library = _HERE / "properties.cpp", root / "usr/lib/properties.so"
    _run(["g++", "-O2", "-fPIC", "-shared", "-o", str(library), str(source), "-ldl"])


def _run(command: Sequence[str]) -> None:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingPrerequisiteError(
            f"`{command[0]}` timed out after {_APT_TIMEOUT_S} s.", "Check the network and try again."
        ) from error
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines()
        raise MissingPrerequisiteError(
            f"Cannot build the virtual phone: `{command[0]}` failed: {lines[-1] if lines else 'it printed no reason'}.",
            "Check that this computer reaches its apt sources (`apt-get update`).",
        )
