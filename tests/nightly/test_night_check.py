"""What a night says of each cell, and how JUnit, screen and message tell it."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xmlschema
from results_examples import accuracy_outcome, add, card, cell, failed, measure
from rich.console import Console
from stored_nights import add_failed_night, add_night, made_cell, made_night, processes, sweep_id

from harness.analysis.comparison import FindingVerdict
from harness.analysis.history.night_check import BY_DEFAULT, Trouble, check_night, new_step
from harness.errors import ExitCode, Failure, FailureClass
from harness.export.junit import junit_xml
from harness.nightly.night import NightOutcome
from harness.report.terminal.night import night_document, night_message, night_screen
from harness.store.store import Store
from harness.text import to_json_value

XSD = xmlschema.XMLSchema(Path(__file__).parent / "data" / "junit-10.xsd")
NIGHTS = 6


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results") as store:
        yield store


@pytest.fixture
def generator():
    return np.random.default_rng(11)


@pytest.fixture
def quiet(store, generator):
    """A store with some equal nights of two cells."""
    for night in range(NIGHTS):
        add_night(
            store,
            night,
            {name: processes(generator, level, noise=0.01) for name, level in (("int8", 1000), ("fp32", 2000))},
        )
    return store


def check(store, night, **more):
    return check_night(store, sweep_id(night), **more)


def troubles(checked):
    return {one.name.variant: set(one.troubles) for one in checked.cells}


def document_of(checked, fail_on=BY_DEFAULT):
    text = junit_xml(checked, fail_on)
    XSD.validate(text)
    return ElementTree.fromstring(text)


def test_a_night_like_those_before_is_well(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 1000), "fp32": processes(generator, 2000)})
    checked = check(quiet, NIGHTS)
    assert troubles(checked) == {"int8": set(), "fp32": set()}
    assert {one.compared.a.sweep_id for one in checked.cells} == {sweep_id(NIGHTS - 1)}
    assert not checked.is_bad(BY_DEFAULT)
    assert len(document_of(checked).findall(".//testcase")) == 2


def test_the_floor_comes_from_the_nights_themselves(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 1250), "fp32": processes(generator, 2000)})
    checked = check(quiet, NIGHTS)
    floor = checked.cells[0].compared.finding.floor
    assert floor.value < 0.15
    assert f"{NIGHTS - 1} earlier nights" in floor.source
    assert troubles(checked)["int8"] == {Trouble.SLOWER}
    assert troubles(checked)["fp32"] == set()
    assert checked.is_bad(BY_DEFAULT)
    (failure,) = document_of(checked).findall(".//failure")
    assert failure.get("type") == "slower"
    assert f"than in sweep {sweep_id(NIGHTS - 1)}" in failure.get("message")


def test_a_step_too_small_for_one_night_is_told_on_the_night_that_shows_it_and_once(generator):
    nights = [
        made_night(number, processes(generator, 1060 if number >= 14 else 1000, noise=0.02, spread=0.002))
        for number in range(26)
    ]
    told = [number for number in range(26) if new_step(made_cell(nights[: number + 1]), sweep_id(number), effect=0.02)]
    assert len(told) == 1
    assert told[0] > 14


def test_a_step_to_a_faster_level_is_no_trouble(generator):
    nights = [
        made_night(number, processes(generator, 900 if number >= 14 else 1000, noise=0.01)) for number in range(26)
    ]
    assert not any(new_step(made_cell(nights[: number + 1]), sweep_id(number), effect=0.02) for number in range(26))


def test_the_first_night_has_nothing_to_compare_with(store, generator):
    add_night(store, 0, {"int8": processes(generator, 1000)})
    checked = check(store, 0)
    assert checked.cells[0].compared is None
    assert troubles(checked) == {"int8": set()}
    assert "1 measured so for the first time" in night_message(checked, BY_DEFAULT, 0)["text"]


def test_the_last_night_that_is_alike_is_taken_over_a_later_one_that_is_not(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 9000)}, mode={"runs": 99})
    add_night(quiet, NIGHTS + 1, {"int8": processes(generator, 1000)})
    checked = check(quiet, NIGHTS + 1)
    assert checked.cells[0].compared.a.sweep_id == sweep_id(NIGHTS - 1)


def test_where_none_is_alike_the_comparison_is_refused_and_says_why(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 3000)}, os="build-2")
    checked = check(quiet, NIGHTS)
    assert troubles(checked) == {"int8": {Trouble.REFUSED}}
    assert checked.cells[0].compared.finding.verdict is FindingVerdict.REFUSED
    assert not checked.is_bad(BY_DEFAULT)
    assert checked.is_bad([Trouble.REFUSED])
    (failure,) = document_of(checked, [Trouble.REFUSED]).findall(".//failure")
    assert "os: build-1 against build-2" in failure.get("message")


def test_a_bad_night_between_is_skipped(quiet, generator):
    add_failed_night(quiet, NIGHTS)
    add_night(quiet, NIGHTS + 1, {"int8": processes(generator, 1000, count=3)})
    add_night(quiet, NIGHTS + 2, {"int8": processes(generator, 1000)})
    assert check(quiet, NIGHTS + 2).cells[0].compared.a.sweep_id == sweep_id(NIGHTS - 1)


def test_an_old_night_is_judged_by_what_was_known_then(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 5000)})
    assert check(quiet, 3).cells[0].compared.a.sweep_id == sweep_id(2)
    assert check(quiet, 0).cells[0].compared is None


def test_a_cell_without_time_is_left_out_and_skipped(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 1000), "fp32": []}, status="interrupted")
    checked = check(quiet, NIGHTS)
    assert troubles(checked) == {"int8": set(), "fp32": {Trouble.LEFT_OUT}}
    assert not checked.is_bad(BY_DEFAULT)
    assert not checked.is_empty
    (skipped,) = document_of(checked).findall(".//skipped")
    assert "Stopped after 0 of its processes" in skipped.get("message")
    assert document_of(checked, [Trouble.LEFT_OUT]).find(".//skipped") is None


def test_a_night_that_measured_nothing_for_want_of_time_is_not_well(quiet):
    add_night(quiet, NIGHTS, {"int8": [], "fp32": []}, status="interrupted")
    checked = check(quiet, NIGHTS)
    assert checked.is_bad(BY_DEFAULT)
    assert not checked.is_bad([])


def test_a_delegate_that_falls_back_tonight_is_told(store, generator):
    for night in range(2):
        identity = add_night(store, night, {})
        falls = {"achieved": "cpu", "fell_back": True} if night else {}
        measure(
            store,
            cell(delegate="gpu"),
            processes(generator, 1000),
            outcome=accuracy_outcome(),
            sweep_id=identity,
            **falls,
        )
        store.add_variant(identity, card())
    checked = check(store, 1)
    assert Trouble.FALLBACK in checked.cells[0].troubles
    assert checked.is_bad(BY_DEFAULT)


def test_a_cell_that_crashes_is_failed_and_a_phone_that_is_gone_too(quiet):
    identity = add_night(quiet, NIGHTS, {"fp32": [2000.0] * 5})
    crashed = Failure(FailureClass.CRASHED, "It was killed by signal 11.")
    quiet.add_cell(identity, cell("int8"))
    add(quiet, cell("int8"), 0, failed(crashed), sweep_id=identity)
    quiet.add_device_failure(identity, "OTHER", Failure(FailureClass.DEVICE_LOST, "The other phone went away."))
    checked = check(quiet, NIGHTS)
    assert troubles(checked) == {"int8": {Trouble.FAILED}, "fp32": set()}
    assert [row.serial for row in checked.other_failures] == ["OTHER"]
    document = document_of(checked)
    assert [failure.get("type") for failure in document.findall(".//failure")] == ["failed"]
    assert [error.get("type") for error in document.findall(".//error")] == ["device_lost"]
    assert document_of(checked, []).find(".//failure") is None
    assert not checked.is_bad([])


def outcome(checked, fail_on=BY_DEFAULT, *, interrupted=False):
    return NightOutcome(checked, interrupted, fail_on).exit_code


def test_exit_codes(quiet, generator):
    add_night(quiet, NIGHTS, {"int8": processes(generator, 1000)})
    add_night(quiet, NIGHTS + 1, {"int8": processes(generator, 5000)})
    add_failed_night(quiet, NIGHTS + 2)
    assert outcome(check(quiet, NIGHTS)) == ExitCode.OK
    assert outcome(check(quiet, NIGHTS + 1)) == ExitCode.CELL_FAILED
    assert outcome(check(quiet, NIGHTS + 1), []) == ExitCode.OK
    assert outcome(check(quiet, NIGHTS + 2)) == ExitCode.NOTHING_TO_RUN_ON
    assert outcome(check(quiet, NIGHTS + 1), interrupted=True) == ExitCode.INTERRUPTED


HOSTILE = "<script>alert(1)</script>\x00\x1b[31m\ufffe ]]> & \"'"


def test_names_from_outside_break_neither_xml_nor_screen_nor_json(store, generator):
    for night in range(2):
        add_night(store, night, {HOSTILE: processes(generator, 1000 * (1 + 4 * night))}, serial=HOSTILE)
    checked = check(store, 1)
    (failure,) = document_of(checked).findall(".//failure")
    assert failure is not None
    console = Console(width=120, file=(written := io.StringIO()))
    console.print(night_screen(checked, BY_DEFAULT))
    assert "\x1b[31m" not in written.getvalue()
    json.dumps(to_json_value(night_document(checked, BY_DEFAULT)), allow_nan=False).encode()
    json.dumps(night_message(checked, BY_DEFAULT, 1)).encode()


def test_a_message_names_at_most_ten_cells(store, generator):
    names = [f"variant-{number}" for number in range(12)]
    for night in range(2):
        add_night(store, night, {name: processes(generator, 1000 * (1 + 4 * night)) for name in names})
    message = night_message(check(store, 1), BY_DEFAULT, 1)
    assert message["text"].count("Slower by") == 10
    assert "and 2 more" in message["text"]
    assert message["troubles"]["slower"] == 12
