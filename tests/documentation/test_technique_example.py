"""The technique that docs/how-to/technique.md shows does what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from harness.compression import registry

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "technique.md"


class Layer:
    def __init__(self, *weights):
        self.weights = [np.asarray(weight, np.float32) for weight in weights]

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


class Work:
    """What the example uses of a workpiece and of a Keras model."""

    def __init__(self, *layers):
        self.layers, self.facts = layers, {}

    def keras_model(self):
        return self

    def report(self, **facts):
        self.facts |= facts


@pytest.fixture
def example(monkeypatch):
    """The technique of the page, known to harness for the length of one test."""
    registry.all_techniques()
    monkeypatch.setattr(registry, "_TECHNIQUES", dict(registry._TECHNIQUES))
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(source, PAGE.name, "exec"), {"__name__": "example"})
    return registry._TECHNIQUES["rounding"]


def test_the_example_registers_and_rounds(example):
    work = Work(Layer([0.3, -5.03, 0.0], [1e-3]), Layer())
    example.apply(work, example.settings_type(digits=4))

    rounded, small = work.layers[0].get_weights()
    assert rounded.tolist() == [0.3125, -5.0, 0.0]
    assert abs(small[0] / 1e-3 - 1) < 2**-4
    assert work.facts == {"digits": 4}
    assert example.summary == "Round weights to a number of binary digits."
