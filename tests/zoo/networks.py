"""Small networks that together hold every kind of layer and shape that people ship, built by code with random weights.

Each builder returns a Keras model. Batch normalization gets statistics of its own, as if the network had been trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Builder = Callable[[], Any]

NETWORKS: dict[str, Builder] = {}

TOKENS = 40
"""Size of the vocabulary of the networks that read tokens."""


def network(build: Builder) -> Builder:
    """Register a builder under its function's name."""
    NETWORKS[build.__name__] = build
    return build


def build(name: str) -> Any:
    """Return the Keras model with that name; its weights are the same every time."""
    import keras

    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    model = NETWORKS[name]()
    normalizations = [layer for layer in _all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    random = np.random.default_rng(11)
    for layer in normalizations:
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([random.uniform(0.6, 1.4, gamma.shape), random.normal(0, 0.3, beta.shape), mean, variance])
        layer.momentum = 0.0  # one batch sets the statistics
    if normalizations:
        model(samples(model, 64, seed=5), training=True)
    return model


def _all_layers(model: Any) -> list[Any]:
    found = []
    for layer in getattr(model, "layers", []):
        found += [layer, *_all_layers(layer)]
    return found


def samples(model: Any, count: int, seed: int) -> list[Any]:
    """Return one array per input, in the model's order: noisy patterns, bytes or tokens, by the input's type."""
    random = np.random.default_rng(seed)
    found = []
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        dtype = str(tensor.dtype)
        if "int" in dtype and dtype != "uint8":
            found.append(random.integers(0, TOKENS, shape).astype(dtype))
            continue
        coarse = random.uniform(0, 1, (count, *(min(2, size) for size in shape[1:-1]), shape[-1]))
        for axis in range(1, len(shape) - 1):
            coarse = np.repeat(coarse, -(-shape[axis] // coarse.shape[axis]), axis).take(range(shape[axis]), axis)
        values = 0.8 * coarse + 0.2 * random.uniform(0, 1, shape)
        found.append((values * 255).astype(np.uint8) if dtype == "uint8" else values.astype(np.float32))
    return found


def _image(height: int = 12, width: int = 12, channels: int = 3) -> Any:
    import keras

    return keras.Input((height, width, channels), name="image")


def _model(inputs: Any, outputs: Any) -> Any:
    import keras

    return keras.Model(inputs, outputs)


def _classes(x: Any, count: int = 5, name: str | None = None) -> Any:
    import keras
    from keras import layers

    strong = keras.initializers.RandomNormal(stddev=1.0)
    dense = layers.Dense(count, activation="softmax", name=name, kernel_initializer=strong)
    return dense(layers.GlobalAveragePooling2D()(x))


def _conv_bn(x: Any, filters: int, size: int = 3, *, strides: int = 1, act: str | None = "relu6") -> Any:
    from keras import layers

    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(act)(x) if act else x


def _depthwise_bn(x: Any, *, strides: int = 1, act: str | None = "relu6") -> Any:
    from keras import layers

    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(act)(x) if act else x


# Convolutions


@network
def plain_convolutions() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(12, (1, 3), padding="valid", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    return _model(inputs, layers.Dense(6)(layers.Flatten()(x)))


@network
def depthwise_separable() -> Any:
    inputs = x = _image()
    for filters, strides in ((8, 2), (12, 1), (16, 2)):
        x = _conv_bn(_depthwise_bn(x, strides=strides), filters, 1)
    return _model(inputs, _classes(x))


@network
def inverted_residual() -> Any:
    from keras import layers

    inputs = _image()
    x = _conv_bn(inputs, 8, strides=2)
    for _ in range(2):
        branch = _conv_bn(_depthwise_bn(_conv_bn(x, 24, 1)), 8, 1, act=None)
        x = layers.Add()([x, branch])
    return _model(inputs, _classes(x))


@network
def squeeze_excite_hard_swish() -> Any:
    from keras import layers

    inputs = _image()
    x = _conv_bn(inputs, 16, strides=2, act="hard_silu")
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(16, 1, activation="hard_sigmoid")(gate)
    return _model(inputs, _classes(layers.Multiply()([x, gate])))


@network
def hard_swish_by_hand() -> Any:
    from keras import layers

    inputs = _image()
    x = _conv_bn(inputs, 12, act=None)
    x = x * layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    return _model(inputs, _classes(x))


@network
def swish() -> Any:
    inputs = _image()
    x = _conv_bn(inputs, 12, strides=2, act="silu")
    return _model(inputs, _classes(_conv_bn(_depthwise_bn(x, act="silu"), 16, 1, act="silu")))


@network
def residual() -> Any:
    from keras import layers

    inputs = _image()
    x = _conv_bn(inputs, 8, act="relu")
    branch = _conv_bn(_conv_bn(x, 8, act="relu"), 8, act=None)
    x = layers.ReLU()(layers.Add()([x, branch]))
    shortcut = _conv_bn(x, 16, 1, strides=2, act=None)
    branch = _conv_bn(_conv_bn(x, 16, strides=2, act="relu"), 16, act=None)
    return _model(inputs, _classes(layers.ReLU()(layers.Add()([shortcut, branch]))))


@network
def dense_blocks() -> Any:
    from keras import layers

    inputs = x = _image()
    for _ in range(3):
        x = layers.Concatenate()([x, _conv_bn(x, 6, act="relu")])
    return _model(inputs, _classes(layers.AveragePooling2D(2)(x)))


@network
def parallel_branches() -> Any:
    from keras import layers

    inputs = _image()
    branches = [
        _conv_bn(inputs, 6, 1, act="relu"),
        _conv_bn(_conv_bn(inputs, 4, 1, act="relu"), 6, 5, act="relu"),
        _conv_bn(layers.AveragePooling2D(3, strides=1, padding="same")(inputs), 6, 1, act="relu"),
        layers.MaxPooling2D(3, strides=1, padding="same")(inputs),
    ]
    return _model(inputs, _classes(layers.Concatenate()(branches)))


@network
def transposed_convolution() -> Any:
    from keras import layers

    inputs = _image(6, 6, 4)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.BatchNormalization()(layers.Conv2DTranspose(6, 2, strides=2, padding="valid")(x))
    return _model(inputs, layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh")(x))


@network
def encoder_decoder() -> Any:
    from keras import layers

    inputs = _image(16, 16)
    shallow = _conv_bn(inputs, 8, act="relu")
    deep = _conv_bn(layers.MaxPooling2D(2)(shallow), 12, act="relu")
    up = layers.Conv2DTranspose(8, 2, strides=2)(deep)
    x = _conv_bn(layers.Concatenate()([shallow, up]), 8, act="relu")
    return _model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))


@network
def bilinear_upsampling() -> Any:
    from keras import layers

    inputs = _image(8, 8)
    x = layers.UpSampling2D(2, interpolation="bilinear")(_conv_bn(inputs, 8, act="relu"))
    return _model(inputs, layers.Conv2D(4, 3, padding="same")(x))


@network
def nearest_upsampling() -> Any:
    from keras import layers

    inputs = _image(8, 8)
    x = layers.UpSampling2D((2, 3))(_conv_bn(inputs, 8, act="relu"))
    return _model(inputs, layers.Conv2D(4, 3, padding="same")(x))


@network
def dilated_convolution() -> Any:
    from keras import layers

    inputs = _image(16, 16)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x)
    return _model(inputs, layers.Conv2D(4, 1)(x))


@network
def grouped_convolution() -> Any:
    from keras import layers

    inputs = _image(12, 12, 4)
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu")(inputs)
    return _model(inputs, _classes(layers.Conv2D(8, 3, groups=4)(x)))


@network
def depth_multiplier() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.DepthwiseConv2D(3, depth_multiplier=4, activation="relu")(inputs)
    return _model(inputs, _classes(layers.SeparableConv2D(10, 3, depth_multiplier=2)(x)))


@network
def odd_shapes() -> Any:
    from keras import layers

    inputs = _image(13, 7, 1)
    x = layers.Conv2D(5, (5, 1), strides=(3, 2), activation="relu")(inputs)
    x = layers.Conv2D(7, (1, 2), padding="same")(layers.ZeroPadding2D(((0, 1), (2, 0)))(x))
    x = layers.MaxPooling2D((2, 3), strides=1, padding="same")(layers.Cropping2D(((0, 1), (1, 1)))(x))
    return _model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@network
def pixel_shuffle() -> Any:
    from keras import layers

    inputs = _image(8, 8)
    x = layers.Conv2D(12, 3, padding="same")(_conv_bn(inputs, 8, act="relu"))
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((8, 8, 2, 2, 3))(x))
    return _model(inputs, layers.Reshape((16, 16, 3))(x))


@network
def convolution_1d() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((30, 4), name="series")
    x = layers.Conv1D(8, 5, padding="causal", activation="relu")(inputs)
    x = layers.MaxPooling1D(2)(layers.SeparableConv1D(8, 3, padding="same", activation="relu")(x))
    return _model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalMaxPooling1D()(x)))


@network
def convolution_3d() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((4, 8, 8, 2), name="clip")
    x = layers.Conv3D(6, 3, padding="same", activation="relu")(inputs)
    return _model(inputs, layers.Dense(4)(layers.GlobalAveragePooling3D()(x)))


# Activations, normalization, arithmetic


@network
def leaky_activations() -> Any:
    import keras
    from keras import layers

    inputs = _image()
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.2))(
        _conv_bn(inputs, 8, act=None)
    )
    x = layers.LeakyReLU(0.1)(_conv_bn(x, 8, act=None))
    return _model(inputs, _classes(layers.ELU()(_conv_bn(x, 8, act=None))))


@network
def saturating_activations() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Conv2D(8, 3, activation="tanh")(inputs)
    x = layers.Conv2D(8, 3, activation="sigmoid")(x)
    return _model(inputs, layers.Dense(5, activation="log_softmax")(layers.Flatten()(x)))


@network
def gelu_mixer() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((9, 12), name="patches")
    x = inputs
    for _ in range(2):
        mixed = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        mixed = layers.Permute((2, 1))(layers.Dense(9)(layers.Dense(16, activation="gelu")(mixed)))
        x = x + mixed
    return _model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


@network
def group_normalization() -> Any:
    from keras import layers

    inputs = _image(8, 8)
    x = layers.GroupNormalization(4)(layers.Conv2D(8, 3, padding="same")(inputs))
    return _model(inputs, _classes(layers.ReLU()(x)))


@network
def normalized_input() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Normalization(mean=[0.4, 0.5, 0.3], variance=[0.05, 0.1, 0.02])(inputs)
    return _model(inputs, _classes(_conv_bn(x, 8)))


@network
def scalar_arithmetic() -> Any:
    import keras
    from keras import layers

    inputs = _image(8, 8)
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    x = 0.5 * x + keras.ops.sqrt(keras.ops.abs(x) + 0.1) - x / 3.0
    x = keras.ops.maximum(x, -0.2) * keras.ops.exp(-keras.ops.square(x))
    return _model(inputs, layers.Dense(4)(layers.Flatten()(x)))


@network
def reductions_and_slices() -> Any:
    import keras
    from keras import layers

    inputs = _image(8, 8)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    top = keras.ops.max(x[:, :4, ::2, :], axis=(1, 2))
    mean = keras.ops.mean(x[:, 4:, 1::2, :], axis=(1, 2))
    total = keras.ops.sum(x, axis=(1, 2)) * 0.02
    return _model(inputs, layers.Dense(4)(keras.ops.concatenate([top, mean, total], axis=-1)))


@network
def mirror_padding() -> Any:
    import keras
    from keras import layers

    inputs = _image(8, 8)
    x = keras.ops.pad(inputs, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="reflect")
    return _model(inputs, layers.Conv2D(4, 3)(x))


@network
def unit_embedding() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Dense(16)(layers.Flatten()(_conv_bn(inputs, 8, strides=2)))
    return _model(inputs, layers.UnitNormalization()(x))


# Weights as training leaves them


@network
def nearly_dead_channels() -> Any:
    from keras import layers

    inputs = _image()
    conv = layers.Conv2D(8, 3, activation="relu")
    depthwise = layers.DepthwiseConv2D(3, activation="relu")
    dense = layers.Dense(5)
    model = _model(inputs, dense(layers.Flatten()(depthwise(conv(inputs)))))
    for layer, tiny in ((conv, 1e-6), (depthwise, 1e-9), (dense, 1e-20)):
        kernel, bias = layer.get_weights()
        channels = kernel[..., 0] if layer is depthwise else kernel
        channels[..., 1] *= tiny
        channels[..., 2] = 0
        bias[:] = np.linspace(-1, 1.5, len(bias))
        layer.set_weights([kernel, bias])
    return model


@network
def uneven_channels() -> Any:
    from keras import layers

    inputs = _image()
    conv, dense = layers.Conv2D(8, 3, activation="relu"), layers.Dense(4)
    model = _model(inputs, dense(layers.GlobalAveragePooling2D()(conv(inputs))))
    kernel, bias = conv.get_weights()
    factors = np.geomspace(0.2, 8, 8)
    conv.set_weights([kernel * factors, bias + 0.1 * factors])
    weights, offsets = dense.get_weights()
    dense.set_weights([weights / factors[:, None], offsets])
    return model


@network
def without_biases() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Conv2D(8, 3, use_bias=False, activation="relu")(inputs)
    return _model(inputs, layers.Dense(4, use_bias=False)(layers.GlobalAveragePooling2D()(x)))


# Outputs


@network
def regression() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((6,), name="features")
    x = layers.Dense(16, activation="relu")(inputs)
    return _model(inputs, layers.Dense(1)(x) * 4.0 - 3.0)


@network
def single_sigmoid() -> Any:
    from keras import layers

    inputs = _image(8, 8, 1)
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(inputs))
    return _model(inputs, layers.Dense(1, activation="sigmoid")(x))


@network
def two_heads() -> Any:
    inputs = _image()
    x = _conv_bn(inputs, 12, strides=2)
    return _model(inputs, [_classes(x, 6, "first"), _classes(_conv_bn(x, 8), 6, "second")])


@network
def detector_heads() -> Any:
    from keras import layers

    inputs = _image(16, 16)
    x = _conv_bn(_conv_bn(inputs, 12, strides=2), 16, strides=2)
    boxes = layers.Reshape((-1, 4), name="boxes")(layers.Conv2D(8, 3, padding="same")(x) * 12.0)
    scores = layers.Reshape((-1, 3))(layers.Conv2D(6, 3, padding="same")(x))
    presence = layers.Dense(1, activation="sigmoid", name="presence")(layers.GlobalAveragePooling2D()(x))
    return _model(inputs, [boxes, layers.Activation("sigmoid", name="scores")(scores), presence])


@network
def feature_and_answer() -> Any:
    from keras import layers

    inputs = _image()
    features = layers.GlobalAveragePooling2D()(_conv_bn(inputs, 10))
    return _model(inputs, [layers.Dense(4, activation="softmax")(features), features])


@network
def best_classes() -> Any:
    import keras
    from keras import layers

    inputs = _image(8, 8)
    scores = layers.Dense(6)(layers.Flatten()(_conv_bn(inputs, 8)))
    values, _ = keras.ops.top_k(scores, 3)
    return _model(inputs, [values, scores])


# Inputs


@network
def image_and_features() -> Any:
    import keras
    from keras import layers

    inputs = _image()
    features = keras.Input((5,), name="features")
    x = layers.GlobalAveragePooling2D()(_conv_bn(inputs, 8))
    x = layers.Concatenate()([x, layers.Dense(4, activation="relu")(features)])
    return _model([inputs, features], layers.Dense(3)(x))


@network
def three_inputs_out_of_order() -> Any:
    import keras
    from keras import layers

    tensors = [keras.Input((size,), name=name) for name, size in (("zebra", 3), ("ant", 5), ("mole", 4))]
    parts = [layers.Dense(4, activation="relu")(tensors[index]) for index in (1, 2, 0)]
    return _model(tensors, layers.Dense(2)(layers.Concatenate()(parts)))


@network
def bytes_in() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((12, 12, 3), dtype="uint8", name="image")
    return _model(inputs, _classes(_conv_bn(layers.Rescaling(1 / 127.5, offset=-1)(inputs), 8)))


@network
def shared_layers() -> Any:
    import keras
    from keras import layers

    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    conv, dense = layers.Conv2D(8, 3, activation="relu"), layers.Dense(6)

    def embed(x: Any) -> Any:
        return dense(layers.Flatten()(conv(x)))

    return _model([left, right], layers.Dense(1)(keras.ops.abs(embed(left) - embed(right))))


@network
def nested_backbone() -> Any:
    import keras
    from keras import layers

    inner = _image()
    backbone = keras.Model(inner, _conv_bn(_depthwise_bn(_conv_bn(inner, 8)), 12, 1), name="backbone")
    return keras.Sequential(
        [keras.Input((12, 12, 3)), layers.RandomFlip(), backbone, layers.GlobalAveragePooling2D(), layers.Dense(4)]
    )


@network
def mixed_precision() -> Any:
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return depthwise_separable()
    finally:
        keras.config.set_dtype_policy(policy)


# Sequences


@network
def lstm() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((10, 6), name="series")
    return _model(inputs, layers.Dense(3)(layers.LSTM(8)(inputs)))


@network
def bidirectional_lstm() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((8, 4), name="series")
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True, unroll=True))(inputs)
    return _model(inputs, layers.TimeDistributed(layers.Dense(3))(x))


@network
def unrolled_gru() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((8, 4), name="series")
    return _model(inputs, layers.Dense(3)(layers.GRU(8, unroll=True)(inputs)))


@network
def simple_rnn() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((6, 4), name="series")
    return _model(inputs, layers.Dense(2)(layers.SimpleRNN(8, unroll=True)(inputs)))


@network
def frames_over_time() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((4, 8, 8, 2), name="clip")
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"))(inputs)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    return _model(inputs, layers.Dense(3)(layers.LSTM(6, unroll=True)(x)))


@network
def token_embedding() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((12,), dtype="int32", name="tokens")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(TOKENS, 8)(inputs))
    return _model(inputs, layers.Dense(3, activation="softmax")(layers.Dense(8, activation="relu")(x)))


@network
def transformer_encoder() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((10,), dtype="int32", name="tokens")
    x = layers.Embedding(TOKENS, 16)(inputs)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    return _model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


@network
def image_patches_with_attention() -> Any:
    from keras import layers

    inputs = _image()
    x = layers.Reshape((9, 16))(layers.Conv2D(16, 4, strides=4)(inputs))
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.MultiHeadAttention(4, 4)(x, x))
    return _model(inputs, layers.Dense(5)(layers.Flatten()(x)))


@network
def causal_attention() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((8, 12), name="states")
    x = layers.MultiHeadAttention(2, 6)(inputs, inputs, use_causal_mask=True)
    return _model(inputs, layers.Dense(6)(x))


@network
def batched_products() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((6, 8), name="rows")
    left, right = layers.Dense(5)(inputs), layers.Dense(5)(inputs)
    return _model(inputs, keras.ops.matmul(left, keras.ops.transpose(right, (0, 2, 1))) * 0.3)


@network
def dense_only() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((20,), name="features")
    x = layers.BatchNormalization()(layers.Dense(32, activation="relu")(inputs))
    return _model(inputs, layers.Dense(5, activation="softmax")(layers.Dense(16, activation="selu")(x)))
