"""How often comparisons are wrong, on simulated phones with known truth: `python benchmarks/verdicts.py [--quick]`.

Two questions for each phone and each rule: how often are two equal cells called different (false alarms), and how often
is a slowdown of 5 % found? The rules see the very same data: `harness compare`; Welch's t-test over all iterations;
asv's rule, also over all iterations (Mann and Whitney, p < 0.002, and a ratio of 1.1; shown without that ratio too,
since it hides whatever is smaller); and the mean of one process a side, called different from 2 %.

The noise is what peers report: iterations that differ by 2.8 % within a process and processes that differ by 14.8 %
(mui/mui-public, pull request 1712), a phone that heats up, processes that land on a core seven times as slow (27
against 184 ms on a Galaxy A55), and whole sweeps that differ by 14.8 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from harness.analysis.comparison import Finding, FindingVerdict, LatencySamples, compare
from harness.analysis.device_noise import LATEST_SWEEPS
from harness.analysis.noise_floor import NoiseFloor, assumed_floor, floor_between_sweeps, floor_within_sweep
from harness.analysis.ratio import middle
from harness.analysis.statistics import enough, median_with_interval
from harness.api.noise import DEFAULT_SWEEPS
from harness.spec.sweep import PRESETS

Floats = NDArray[np.float64]

SLOWDOWN = 1.05
DIFFERENT = frozenset({FindingVerdict.SLOWER, FindingVerdict.FASTER})


@dataclass(frozen=True)
class Phone:
    """A phone with known noise; all deviations are relative."""

    name: str
    between: float = 0.03
    """Of one process from another."""
    within: float = 0.028
    """Of one iteration from another in the same process."""
    sweeps: float = 0.0
    """Of one sweep from another."""
    heating: float = 0.0
    """How much slower the last block of a sweep is than the first."""
    slow_core: float = 0.0
    """Share of processes that take seven times as long."""

    def sweep(self, generator: np.random.Generator, ratio: float, processes: int, runs: int) -> Floats:
        """Sweep two cells in turns, the second `ratio` times as slow: latencies as cell x process x iteration."""
        logs = generator.normal(0, self.sweeps) + generator.normal(0, self.between, (2, processes, 1))
        logs = logs + np.log1p(self.heating) * np.linspace(0, 1, processes)[None, :, None]
        logs = logs + np.log(7) * (generator.random((2, processes, 1)) < self.slow_core)
        logs = logs + generator.normal(0, self.within, (2, processes, runs))
        logs[1] += np.log(ratio)
        return np.asarray(1000 * np.exp(logs))


PHONES = (
    Phone("processes differ by 3 %"),
    Phone("processes differ by 14.8 %", between=0.148),
    Phone("3 %, heats up by 15 %", heating=0.15),
    Phone("3 %, 5 % on a slow core", slow_core=0.05),
    Phone("3 %, sweeps differ by 14.8 %", sweeps=0.148),
)

Data = tuple[Floats, Floats]
"""Both sides as process x iteration."""
Rule = Callable[[Data], bool]


def by_t_test(data: Data) -> bool:
    """Judge all iterations as if they were independent."""
    return bool(stats.ttest_ind(data[0].ravel(), data[1].ravel(), equal_var=False).pvalue < 0.05)


def by_asv_test(data: Data) -> bool:
    """Judge by the test of asv alone (`asv/_stats.py`, `is_different`)."""
    return bool(stats.mannwhitneyu(data[0].ravel(), data[1].ravel()).pvalue < 0.002)


def by_asv(data: Data) -> bool:
    """Judge as `asv compare` does by default: its test, and medians that differ by a factor of 1.1."""
    ratio = float(np.median(data[1]) / np.median(data[0]))
    return by_asv_test(data) and max(ratio, 1 / ratio) > 1.1


def by_one_mean(data: Data) -> bool:
    """Judge the mean of one process a side, as a person with a phone and no harness does."""
    ratio = float(data[1][0].mean() / data[0][0].mean())
    return max(ratio, 1 / ratio) - 1 >= 0.02


RIVALS: dict[str, Rule] = {
    "t-test over iterations": by_t_test,
    "asv's test": by_asv_test,
    "asv with factor 1.1": by_asv,
    "mean of one process": by_one_mean,
}


def processes_of(data: Data) -> tuple[list[float], list[float]]:
    """Return the average of each process, as the tool prints it."""
    a, b = (list(side.mean(axis=1)) for side in data)
    return a, b


def compare_in_turns(data: Data) -> bool:
    """Judge as `harness compare` does inside one sweep, with no A/A sweeps at hand."""
    a, b = processes_of(data)
    return is_different(compare([LatencySamples(a, b, True, floor_within_sweep([a, b], len(a), "this sweep"))])[0])


def is_different(finding: Finding) -> bool:
    """Tell whether a finding calls two cells different."""
    return finding.verdict in DIFFERENT


def compare_sweeps(floor: NoiseFloor | None) -> Rule:
    """Judge as `harness compare` does between two sweeps, above a floor."""

    def rule(data: Data) -> bool:
        a, b = processes_of(data)
        return is_different(compare([LatencySamples(a, b, False, floor)])[0])

    return rule


def measured_floor(generator: np.random.Generator, phone: Phone, sweeps_made: int = DEFAULT_SWEEPS) -> NoiseFloor:
    """Measure a phone's floor between sweeps as `harness noise` does."""
    sweeps = [phone.sweep(generator, 1, *standard())[0] for _ in range(sweeps_made)]
    floor = floor_between_sweeps([[middle(list(sweep.mean(axis=1))) for sweep in sweeps]], "A/A sweeps")
    assert floor is not None
    return floor


def inside_one_sweep(generator: np.random.Generator, phone: Phone, ratio: float, times: int) -> dict[str, float]:
    """Return how often each rule calls two cells of one sweep different."""
    rules: dict[str, Rule] = {"harness compare": compare_in_turns, **RIVALS}
    hits = dict.fromkeys(rules, 0)
    for _ in range(times):
        a, b = phone.sweep(generator, ratio, *standard())
        for name, rule in rules.items():
            hits[name] += rule((a, b))
    return {name: count / times for name, count in hits.items()}


def between_two_sweeps(generator: np.random.Generator, phone: Phone, ratio: float, times: int) -> dict[str, float]:
    """Return how often each rule calls the same cell of two sweeps different. Every time is a new phone."""
    hits: dict[str, int] = {}
    for _ in range(times):
        data = phone.sweep(generator, 1, *standard())[0], phone.sweep(generator, ratio, *standard())[1]
        rules: dict[str, Rule] = {
            "harness compare": compare_sweeps(measured_floor(generator, phone)),
            "the same, no A/A sweeps": compare_sweeps(assumed_floor()),
            "the same, no floor at all": compare_sweeps(None),
            **RIVALS,
        }
        for name, rule in rules.items():
            hits[name] = hits.get(name, 0) + rule(data)
    return {name: count / times for name, count in hits.items()}


def standard() -> tuple[int, int]:
    """Return processes and iterations of preset standard."""
    return PRESETS["standard"]["invocations"], PRESETS["standard"]["runs"]


def by_processes(generator: np.random.Generator, times: int) -> dict[str, dict[str, float]]:
    """Return what each number of processes finds of slowdowns by 5 and 10 %, where processes differ by 3 %."""
    counts = sorted({10, *(preset["invocations"] for preset in PRESETS.values())})
    rates: dict[str, dict[str, float]] = {}
    for count in counts:
        rates[str(count)] = {}
        for name, ratio in (("false alarms", 1.0), ("5 % found", 1.05), ("10 % found", 1.10)):
            found = sum(compare_in_turns(split(PHONES[0].sweep(generator, ratio, count, 30))) for _ in range(times))
            rates[str(count)][name] = found / times
    return rates


def by_noise_sweeps(generator: np.random.Generator, times: int) -> dict[str, dict[str, float]]:
    """Return what a comparison of two sweeps finds after so many A/A sweeps, where processes differ by 3 %."""
    rates: dict[str, dict[str, float]] = {}
    for count in (6, DEFAULT_SWEEPS, LATEST_SWEEPS):
        rates[str(count)] = {}
        for name, ratio in (("false alarms", 1.0), ("5 % found", 1.05)):
            found = 0
            for _ in range(times):
                data = PHONES[0].sweep(generator, 1, *standard())[0], PHONES[0].sweep(generator, ratio, *standard())[1]
                found += compare_sweeps(measured_floor(generator, PHONES[0], count))(data)
            rates[str(count)][name] = found / times
    return rates


def split(cells: Floats) -> Data:
    """Return two cells as both sides."""
    return cells[0], cells[1]


def many_cells(generator: np.random.Generator, times: int, cells: int = 12) -> dict[str, float]:
    """Return what the correction does in sweeps of twelve pairs: none changed, or one slower by 5 or 10 %."""
    processes, runs = standard()
    rates: dict[str, float] = {}
    for name, ratio in (("none changed", 1.0), ("one slower by 5 %", 1.05), ("one slower by 10 %", 1.10)):
        any_alarm = found = 0
        for _ in range(times):
            pairs = [
                processes_of(split(PHONES[0].sweep(generator, ratio if index == 0 else 1.0, processes, runs)))
                for index in range(cells)
            ]
            floor = floor_within_sweep([side for pair in pairs for side in pair], processes, "this sweep")
            findings = compare([LatencySamples(a, b, True, floor) for a, b in pairs])
            any_alarm += any(map(is_different, findings[1:] if ratio > 1 else findings))
            found += findings[0].verdict is FindingVerdict.SLOWER
        rates[f"{name}: any false alarm"] = any_alarm / times
        if ratio > 1:
            rates[f"{name}: found"] = found / times
    return rates


def stopping(generator: np.random.Generator, times: int) -> dict[str, float]:
    """Return what sequential stopping does: processes needed, and how often the interval still holds the truth."""
    rates: dict[str, float] = {}
    for noise in (0.01, 0.03, 0.10):
        counts, covered = [], 0
        for _ in range(times):
            latencies = list(generator.lognormal(0, noise, 10))
            while not enough(latencies, 0.05, fewest=10, most=60):
                latencies.append(float(generator.lognormal(0, noise)))
            estimate = median_with_interval(latencies)
            assert estimate is not None
            assert estimate.low is not None
            assert estimate.high is not None
            covered += estimate.low <= 1.0 <= estimate.high
            counts.append(len(latencies))
        rates[f"noise {noise:.0%}: processes, mean"] = float(np.mean(counts))
        rates[f"noise {noise:.0%}: interval holds the truth"] = covered / times
    return rates


def main() -> None:
    """Simulate, print the tables, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sweeps: under a minute")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    times = 100 if arguments.quick else 2000
    few = max(50, times // 4)
    generator = np.random.default_rng(arguments.seed)
    started = time.perf_counter()
    figures: dict[str, object] = {"sweeps_each": times, "slowdown": SLOWDOWN}
    designs = {"inside one sweep": inside_one_sweep, "between two sweeps": between_two_sweeps}
    for design, simulate in designs.items():
        rates = {
            phone.name: {
                "false alarms": simulate(generator, phone, 1.0, times),
                "slowdown found": simulate(generator, phone, SLOWDOWN, times),
            }
            for phone in PHONES
        }
        figures[design] = rates
        show(f"Cells compared {design}, preset standard: false alarms / slowdowns of 5 % found, %", rates)
    details = {
        "by processes a side": by_processes(generator, times),
        "between sweeps, by A/A sweeps": by_noise_sweeps(generator, few),
        "twelve cells at once": many_cells(generator, few),
        "sequential stopping": stopping(generator, few),
    }
    show_details(details)
    figures |= details
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    print(json.dumps({"benchmark": "statistics", "figures": figures, "machine": machine}))


def show(title: str, rates: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print one row a rule and one column a phone."""
    table = Table("rule", *rates, title=title)
    rules: Iterable[str] = next(iter(rates.values()))["false alarms"]
    for rule in rules:
        cells = [
            f"{100 * rate['false alarms'][rule]:.1f} / {100 * rate['slowdown found'][rule]:.1f}"
            for rate in rates.values()
        ]
        table.add_row(rule, *cells)
    Console(width=140).print(table)


def show_details(details: dict[str, dict[str, float]] | dict[str, object]) -> None:
    """Print the smaller questions, one line a figure."""
    table = Table("question", "case", "figure")
    for question, answers in details.items():
        assert isinstance(answers, dict)
        for case, figure in answers.items():
            if isinstance(figure, dict):
                text = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in figure.items())
            else:
                text = f"{figure:.1f}" if figure > 1 else f"{100 * figure:.1f} %"
            table.add_row(question, case, text)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
