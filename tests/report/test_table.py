"""The table on the screen: it fits, it hides nothing that matters, and nothing from outside is markup."""

import pytest
from results_examples import SWEEP, accuracy_outcome, begin, cell, facts, measure
from rich.console import Console

from harness.analysis.summary import summarize
from harness.errors import Failure, FailureClass
from harness.report.terminal.sweep_table import sweep_table
from harness.store.store import Store
from harness.text import number, printable

FAST, SLOW = [100.0, 101.0, 102.0, 101.5, 100.5], [200.0, 201.0, 202.0, 201.5, 200.5]


def shown(store, width):
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(sweep_table(summarize(store, SWEEP)))
    return capture.get()


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        begin(opened, variants=("fp32", "int8"), devices=[facts(), facts("S2", "Galaxy S9", "samsung")])
        measure(opened, cell("fp32"), SLOW, outcome=accuracy_outcome(0.915))
        measure(opened, cell("int8"), FAST, outcome=accuracy_outcome(0.905))
        measure(opened, cell("int8", "gpu"), FAST, outcome=accuracy_outcome(), nodes=(64, 66), fell_back=True)
        measure(opened, cell("int8", "cpu", "S2"), FAST, outcome=accuracy_outcome())
        yield opened


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_fits_and_keeps_what_the_decision_needs(store, width):
    text = shown(store, width)
    assert max(len(line) for line in text.splitlines()) <= width
    ran = "gpu 64/66" if width > 80 else "64 of 66 nodes delegated"  # in the failure below a narrow table
    for needed in ("int8", "0.101", "fell_back", "91.5", "-1.0", "Google Pixel 8", "samsung Galaxy S9", ran):
        assert needed in " ".join(text.split()), needed
    assert "rank" in text.partition("Too narrow for:")[0]
    assert ("Too narrow for:" in text) is (width < 120)


def test_failures_come_with_what_to_do(store):
    store.add_device_failure(SWEEP, "S3", Failure(FailureClass.DEVICE_UNAUTHORIZED, "S3 does not trust this computer."))
    text = " ".join(shown(store, 120).split())
    assert "device_unauthorized: S3 does not trust this computer." in text
    assert "Allow USB debugging?" in text


def test_hostile_names_stay_text(tmp_path):
    name = "[bold red]x[/] <script>|\n\x1b[31m"
    with Store.open(tmp_path) as store:
        begin(store, variants=(name,), devices=[facts(model=name)])
        measure(store, cell(name), FAST, outcome=accuracy_outcome(note=name))
        text = shown(store, 200)
    assert "[bold red]x[/] <script>|" in text
    assert "\x1b" not in text


def test_a_sweep_of_nothing(tmp_path):
    with Store.open(tmp_path) as store:
        begin(store)
        assert isinstance(shown(store, 80), str)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0"),
        (0.0494, "0.0494"),
        (1.234, "1.23"),
        (123.4, "123"),
        (12345.0, "12345"),
    ],
)
def test_numbers_have_sensible_digits(value, text):
    assert number(value) == text


def test_printable_keeps_letters_of_all_languages():
    assert printable("Größe 電話\x07") == "Größe 電話\N{REPLACEMENT CHARACTER}"
