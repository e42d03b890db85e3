"""How often nights of noise look like a step, and how soon a step is found: `python benchmarks/change_points.py`.

Nights of one cell are simulated with known truth and looked at every night, as `harness nightly` does: a false alarm is
a step that is shown on any of the nights, not only on the last one. The nights differ by 3 %; the harder kinds of noise
are a phone that is hot now and then (one night in twenty takes up to half as long again), heavy tails, and nights that
depend on the night before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.analysis.history.change_points import FEWEST_NIGHTS, find_level_shifts

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]

NIGHTS = 60
NOISE = 0.03
QUIET_NIGHTS = 30
"""Nights before a step."""


def normal(generator: np.random.Generator, count: int) -> Floats:
    """Return nights that differ by 3 %."""
    return generator.normal(0, NOISE, count)


def hot(generator: np.random.Generator, count: int) -> Floats:
    """Return the same, and one in twenty is up to half as slow again."""
    return normal(generator, count) + (generator.random(count) < 0.05) * generator.uniform(0, np.log(1.5), count)


def heavy(generator: np.random.Generator, count: int) -> Floats:
    """Return Student's t with three degrees of freedom, as wide as 3 %."""
    return NOISE * generator.standard_t(3, count) / np.sqrt(3)


def dependent(generator: np.random.Generator, count: int) -> Floats:
    """Return nights of which each keeps three tenths of the night before."""
    shocks = generator.normal(0, NOISE * np.sqrt(1 - 0.3**2), count)
    values = np.zeros(count)
    values[0] = generator.normal(0, NOISE)
    for night in range(1, count):
        values[night] = 0.3 * values[night - 1] + shocks[night]
    return values


KINDS: dict[str, Noise] = {
    "nights differ by 3 %": normal,
    "3 %, one in 20 hot": hot,
    "heavy tails": heavy,
    "depend on the night before (0.3)": dependent,
}


def false_alarms(generator: np.random.Generator, noise: Noise, cells: int) -> dict[str, float]:
    """Return the share of cells of 60 equal nights that show a step: on the last night, and on any night."""
    at_last = on_any = 0
    for _ in range(cells):
        latencies = np.exp(noise(generator, NIGHTS))
        shown = [bool(find_level_shifts(list(latencies[:count]))) for count in range(2 * FEWEST_NIGHTS, NIGHTS + 1)]
        at_last += shown[-1]
        on_any += any(shown)
    return {"on the last night": at_last / cells, "on any night": on_any / cells}


def delays(generator: np.random.Generator, noise: Noise, size: float, cells: int) -> list[int]:
    """Return, for each cell, after how many nights at a new level the step is shown; 31 where it was not within 30."""
    found = []
    for _ in range(cells):
        logs = noise(generator, QUIET_NIGHTS + 30)
        logs[QUIET_NIGHTS:] += np.log1p(size)
        latencies = list(np.exp(logs))
        for after in range(FEWEST_NIGHTS, 31):
            steps = find_level_shifts(latencies[: QUIET_NIGHTS + after])
            if any(abs(step.at - QUIET_NIGHTS) <= 5 for step in steps):
                found.append(after)
                break
        else:
            found.append(31)
    return found


def places(generator: np.random.Generator, cells: int) -> dict[str, float]:
    """Return how well the place of a step of 5 % between 30 and 30 nights is told."""
    covered = off = seen = 0
    for _ in range(cells):
        logs = normal(generator, 60)
        logs[30:] += np.log(1.05)
        for step in find_level_shifts(list(np.exp(logs))):
            seen += 1
            covered += step.earliest <= 30 <= step.latest
            off += abs(step.at - 30)
    return {"found": seen / cells, "range holds the true night": covered / seen, "nights off, mean": off / seen}


def mended(generator: np.random.Generator, cells: int) -> float:
    """Return how often a slowdown of 10 % that lasted 8 of 60 nights is still shown with both ends after its end."""
    shown = 0
    for _ in range(cells):
        logs = normal(generator, NIGHTS)
        logs[26:34] += np.log(1.10)
        shown += len(find_level_shifts(list(np.exp(logs)))) == 2
    return shown / cells


def main() -> None:
    """Simulate, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cells: under a minute")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    cells, few = (20, 20) if arguments.quick else (1000, 200)
    generator = np.random.default_rng(arguments.seed)
    started = time.perf_counter()
    alarms = {name: false_alarms(generator, noise, cells) for name, noise in KINDS.items()}
    table = Table("cells of 60 nights without a step", "shown on the last night, %", "on any night, %")
    for name, rates in alarms.items():
        table.add_row(name, *(f"{100 * rate:.2f}" for rate in rates.values()))
    Console(width=120).print(table)
    soon = {}
    table = Table(
        "step after 30 nights", "nights until half of the cells show it", "until 9 of 10 do", "in 30 nights, %"
    )
    for size in (0.03, 0.05, 0.10, 0.50):
        waits = delays(generator, normal, size, few)
        soon[f"{size:.0%}"] = {
            "median": float(np.median(waits)),
            "nine_in_ten": float(np.quantile(waits, 0.9)),
            "within_30": float(np.mean(np.array(waits) <= 30)),
        }
        row = soon[f"{size:.0%}"]
        table.add_row(
            f"{size:.0%}", f"{row['median']:.0f}", f"{row['nine_in_ten']:.0f}", f"{100 * row['within_30']:.1f}"
        )
    Console(width=120).print(table)
    details = {**places(generator, few), "slowdown of 10 % for 8 nights, since mended": mended(generator, few)}
    for name, figure in details.items():
        print(f"{name}: {figure:.3f}")
    figures = {"cells": cells, "cells_with_step": few, "false_alarms": alarms, "nights_until_found": soon, **details}
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    print(json.dumps({"benchmark": "change_points", "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
