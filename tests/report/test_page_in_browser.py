"""The page in Chromium: what a reader clicks works, nothing is asked of any network, nothing hostile runs."""

import pytest
from hostile_sweeps import ATTACK, BREAKOUT, attacked, empty, only_failures, open_store, page_of, two_variants

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def cells(page, column):
    """Return the texts of one column of the table of all rows, by its place."""
    return page.locator(f"#row-table tbody tr > :nth-child({column})").all_inner_texts()


def test_a_reader_sorts_filters_searches_and_clears(store, open_page):
    opened = open_page(page_of(two_variants(store)))
    page = opened.page
    assert "2.0\u00d7 faster than fp32 on cpu" in page.locator(".answer").inner_text()
    assert sorted(cells(page, 1)) == ["fp32", "int8"]

    heading = page.get_by_role("columnheader", name="latency")
    assert heading.get_attribute("aria-sort") == "none"
    heading.get_by_role("button").click()
    assert (heading.get_attribute("aria-sort"), cells(page, 1)) == ("ascending", ["int8", "fp32"])
    heading.get_by_role("button").press("Enter")
    assert (heading.get_attribute("aria-sort"), cells(page, 1)) == ("descending", ["fp32", "int8"])

    page.get_by_label("variant", exact=True).select_option("int8")
    assert cells(page, 1) == ["int8"]
    assert page.get_by_role("status").inner_text() == "1 of 2 rows"
    page.get_by_role("button", name="Clear").click()
    assert page.get_by_role("status").inner_text() == "2 rows"

    page.get_by_label("search").fill("FP32 pixel")
    assert cells(page, 1) == ["fp32"]
    page.get_by_label("search").fill("no such thing")
    assert page.get_by_text("No row fits").is_visible()
    opened.assert_quiet()


def test_hovering_a_point_shows_its_evidence_and_escape_hides_it(store, open_page):
    opened = open_page(page_of(two_variants(store)))
    opened.draw_all_charts()
    points = opened.page.locator("#trade-offs-0 .chart .mark-symbol path")
    assert points.count() >= 2
    tip = opened.tip_over(points.first)
    assert "18" in tip.inner_text()
    assert " on cpu" in tip.inner_text()
    opened.page.keyboard.press("Escape")
    assert not tip.is_visible()
    opened.assert_quiet()


def test_axes_and_the_table_beside_a_chart(store, open_page):
    opened = open_page(page_of(two_variants(store)))
    opened.draw_all_charts()
    figure = opened.page.locator("#trade-offs-0")
    figure.get_by_label("Axes").select_option("size and memory")
    figure.locator(".chart", has_text="memory, MB").wait_for()
    figure.get_by_text("Trade-offs: data as a table").click()
    headers = figure.get_by_role("table").get_by_role("rowheader")
    headers.last.wait_for()
    assert headers.all_inner_texts() == ["int8 on cpu", "fp32 on cpu"]
    opened.assert_quiet()


def test_the_theme_follows_the_system_until_the_reader_chooses(store, open_page):
    opened = open_page(page_of(two_variants(store)), color_scheme="dark")
    page = opened.page
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_label("Theme").select_option("light")
    light = page.evaluate(paper)
    assert dark != light
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == light
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate(paper) == dark
    opened.assert_quiet()


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_and_the_page_is_as_wide_as_the_screen(store, open_page, scheme, width):
    opened = open_page(page_of(two_variants(store)), color_scheme=scheme, viewport={"width": width, "height": 844})
    opened.draw_all_charts()
    for summary in opened.page.locator("summary").all():
        summary.click()
    assert opened.violations() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.assert_quiet()


def test_the_first_tab_stop_skips_to_the_content(store, open_page):
    page = open_page(page_of(two_variants(store))).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_nothing_hostile_runs_and_every_name_is_shown_as_it_is(store, open_page):
    opened = open_page(page_of(attacked(store)))
    opened.draw_all_charts()
    page = opened.page
    assert page.locator("h1").inner_text() == ATTACK
    assert page.locator("img").count() == 0
    assert page.locator("body script").count() == 4  # theme, charts, page, and the data
    assert ATTACK in cells(page, 1)
    assert any(BREAKOUT.rstrip("\u2028") in name for name in cells(page, 1))
    mark = page.locator("#trade-offs-0 .chart .mark-symbol path").first
    assert "<" in opened.tip_over(mark).inner_text()
    assert opened.violations() == []
    opened.assert_quiet()


@pytest.mark.parametrize("make", [empty, only_failures], ids=["no rows", "only failures"])
def test_a_sweep_without_measurements_is_a_whole_page(store, open_page, make):
    opened = open_page(page_of(make(store)))
    opened.draw_all_charts()
    page = opened.page
    expected = "there is nothing to decide" if make is empty else "nothing can be shipped"
    assert expected in page.locator("#decision").inner_text()
    assert page.locator(".chart").count() == 0
    if make is empty:
        assert page.get_by_text("This sweep holds no rows.").is_visible()
    else:
        assert page.locator(".failure").count() == 2
    assert opened.violations() == []
    opened.assert_quiet()


def test_without_script_the_decision_is_there_and_the_rest_is_explained(store, open_page):
    page = open_page(page_of(two_variants(store)), java_script_enabled=False).page
    assert "2.0\u00d7 faster" in page.locator(".answer").inner_text()
    assert page.get_by_text("which is switched off").is_visible()
