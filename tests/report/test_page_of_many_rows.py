"""A sweep of 10,000 rows is a small file that a browser pages, sorts and searches."""

from dataclasses import asdict

import pytest
import results_examples as examples
from hostile_sweeps import open_store, page_of
from sqlalchemy import insert

from harness.store import schema

VARIANTS, DEVICES = 500, 20


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("many")) as store:
        names = [f"variant-{index}" for index in range(VARIANTS)]
        store.start_sweep(examples.sweep_record())
        for device in range(DEVICES):
            store.add_device(examples.SWEEP, examples.facts(f"S{device}", f"Phone {device}"), "generic", ())
        cells = [examples.cell(name, serial=f"S{device}") for device in range(DEVICES) for name in names]

        def fill(connection):
            connection.execute(
                insert(schema.variants),
                [
                    {
                        "sweep_id": examples.SWEEP,
                        "name": name,
                        "sha256": examples.sha256(name),
                        "size_bytes": 1000 + size,
                    }
                    for size, name in enumerate(names)
                ],
            )
            connection.execute(
                insert(schema.cells), [asdict(cell) | {"sweep_id": examples.SWEEP, "key": cell.key} for cell in cells]
            )

        store._transactions.write(fill)
        return page_of(store)


def test_the_file_is_small(page):
    assert len(page.encode()) < 6_000_000


def test_a_browser_pages_sorts_and_searches_them(page, open_page):
    opened = open_page(page)
    table = opened.page.locator("#row-table")
    assert table.get_by_role("status").inner_text() == "10000 rows"
    assert table.locator("tbody tr").count() == 50
    assert table.get_by_text("Page 1 of 200").is_visible()
    table.get_by_role("button", name="Next").click()
    assert table.get_by_text("Page 2 of 200").is_visible()

    size = table.get_by_role("columnheader", name="file").get_by_role("button")
    size.click()
    size.click()
    assert table.locator("tbody th").first.inner_text() == "variant-499"
    opened.page.get_by_label("search").fill('variant-77 "phone')
    assert table.get_by_text("No row fits").is_visible()
    opened.page.get_by_label("device", exact=True).select_option("Google Phone 7")
    opened.page.get_by_label("search").fill("variant-77")
    assert table.get_by_role("status").inner_text() == "1 of 10000 rows"
    opened.assert_quiet()
