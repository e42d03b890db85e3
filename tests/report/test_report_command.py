"""`harness report`: the file, the site, what it says of itself, and what it refuses."""

import json

import pytest
import results_examples as examples
from hostile_sweeps import ATTACK, attacked, open_store, two_variants

SECOND = "20261125-083000-cd34"


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def test_the_file_and_what_is_told_of_it(store, tmp_path, harness_cli):
    two_variants(store)
    finished = harness_cli("report", "--results", "results", "-o", "page.html", "--json")
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    page = tmp_path / "page.html"
    assert told["schema_version"] == 1
    assert told["files"] == [{"path": "page.html", "size_bytes": page.stat().st_size}]
    assert "2.0\u00d7 faster than fp32 on cpu" in page.read_text(encoding="utf-8")


def test_limits_reach_the_decision(store, tmp_path, harness_cli):
    two_variants(store)
    finished = harness_cli("report", "--results", "results", "--max-latency", "0.1")
    assert finished.returncode == 0, finished.stderr
    assert "Written: report.html" in finished.stderr
    assert "no variant meets your limits" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_several_sweeps_show_their_history(store, tmp_path, harness_cli):
    two_variants(store)
    two_variants(store, sweep_id=SECOND, fast=600.0)
    finished = harness_cli("report", "latest", "latest~1", "--results", "results")
    assert finished.returncode == 0, finished.stderr
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="history"' in text
    assert text.index(SECOND) < text.index(examples.SWEEP)


def test_a_site_of_all_sweeps(store, tmp_path, harness_cli):
    attacked(store)
    two_variants(store, sweep_id=SECOND)
    finished = harness_cli("report", "--index", "site", "--results", "results", "--json")
    assert finished.returncode == 0, finished.stderr
    paths = [file["path"] for file in json.loads(finished.stdout)["files"]]
    assert paths == ["site/index.html", f"site/reports/{SECOND}.html", f"site/reports/{examples.SWEEP}.html"]
    index = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert f'href="reports/{SECOND}.html"' in index
    assert ATTACK not in index.split("<main")[1].split("</main>")[0]


def test_the_first_page_of_a_site_in_a_browser(store, tmp_path, open_page):
    from harness.analysis.shipping.choice import ShipLimits
    from harness.report.html.site import write_site

    attacked(store)
    two_variants(store, sweep_id=SECOND)
    write_site(store, tmp_path / "site", ShipLimits())
    opened = open_page((tmp_path / "site/index.html").read_text(encoding="utf-8"))
    assert opened.page.get_by_role("table").get_by_text("2.0\u00d7 faster").is_visible()
    assert opened.violations() == []
    opened.assert_quiet()


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--index", "site", "latest"], 2, "Cannot combine --index"),
        (["nosuch"], 2, "fits no sweep"),
        (["-o", "results"], 2, "cannot be written"),
        (["--results", "nowhere"], 3, "There are no results in nowhere"),
    ],
)
def test_what_it_refuses(store, harness_cli, arguments, code, words):
    two_variants(store)
    finished = harness_cli("report", *(["--results", "results"] if "--results" not in arguments else []), *arguments)
    assert finished.returncode == code
    assert words in finished.stderr


def test_help_answers_with_an_example(harness_cli):
    finished = harness_cli("report", "--help")
    assert finished.returncode == 0
    assert "harness report latest -o report.html" in finished.stdout
