"""The documentation site builds without a warning, and its generated pages say what the code says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.analysis.result_row import COLUMNS
from harness.benchmark.delegates import DELEGATES
from harness.cli.main import VERBS
from harness.compression.recipes import builtin_recipes
from harness.compression.registry import all_techniques
from harness.errors import FailureClass
from harness.spec.profile import DeviceProfile
from harness.spec.recipe import Recipe
from harness.spec.sweep import MeasurementSettings, SweepSpec

ROOT = Path(__file__).parents[2]


def build(repository, site):
    """Build strictly: a link, anchor or navigation entry that leads nowhere fails (but not with `--quiet`)."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    finished = build(ROOT, folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def test_links_anchors_and_pages_that_lead_nowhere_fail_the_build(tmp_path):
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "docs" / "faq.md").write_text("[a](nowhere.md) [b](sweep.md#nowhere)")
    (tmp_path / "docs" / "forgotten.md").write_text("Not in the navigation.")

    finished = build(tmp_path, tmp_path / "site")

    assert finished.returncode != 0
    for told in ("nowhere.md", "#nowhere", "forgotten.md"):
        assert told in finished.stderr


def text_of(site, page):
    return re.sub(r"<[^>]+>", " ", (site / "reference" / page / "index.html").read_text())


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("command-line", [f"harness {verb}" for verb in VERBS]),
        ("files", [*SweepSpec.model_fields, *MeasurementSettings.model_fields]),
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
    files = " ".join(text_of(site, "files").split())
    assert "runs a whole number, at least 1 and at most 100000 Timed runs in one process." in files
    assert FailureClass.PUSH_CORRUPT.advice in text_of(site, "failures")
    said_of_resume = "Resume a sweep, also with other settings: its id, or latest."
    assert said_of_resume in text_of(site, "command-line")


def test_the_site_asks_no_other_server(site):
    """It can be read without a network, and tells nobody that it was."""
    asked = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(https?:)?//[^"]*"')
    for page in site.rglob("*.html"):
        found = [tag[0] for tag in asked.finditer(page.read_text()) if 'rel="canonical"' not in tag[0]]
        assert not found, page


def test_the_programs_that_build_the_site_are_not_part_of_it(site):
    assert not (site / "hooks").exists()


def test_each_kind_of_file_has_its_schema_in_the_site(site):
    for name, keys in (("sweep", SweepSpec), ("profile", DeviceProfile), ("recipe", Recipe)):
        schema = json.loads((site / "reference" / "schemas" / f"{name}.json").read_text())
        assert set(schema["properties"]) == set(keys.model_fields)
        assert set(schema.get("required", ())) == (set() if keys is SweepSpec else {"name"})


def test_published_schemas_of_results_are_listed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "docs" / "hooks")
    from file_reference import json_schemas_page

    published = tmp_path / "export.v1.json"
    published.write_text('{"title": "An export"}')

    assert "| [export.v1.json](../schemas/export.v1.json) | An export |" in json_schemas_page([published])
    assert "harness writes" not in json_schemas_page([])
