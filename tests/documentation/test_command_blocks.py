"""Every command that the documents show works, or says why a test cannot run it."""

import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from command_blocks import GIVEN, LANGUAGES, PAGES, ROOT, BadMarkError, blocks_of
from results_examples import accuracy_outcome, begin, cell, measure

from harness.store.records import SweepStatus
from harness.store.store import Store

RUN = {page: blocks for page in PAGES if (blocks := [block for block in blocks_of(page) if not block.needs])}
COMMAND = re.compile(r"(\$ |harness |\.ci/|adb |pip |python3? |export )")
REUSED = ("float-graphs", "ranges", "reference", "variants")
"""Folders of the cache that pages share: what is in them is named by its contents."""
DOCUMENTED_PORT = "7523"
"""Where the pages let a virtual phone listen; replaced by a free port, as others may run these tests beside us."""
A_GOOD_LOG = "052.txt"
"""Of a real phone: NNAPI took all 31 nodes."""


def page_name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def given(request, tmp_path):
    """Lay ready what a block asks for, and return the variables that it is told of in."""

    def lay_ready(what):
        return GIVERS[what](request, tmp_path)

    return lay_ready


def give_two_sweeps(request, folder):
    with Store.open(folder / "results") as store:
        for index, scale in enumerate((1.0, 1.2)):
            identity = f"2026112{index}-083000-ab1{index}"
            begin(store, identity, variants=("fp32", "int8"))
            for variant, latency_us in (("fp32", 2000.0), ("int8", 1000.0)):
                for delegate in ("cpu", "gpu"):
                    latencies_us = [latency_us * scale * (1 + step / 1000) for step in range(8)]
                    measure(store, cell(variant, delegate), latencies_us, outcome=accuracy_outcome(), sweep_id=identity)
            store.finish_sweep(identity, SweepStatus.FINISHED)
    return {}


def give_official_tools(request, folder):
    return {"HARNESS_TFLITE_TOOLS": str(request.getfixturevalue("official_tools"))}


def give_virtual_phones(request, folder):
    request.getfixturevalue("adb")
    request.getfixturevalue("phone_ready")
    return {}


def give_attached_phone(request, folder):
    return {"ANDROID_SERIAL": request.getfixturevalue("start_phone")().serial}


def give_log(request, folder):
    with tarfile.open(ROOT / "tests" / "benchmark" / "data" / "real-logs.tar.xz") as logs:
        (folder / "log.txt").write_bytes(logs.extractfile(A_GOOD_LOG).read())
    return {}


GIVERS = {
    "two sweeps": give_two_sweeps,
    "official tools": give_official_tools,
    "virtual phones": give_virtual_phones,
    "attached phone": give_attached_phone,
    "a log": give_log,
}


def test_all_that_may_be_given_can_be_given():
    assert GIVERS.keys() == GIVEN


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


class Shell:
    """Runs commands one after the other; folder and exported variables carry over."""

    def __init__(self, folder: Path, program_folder: Path) -> None:
        self.folder, self.state = folder, program_folder
        program = program_folder / "harness"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
        program.chmod(0o755)
        (self.state / "folder").write_text(str(folder))
        (self.state / "variables").touch()

    def run(self, text: str, **given: str) -> subprocess.CompletedProcess[str]:
        keep = f"pwd > {self.state}/folder; export -p > {self.state}/variables"
        begin = f'. {self.state}/variables; cd "$(cat {self.state}/folder)"; trap "{keep}" EXIT; set -eo pipefail'
        programs = f"{self.state}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": programs, "COLUMNS": "100", **given}
        environment.pop("HARNESS_RESULTS", None)  # a reader's results are in the working folder
        return subprocess.run(
            ["bash", "-c", f"{begin}\n{text}"],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            timeout=250,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture
def shell(tmp_path, tmp_path_factory):
    """A shell in an empty folder with a cache of its own; what others have already made is found in it."""
    session, own = Path(os.environ["HARNESS_CACHE"]), tmp_path_factory.mktemp("cache")
    for name in REUSED:
        (session / name).mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to(session / name)
    shell = Shell(tmp_path, tmp_path_factory.mktemp("shell"))
    shell.run(f"export HARNESS_CACHE={own}; adb disconnect || true")
    yield shell
    shell.run("adb disconnect || true; harness phone stop --all || true")


@pytest.mark.timeout(600)
@pytest.mark.virtual_phone
@pytest.mark.official_tool
@pytest.mark.training
@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_the_commands_of_a_page_work(page, shell, given, free_port):
    laid_ready = set()
    for block in RUN[page]:
        missing = sorted(block.given - laid_ready)
        variables = {name: value for what in missing for name, value in given(what).items()}
        laid_ready |= block.given
        *others, last = block.commands()
        for command in (*others, last):
            finished = shell.run(command.text.replace(DOCUMENTED_PORT, free_port), **variables)
            told = f"{block.place}\n$ {command.text}\n{finished.stdout}"
            assert finished.returncode == (block.exits if command is last else 0), told
            if not block.output_varies:
                assert not command.missing_words(finished.stdout), told


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_stands_in_a_block_that_is_run_or_says_what_it_needs(page):
    """Commands in indented blocks, or in fences of another language, would be seen by no test."""
    language = None
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if fence := re.match(r"\s*```(\S*)", line):
            language = fence[1] if language is None else None
        elif language not in LANGUAGES:
            is_command = COMMAND.match(line) if language is not None else COMMAND.match(line.removeprefix("    "))
            in_code = language is not None or line.startswith("    ")
            assert not (in_code and is_command), f"{page_name(page)}:{number}: use a fence of {', '.join(LANGUAGES)}"


def test_a_mark_that_nobody_knows_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- needs: luck -->\n```sh\ntrue\n```\n")
    with pytest.raises(BadMarkError, match="luck"):
        blocks_of(page)


def test_marks_and_commands_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- given: two sweeps; exits: 1 -->\n```console\n$ echo words\nwords are shown\n```\n")
    (block,) = blocks_of(page)
    assert (block.given, block.exits, block.needs) == ({"two sweeps"}, 1, frozenset())
    (command,) = block.commands()
    assert command.text == "echo words"
    assert command.missing_words("words") == {"shown"}
