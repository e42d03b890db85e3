"""Foreseeing from a card that a runtime will refuse a variant."""

from __future__ import annotations

import pytest
from small_graphs import dense_graph

from harness.compression.lineage import Lineage
from harness.compression.make import build_card
from harness.errors import FailureClass
from harness.tflite.runtimes import foresee_failure, known_runtimes
from harness.tflite.variant import VariantCard

LINEAGE = Lineage(
    model="m", model_sha256="0", recipe="r", steps=(), target_runtime="2.14", libraries={}, calibration=None
)


def _card(**options: object) -> VariantCard:
    return build_card(dense_graph(**options), LINEAGE, seconds=0.1)  # type: ignore[arg-type]


def test_known_runtimes() -> None:
    assert "2.14" in known_runtimes()


@pytest.mark.parametrize("runtime", ["2.14", "2.14.1", "9.99"])
def test_nothing_speaks_against_a_plain_variant(runtime: str) -> None:
    assert foresee_failure(_card(), runtime) is None


def test_a_newer_operator_version_is_foreseen() -> None:
    failure = foresee_failure(_card(version=12), "2.14.1")
    assert failure is not None
    assert failure.failure_class is FailureClass.UNSUPPORTED_OP_VERSION
    assert "FULLY_CONNECTED version 12" in failure.message
    assert "FULLY_CONNECTED 10" in failure.message
    assert foresee_failure(_card(version=10), "2.14.1") is None


def test_nothing_is_claimed_about_an_unknown_runtime() -> None:
    assert foresee_failure(_card(version=12), "2.19") is None


def test_foreign_custom_operators_are_foreseen_for_every_runtime() -> None:
    failure = foresee_failure(_card(custom_operator="FlexErf"), "9.99")
    assert failure is not None
    assert failure.failure_class is FailureClass.UNSUPPORTED_OP
    assert "FlexErf" in failure.message


def test_custom_operators_of_the_stock_runtime_are_fine() -> None:
    assert foresee_failure(_card(custom_operator="TFLite_Detection_PostProcess"), "2.14") is None


def test_an_operator_that_came_later_is_foreseen() -> None:
    card = _card().model_copy(update={"operator_versions": {"STABLEHLO_COMPOSITE": 1}})
    failure = foresee_failure(card, "2.14")
    assert failure is not None
    assert failure.failure_class is FailureClass.UNSUPPORTED_OP
    assert "STABLEHLO_COMPOSITE" in failure.message
