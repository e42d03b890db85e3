"""Debian's headless Chromium, which opens the pages as a person's browser does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Iterator[object]:
    """One running browser for all tests."""
    shared = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    program = shutil.which("chromium") or shared.give_up("the program chromium (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class OpenPage:
    """A page in the browser with all that it complained about and asked for."""

    def __init__(self, browser, file, **context):
        asked = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | context
        self._context = browser.new_context(**asked)
        self.page = self._context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = file.as_uri()
        self.page.goto(self.address)

    def close(self):
        self._context.close()

    def draw_all_charts(self):
        """Scroll to every chart and wait until it stands there."""
        for chart in self.page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
        self.page.wait_for_function("[...document.querySelectorAll('.chart')].every((chart) => chart.dataset.drawn)")

    def tip_over(self, mark):
        """Point at a mark until its tooltip stands there: what still scrolls hides it, as it does for a reader."""
        tip = self.page.get_by_role("tooltip")
        for _ in range(50):
            mark.hover(force=True)
            self.page.wait_for_timeout(100)
            if tip.is_visible():
                return tip
            self.page.mouse.move(0, 0)
        raise AssertionError("no tooltip over the mark")

    def assert_quiet(self):
        """Nothing was written to the console, and nothing but the file itself was asked for."""
        assert self.complaints == []
        assert self.requests == [self.address]

    def violations(self):
        """What axe finds against WCAG 2.1 AA and good practice, as readable lines."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


@pytest.fixture
def open_page(chromium, tmp_path):
    """Write a page's text to a file and open it."""
    opened = []

    def open_it(text, **context):
        file = tmp_path / f"page-{len(opened)}.html"
        file.write_text(text, encoding="utf-8")
        opened.append(OpenPage(chromium, file, **context))
        return opened[-1]

    yield open_it
    for page in opened:
        page.close()
