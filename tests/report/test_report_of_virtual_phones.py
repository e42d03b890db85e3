"""The report of a real sweep on two virtual phones, opened in Chromium."""

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.virtual_phone, pytest.mark.official_tool, pytest.mark.training]

SHORT = [str(Path(__file__).parents[1] / "quick.toml"), "--recipe", "fp32", "--recipe", "int8"]


def test_two_phones(harness_cli, registered_tools, phone_ready, adb, tmp_path, open_page):
    devices = ["--device", "virtual:pixel-8", "--device", "virtual:galaxy-s9-us"]
    swept = harness_cli("sweep", *devices, "--delegate", "cpu", "--delegate", "nnapi", *SHORT)
    assert swept.returncode in (0, 1), swept.stderr
    reported = harness_cli("report", "-o", "report.html")
    assert reported.returncode == 0, reported.stderr

    opened = open_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    opened.draw_all_charts()
    page = opened.page
    answers = page.locator(".answer").all_inner_texts()
    assert len(answers) == 2
    assert all(
        re.match(r"On (Google Pixel 8|samsung SM-G960U), (ship (fp32|int8) on cpu|too noisy)", text) for text in answers
    )

    page.get_by_label("delegate", exact=True).select_option("nnapi")
    assert page.get_by_role("status").inner_text() == "4 of 8 rows"
    assert set(page.locator("#row-table tbody .badge").all_inner_texts()) == {"fell back"}
    page.get_by_role("columnheader", name="latency").get_by_role("button").click()
    latencies = page.locator("#row-table tbody tr > :nth-child(5)").all_inner_texts()
    assert [float(text) for text in latencies] == sorted(float(text) for text in latencies)

    page.locator("#latency-0").get_by_label("Device").select_option("samsung SM-G960U")
    page.wait_for_function("document.querySelector('#latency-0 .chart').dataset.drawn.startsWith('samsung')")
    mark = page.locator("#latency-0 .chart .mark-symbol path").first
    assert "hottest before it" in opened.tip_over(mark).inner_text()
    page.get_by_label("Theme").select_option("dark")
    assert page.locator("#heat-0 .chart svg").count() == 1
    assert page.locator(".failure").get_by_text("fell back").count() >= 1
    assert page.get_by_role("row", name="SHA-256 verified on the device").get_by_text("kept", exact=True).count() == 1
    assert opened.violations() == []
    opened.assert_quiet()
