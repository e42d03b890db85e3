"""The documentation site builds without a warning, and its generated pages say what the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.benchmark.delegates import DELEGATES
from harness.cli.main import VERBS
from harness.compression.recipes import builtin_recipes
from harness.compression.registry import all_techniques
from harness.errors import FailureClass
from harness.results.columns import COLUMNS
from harness.spec.sweep import Measurement, SweepSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. Strict: a link, anchor or navigation entry that leads nowhere fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def text_of(site, page):
    return re.sub(r"<[^>]+>", " ", (site / "reference" / page / "index.html").read_text())


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("command-line", [f"harness {verb}" for verb in VERBS]),
        ("files", [*SweepSpec.model_fields, *Measurement.model_fields]),
        ("techniques", [*all_techniques(), *builtin_recipes()]),
        ("delegates", [name.partition(":")[0] for name in DELEGATES]),
        ("columns", list(COLUMNS)),
        ("failures", [one.value for one in FailureClass]),
    ],
)
def test_the_reference_names_all_that_there_is(site, page, names):
    text = text_of(site, page)
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []


def test_what_stands_beside_a_name_in_the_code_stands_beside_it_in_the_reference(site):
    assert "Timed runs in one process." in text_of(site, "files")
    assert FailureClass.PUSH_CORRUPT.advice in text_of(site, "failures")
    assert "Carry on a sweep that was stopped: its id, or latest." in text_of(site, "command-line")


def test_the_site_asks_no_other_server(site):
    """It can be read without a network, and tells nobody that it was."""
    asked = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(https?:)?//[^"]*"')
    for page in site.rglob("*.html"):
        found = [tag[0] for tag in asked.finditer(page.read_text()) if 'rel="canonical"' not in tag[0]]
        assert not found, page


def test_the_programs_that_build_the_site_are_not_part_of_it(site):
    assert not list(site.rglob("*.py"))
    assert (site / "reference" / "schemas" / "sweep.json").exists()
