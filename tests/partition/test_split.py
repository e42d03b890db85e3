"""Stages of real graphs, chained on this host, against the whole: every bit, at every cut."""

import importlib.util
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.errors import UsageError
from harness.partition.chain import KERNELS, difference, run_chain, run_stage
from harness.partition.check import check_chain, random_inputs
from harness.partition.cuts import balanced_cuts, named_cuts, narrow_cuts
from harness.partition.graph import Graph, Operator, Tensor, estimate_work, read_partitionable
from harness.partition.partition import partition
from harness.partition.split import split
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.tflite.weights import replace_weights, weights

DATA = Path(__file__).parents[1]
SMALL = [
    file for folder in ("accuracy", "benchmark", "partition") for file in sorted(DATA.glob(f"{folder}/data/*.tflite"))
]
RECIPES = ("fp32", "fp16", "dynamic-int8", "int8", "int8-io", "int16x8", "int4", "int8-tensor")


def assert_exact(content, cuts):
    """Chain the stages of each list of cuts, on all kernels."""
    graph = read_partitionable(content, name="model")
    inputs = random_inputs(graph)
    whole = {kernels: run_stage(content, inputs, kernels) for kernels in KERNELS}
    for some in cuts(graph):
        stages = split(content, graph, some)
        assert sum(len(set(stage.operators) - graph.constant_operators) for stage in stages) == len(graph.steps)
        listed = [{"content": stage.content, "inputs": stage.inputs, "outputs": stage.outputs} for stage in stages]
        for kernels in KERNELS:
            values = run_chain(listed, dict(zip(graph.inputs, inputs, strict=True)), kernels)
            assert difference(whole[kernels], [values[tensor] for tensor in graph.outputs]) == "", (some, kernels)


def every_cut(graph):
    return [[cut] for cut in range(1, len(graph.steps))]


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_every_cut_of_a_small_graph(path):
    assert_exact(path.read_bytes(), every_cut)


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_as_many_stages_as_operators(path):
    assert_exact(path.read_bytes(), lambda graph: [list(range(1, len(graph.steps)))])


@pytest.mark.training
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_cut_of_the_default_model_in_every_format(recipe):
    variant = make_variant(
        find_model("fashion-dscnn"), find_recipe(recipe), cache=cache_folder(), observer=SilentObserver()
    )
    assert_exact(variant.path.read_bytes(), every_cut)


def converted(model):
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


@pytest.mark.training
def test_random_cuts_of_mobilenet_v2():
    import keras

    content = converted(keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, alpha=0.35))

    def cuts(graph):
        draw = random.Random(1)
        return [sorted(draw.sample(range(1, len(graph.steps)), count)) for count in (1, 1, 1, 2, 3, 4)]

    assert_exact(content, cuts)
    graph = read_partitionable(content, name="mobilenet")
    residual = max(len(graph.crossing(cut)) for cut in range(1, len(graph.steps)))
    assert residual == 2  # beside the branch, the shortcut crosses too


@pytest.mark.training
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_random_cuts_of_efficientnet_lite0(half):
    """Of the network that the package's weights belong to; what the weights are changes no cut."""
    import tensorflow as tf

    from harness.compression.sources.efficientnet_lite import build_efficientnet_lite0

    converter = tf.lite.TFLiteConverter.from_keras_model(build_efficientnet_lite0())
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    def cuts(graph):
        draw = random.Random(2)
        return [sorted(draw.sample(range(1, len(graph.steps)), count)) for count in (1, 2, 4)]

    assert_exact(converter.convert(), cuts)


def package_files():
    """Return the models that other packages bring, where one is installed: nothing is downloaded for a test."""
    for package, pattern in (("basic_pitch", "saved_models/**/*.tflite"), ("mediapipe", "modules/**/*.tflite")):
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            yield from sorted(Path(folder).glob(pattern))


def test_random_cuts_of_models_from_packages():
    files = list(package_files())
    if not files:
        pytest.skip("no package with models of its own is installed (basic-pitch, mediapipe): they are large")
    exact = 0
    for file in files:
        content = file.read_bytes()
        try:
            steps = len(read_partitionable(content, name=file.name).steps)
        except UsageError as refusal:  # some hold operators of their own makers
            assert "custom operator" in str(refusal), file
            continue
        draw = random.Random(3)
        assert_exact(content, lambda _, steps=steps, draw=draw: [sorted(draw.sample(range(1, steps), 2))])
        exact += 1
    assert exact


@pytest.mark.training
def test_several_inputs_outputs_and_results_that_jump_over_stages():
    import keras

    one, two = keras.Input((8, 8, 3), batch_size=1), keras.Input((4,), batch_size=1)
    left = keras.layers.Conv2D(4, 3, padding="same")(one)
    right = keras.layers.Dense(4, activation="relu")(two)
    joined = left + right[:, None, None, :]
    early = keras.layers.GlobalAveragePooling2D()(left)
    late = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(joined * left))
    content = converted(keras.Model([one, two], [early, late, joined]))
    assert_exact(content, every_cut)
    assert_exact(content, lambda graph: [list(range(1, len(graph.steps)))])


def test_a_weights_dequantize_goes_with_those_who_use_it():
    graph = Graph(
        operators=(
            Operator("DEQUANTIZE", (1,), (2,)),
            Operator("CONV_2D", (0, 2), (3,)),
            Operator("ADD", (3, 2), (4,)),
        ),
        tensors=tuple(Tensor(f"t{index}", (1, 4), "float32") for index in range(5)),
        inputs=(0,),
        outputs=(4,),
        constants=frozenset({1}),
    )
    assert graph.steps == (1, 2)
    assert graph.crossing(1) == (3,)
    assert graph.crossing_bytes(1) == 16


# -- where to cut --


def chain_graph(sizes):
    """Return a graph of one operator after the other; `sizes` are the bytes that each writes."""
    tensors = (Tensor("in", (1,), "int8"), *(Tensor(f"t{place}", (size,), "int8") for place, size in enumerate(sizes)))
    operators = tuple(Operator("ABS", (place,), (place + 1,)) for place in range(len(sizes)))
    return Graph(operators, tensors, (0,), (len(sizes),), frozenset())


def test_the_costliest_stage_is_as_cheap_as_can_be():
    graph = chain_graph([10] * 6)
    assert balanced_cuts(graph, [1, 1, 1, 9, 1, 1], 3) == (3, 4)
    assert balanced_cuts(graph, [2, 2, 2, 2, 2, 2], 2) == (3,)


def test_of_equal_stages_fewer_bytes_cross():
    assert balanced_cuts(chain_graph([9, 9, 9, 1, 9]), [5, 1, 0, 0, 6], 2) == (4,)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=9), st.data())
def test_balanced_cuts_are_the_best_of_all(costs, data):
    from itertools import combinations, pairwise

    stages = data.draw(st.integers(2, len(costs)))
    graph = chain_graph([1] * len(costs))

    def costliest(cuts):
        return max(sum(costs[start:end]) for start, end in pairwise([0, *cuts, len(costs)]))

    best = min(map(costliest, combinations(range(1, len(costs)), stages - 1)))
    chosen = balanced_cuts(graph, costs, stages)
    assert len(set(chosen)) == stages - 1
    assert costliest(chosen) == best


def test_fewest_bytes_cross():
    assert narrow_cuts(chain_graph([50, 2, 50, 50, 3, 50]), 3) == (2, 5)
    assert narrow_cuts(chain_graph([7] * 6), 2) == (3,)


def test_cuts_by_name():
    graph = chain_graph([1] * 4)
    assert named_cuts(graph, ["t2", "t0"]) == (1, 3)
    with pytest.raises(UsageError, match="No operator of the graph writes 'nothing'"):
        named_cuts(graph, ["nothing"])
    with pytest.raises(UsageError, match="Nothing comes after 't3'"):
        named_cuts(graph, ["t3"])


@pytest.mark.parametrize("stages", [1, 5])
def test_numbers_of_stages_that_no_graph_has(stages):
    with pytest.raises(UsageError, match="can be cut into 2 to 4"):
        balanced_cuts(chain_graph([1] * 4), [1.0] * 4, stages)


def test_work_is_counted_in_multiply_adds():
    graph = read_partitionable((DATA / "accuracy/data/pooled-float.tflite").read_bytes(), name="pooled")
    by_kind = dict(zip((graph.operators[index].name for index in graph.steps), estimate_work(graph), strict=True))
    assert by_kind["FULLY_CONNECTED"] == max(by_kind["FULLY_CONNECTED"], by_kind["SOFTMAX"])
    assert max(by_kind, key=by_kind.get) == "CONV_2D"


# -- the whole of it --


def test_a_difference_is_told():
    content = (DATA / "accuracy/data/pooled-float.tflite").read_bytes()
    graph = read_partitionable(content, name="pooled")
    stages = split(content, graph, [3])
    assert check_chain(content, graph, stages, random_inputs(graph)) == {"cpu-builtin": "", "cpu": ""}
    doubled = {name: 2 * weight.values for name, weight in weights(content).items()}
    other = replace_weights(content, doubled)
    assert "differs by up to" in check_chain(other, graph, stages, random_inputs(graph))["cpu"]


def test_stages_are_variants_with_cards(tmp_path):
    whole = make_variant(
        find_model(str(DATA / "accuracy/data/pooled-int8.tflite")),
        find_recipe("as-is"),
        cache=cache_folder(),
        observer=SilentObserver(),
    )
    graph = read_partitionable(whole.path.read_bytes(), name="pooled")
    made = partition(whole, graph, [3], tmp_path / "stages")
    assert made.exact
    first, second = made.stages
    assert (first.variant.name, second.variant.name) == ("as-is-1of2", "as-is-2of2")
    assert second.taken_bytes == graph.crossing_bytes(3) > 0
    assert first.variant.card.outputs[0].scale == second.variant.card.inputs[0].scale is not None
    assert first.variant.card.steps[-1] == {"technique": "partitioning", "stage": 1, "stages": 2}
    assert {path.suffix for path in (tmp_path / "stages").iterdir()} == {".tflite", ".json"}
