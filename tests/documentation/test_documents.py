"""The documents say what the program does."""

import re
from pathlib import Path

import pytest
import typer.main

from harness.analysis.result_row import COLUMNS
from harness.cli.main import VERBS, app
from harness.virtual_phone.recording import shipped_recordings

ROOT = Path(__file__).parents[2]
ROOT_PAGES = sorted(ROOT.glob("*.md"))
PAGES = [*ROOT_PAGES, *sorted((ROOT / "docs").rglob("*.md"))]


def test_ci_calls_the_very_test_command_of_the_readme():
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    (test_command,) = [command for command in commands if "pytest" in command]
    assert test_command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", ROOT_PAGES, ids=lambda page: page.name)
def test_links_from_the_root_lead_somewhere(page):
    """Those under docs/ are checked by the strict build of the site."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_that_a_page_names_exists(page):
    for verb in re.findall(r"`harness (?:-v+ )?([a-z][a-z-]*)", page.read_text()):
        assert verb in VERBS, verb


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_page_names_exists(page):
    """Also where the command needs a phone, so that no test runs it."""
    text = page.read_text()
    commands = re.findall(r"`(harness [a-z][^`]*)`", text) + re.findall(r"^(?:\$ )?(harness [^#\n]*)", text, re.M)
    for command in commands:
        words = re.split(r"[|>&;]", command)[0].split()[1:]
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - _options(words)
        assert not unknown, command


def _options(words):
    """Return the options of the verb that the first words name."""
    command = typer.main.get_command(app)
    known = {"--help", "--version"}
    context = command.make_context("harness", [], resilient_parsing=True)
    for word in words:
        if not hasattr(command, "get_command"):
            break
        command = command.get_command(context, word) or command
        known |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return known


def test_every_column_is_documented():
    text = (ROOT / "docs" / "results.md").read_text()
    for name, (_, description) in COLUMNS.items():
        assert f"`{name}`" in text
        assert description in text


def test_the_shipped_costumes_are_documented():
    text = (ROOT / "docs" / "virtual-phone.md").read_text()
    for name in shipped_recordings():
        assert f"`{name}`" in text
