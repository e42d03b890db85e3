"""Accuracy budgets: the paired bound against an exact one, and the search against a model with known costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.compression import judges
from harness.compression.accuracy_budget import keep_within, per_byte
from harness.compression.graph.quantizer import FormatRule
from harness.compression.judges import DropJudge, paired_drop

SAMPLES = 2000


def _answers(labels: NDArray[np.int64], wrong: Sequence[int]) -> NDArray[Any]:
    scores = np.eye(10)[labels]
    scores[list(wrong)] = np.eye(10)[(labels[list(wrong)] + 1) % 10]
    return scores


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (20, 0), (30, 30), (0, 25), (60, 20)])
def test_the_drop_counts_only_what_changed(lost: int, gained: int) -> None:
    labels = np.arange(SAMPLES) % 10
    reference = _answers(labels, range(gained))
    variant = _answers(labels, range(100, 100 + lost))
    drop = paired_drop(variant, reference, labels)
    assert drop.points == pytest.approx(100 * (lost - gained) / SAMPLES)
    shares = np.array([lost, gained, SAMPLES - lost - gained]) / SAMPLES
    draws = np.random.default_rng(3).multinomial(SAMPLES, shares, 20_000)  # the bootstrap as a reference
    upper = 100 * np.quantile(draws[:, 0] - draws[:, 1], 0.95) / SAMPLES
    assert drop.upper_points == pytest.approx(upper, abs=0.1)
    assert drop.upper_points > drop.points


class _Model:
    """A network of which each quantized layer spoils a known number of samples; the graph's bytes name the layers."""

    def __init__(self, spoils: dict[str, int]) -> None:
        self.spoils = spoils
        self.labels = np.arange(SAMPLES) % 10

    def quantize(self, rules: Sequence[FormatRule]) -> bytes:
        def precision(layer: str) -> str:
            return next(rule.weights for rule in reversed(rules) if re.search(rule.match, layer))

        return ",".join(layer for layer in self.spoils if precision(layer) == "int4").encode()

    def run(self, graph: bytes, *_: Any) -> NDArray[Any]:
        wrong = sum(self.spoils[layer] for layer in graph.decode().split(",") if layer)
        return _answers(self.labels, range(wrong))


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Any:
    def search(spoils: dict[str, int], max_drop_points: float) -> Any:
        model = _Model(spoils)
        monkeypatch.setattr(judges, "run_graph", model.run)
        judge = DropJudge(max_drop_points, np.zeros((SAMPLES, 1)), model.labels, _answers(model.labels, ()))
        order = per_byte({layer: float(lost) for layer, lost in spoils.items()}, {})
        return keep_within(model.quantize, [FormatRule("int4", "int8")], order, judge, progress=lambda *_: None)

    return search


def test_the_costliest_layers_are_reverted_and_no_more_than_needed(spoilt: Any) -> None:
    kept = spoilt({"a;": 2, "b;": 90, "c;": 1, "d;": 50, "e;": 3}, 1.0)
    assert kept.reverted == ("b;", "d;")
    assert kept.verdict.within
    assert kept.verdict.facts["drop_upper_points"] <= 1.0
    assert [rule.weights for rule in kept.rules[1:]] == ["int8", "int8"], "int8 is enough, so nothing goes to float"


def test_a_budget_that_holds_anyway_reverts_nothing(spoilt: Any) -> None:
    assert spoilt({"a;": 1, "b;": 2}, 1.0).reverted == ()


def test_a_budget_out_of_reach_gives_the_best_and_says_so(spoilt: Any) -> None:
    kept = spoilt({"a;": 5, "b;": 90}, 0.01)
    assert not kept.verdict.within
    assert set(kept.reverted) == {"a;", "b;"}
    assert kept.verdict.facts["drop_points"] == 0.0


def test_out_of_reach_no_more_layers_are_reverted_than_help(spoilt: Any) -> None:
    kept = spoilt({"a;": 0, "b;": 90, "c;": 0, "d;": 0}, 0.01)
    assert not kept.verdict.within, "even no sample lost proves no such budget"
    assert kept.reverted == ("b;",)
    assert [rule.weights for rule in kept.rules[1:]] == ["int8"], "the lesser step is tried first"


def test_layers_that_add_much_noise_in_few_bytes_come_first() -> None:
    noise = {"large;": 0.3, "small;": 0.1, "quiet;": 0.001, "pool;": 0.01}
    weights = {"large;": 1_000_000, "small;": 3_000, "quiet;": 500}
    assert per_byte(noise, weights) == ["small;", "pool;", "quiet;", "large;"]
