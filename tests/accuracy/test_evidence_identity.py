"""What an accuracy pass was made with has one identity: whatever changes it asks for the pass again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from results_examples import card

from harness.accuracy.on_device import CheckData
from harness.accuracy.reference import HostOutputs
from harness.datasets.labelled import Samples
from harness.spec.limits import OutputLimits
from harness.tflite.variant import Variant


def evidence(tmp_path, inputs=0.0, labels=(0, 1), model="fp32", **limits):
    samples = Samples((np.full((2, 4), inputs, np.float32),), None if labels is None else np.array(labels))
    variant = Variant(Path("model.tflite"), card(model)) if model else None
    return CheckData(samples, HostOutputs(tmp_path), variant, OutputLimits.model_validate(limits))


def test_the_same_has_the_same_identity_and_anything_else_another(tmp_path):
    first = evidence(tmp_path)
    assert evidence(tmp_path).sha256 == first.sha256
    others = [
        evidence(tmp_path, inputs=1.0),
        evidence(tmp_path, labels=(1, 0)),
        evidence(tmp_path, labels=None),
        evidence(tmp_path, model="int8"),
        evidence(tmp_path, model=None),
        evidence(tmp_path, floating={"cosine_min": 0.5}),
    ]
    assert len({one.sha256 for one in (first, *others)}) == 1 + len(others)
    assert replace(first, limits=others[-1].limits).sha256 == others[-1].sha256
