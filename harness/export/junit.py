"""A night as JUnit XML, as Jenkins, GitLab and others read it: one test case per cell."""

from __future__ import annotations

from collections.abc import Collection

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.analysis.history.night_check import CheckedCell, NightCheck, Trouble, trouble_sentence
from harness.analysis.result_row import ResultRow
from harness.errors import HarnessError
from harness.text import number, printable


def junit_xml(check: NightCheck, fail_on: Collection[Trouble]) -> str:
    """Return the document. A cell fails by what `fail_on` names, and is skipped where the time was up before it."""
    document = JUnitXml(printable(f"harness {check.sweep_id}"))
    for serial in dict.fromkeys(cell.name.serial for cell in check.cells):
        suite = TestSuite(printable(serial))
        for cell in check.cells:
            if cell.name.serial == serial:
                suite.add_testcase(_cell_case(cell, fail_on))
        document.add_testsuite(suite)
    if check.other_failures:
        suite = TestSuite("devices and recipes")
        for row in check.other_failures:
            suite.add_testcase(_failed_case(row, fail_on))
        document.add_testsuite(suite)
    return _text(document)


def junit_of_error(error: HarnessError) -> str:
    """Return the document of a night that could not begin, with the reason as its only case."""
    case = TestCase("night", "harness", 0.0)
    case.result = [Error(printable(f"{error} {error.advice}"), type(error).__name__)]
    suite = TestSuite("harness")
    suite.add_testcase(case)
    document = JUnitXml("harness")
    document.add_testsuite(suite)
    return _text(document)


def _text(document: JUnitXml) -> str:
    for suite in document:
        suite.update_statistics()  # type: ignore[no-untyped-call]
        suite.time = round(suite.time or 0.0, 3)  # the schema knows milliseconds
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return text.decode("utf-8")


def _cell_case(cell: CheckedCell, fail_on: Collection[Trouble]) -> TestCase:
    """Return one case; its time is the median latency, so that a CI server draws that over the nights."""
    name, row = cell.name, cell.side.cell
    latency_us = row.latency_median_us
    case = TestCase(
        printable(f"{name.variant} {name.delegate} t{name.threads}"),
        printable(f"harness.{name.serial}"),
        (latency_us or 0.0) / 1e6,
    )
    counted = sorted(cell.troubles & set(fail_on))
    case.result = [Failure(printable(trouble_sentence(cell, trouble)), trouble.value) for trouble in counted]
    if cell.is_left_out and not counted:
        case.result = [Skipped(printable(trouble_sentence(cell, Trouble.LEFT_OUT)), Trouble.LEFT_OUT.value)]
    told = [
        f"latency: {number(latency_us and latency_us / 1000)} ms",
        f"processes: {len(cell.side.latencies_us)}",
        f"ran on: {row.delegate_achieved or 'unknown'}",
        *(trouble_sentence(cell, trouble) for trouble in sorted(cell.troubles - set(fail_on))),
    ]
    case.system_out = "\n".join(map(printable, told))
    return case


def _failed_case(row: ResultRow, fail_on: Collection[Trouble]) -> TestCase:
    case = TestCase(printable(row.variant or row.device or row.serial), "harness", 0.0)
    sentence = printable(f"{row.failure_message} {row.failure_advice or ''}")
    if Trouble.FAILED in fail_on:
        case.result = [Error(sentence, printable(row.failure_class))]
    else:
        case.system_out = sentence
    return case
