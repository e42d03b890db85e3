"""Graphs that cannot be cut, made by the converter: each is refused with one sentence."""

import pytest

from harness.errors import CompressionError, UsageError
from harness.partition.check import random_inputs
from harness.partition.graph import Graph, Operator, Tensor, read_partitionable


def convert(body, *signature, module=None, **settings):
    """Convert a function of float inputs, or of what the specs in `signature` say."""
    import tensorflow as tf

    given = [spec if isinstance(spec, tf.TensorSpec) else tf.TensorSpec(spec, tf.float32) for spec in signature]
    function = tf.function(body, input_signature=given or [tf.TensorSpec((1, 4), tf.float32)], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    for name, value in settings.items():
        setattr(converter, name, value)
    return converter.convert()


def loop():
    import tensorflow as tf

    return convert(lambda x: tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: [y * 2 + 1], [x])[0])


def branch():
    import tensorflow as tf

    return convert(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1))


def recurrent():
    import keras
    import tensorflow as tf

    network = keras.Sequential([keras.Input((5, 3), batch_size=1), keras.layers.LSTM(4), keras.layers.Dense(2)])
    return tf.lite.TFLiteConverter.from_keras_model(network).convert()


def variable():
    import tensorflow as tf

    module = tf.Module()
    module.sum = tf.Variable(tf.zeros((1, 4)))

    def add(x):
        module.sum.assign_add(x)
        return module.sum * 2

    return convert(add, module=module, experimental_enable_resource_variables=True)


def chance():
    import tensorflow as tf

    return convert(lambda x: x + tf.random.uniform((1, 4)), allow_custom_ops=True)


def custom():
    import tensorflow as tf

    return convert(lambda x: tf.raw_ops.Erfc(x=x) + 1, allow_custom_ops=True)


def selection():
    import tensorflow as tf

    return convert(lambda x: tf.boolean_mask(x, x > 0) * 2 + 1)


def selection_in_a_batch_of_open_size():
    import tensorflow as tf

    return convert(lambda x: tf.boolean_mask(x, x > 0) * 2 + 1, (None, 4))


def counting():
    import tensorflow as tf

    return convert(lambda x: tf.range(0.0, tf.reduce_sum(x) + 3) * 2)


def image_of_open_size():
    import tensorflow as tf

    return convert(lambda x: tf.nn.relu(x) * 2 - 1, (None, None, 3))


STATE = r"m\.tflite keeps state, or draws at random"
VALUES = r"m\.tflite has results whose size depends on values"


@pytest.mark.training
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (loop, r"m\.tflite loops or branches \(WHILE\)"),
        (branch, r"m\.tflite loops or branches \(IF\)"),
        (recurrent, r"m\.tflite loops or branches \(WHILE\)"),
        (variable, STATE),
        (chance, rf"{STATE} \(RANDOM_UNIFORM\)"),
        (custom, "holds the custom operator Erfc, whose stages nobody could check"),
        (selection, rf"{VALUES} \(WHERE\)"),
        (selection_in_a_batch_of_open_size, rf"{VALUES} \(WHERE\)"),
        (counting, rf"{VALUES} \(RANGE\)"),
        (image_of_open_size, r"leaves the size of its input 'x' open \(\[-1, -1, 3\]\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_cut_is_refused_in_one_sentence(make, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        read_partitionable(make(), name="m.tflite")
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert refused.value.advice


def test_what_is_no_model_is_refused():
    with pytest.raises(CompressionError, match="is not a"):
        read_partitionable(b"no model at all", name="m.tflite")


def test_text_cannot_be_sent_through():
    graph = Graph((Operator("A", (0,), (1,)),), (Tensor("words", (1,), "str"),), (0,), (1,), frozenset())
    with pytest.raises(UsageError, match="The input 'words' takes text"):
        random_inputs(graph)
