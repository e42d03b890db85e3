"""Write the files of Keras 2 in this folder: `pip install tf_keras`, then `python make_keras2_files.py`."""

import zipfile

import h5py
import numpy as np
import tensorflow as tf
import tf_keras as keras

layers = keras.layers


def image_network():
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0)(layers.RandomFlip()(image))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(moving_mean_initializer="normal")(x))
    x = layers.LeakyReLU(alpha=0.2)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = x * tf.nn.relu6(x + 3.0) * (1 / 6.0)
    separable = layers.SeparableConv2D(4, 3, padding="same")
    block = keras.Sequential([keras.Input((6, 6, 4)), separable, layers.BatchNormalization()], name="block")
    x = layers.GlobalMaxPooling2D()(layers.Add()([block(block(x)), x]))
    return keras.Model(image, [layers.Dense(5, activation="softmax")(x), 2.0 - layers.Dense(2)(x)])


def series_network():
    series = keras.Input((9, 4), name="series")
    x = layers.SpatialDropout1D(0.2)(layers.Conv1DTranspose(4, 3)(series))
    x = layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True)(layers.ThresholdedReLU(0.05)(x))
    x = layers.MultiHeadAttention(2, 3)(query=x, value=x, key=x)[:, -4:, :]
    x, state = layers.GRU(3, return_sequences=True, return_state=True)(x)
    x = layers.GRU(3, reset_after=False)(x, initial_state=state)
    return keras.Model(series, layers.Dense(5, activation="hard_sigmoid")(x))


for name, network in (("image", image_network), ("series", series_network)):
    keras.utils.set_random_seed(3)
    model = network()
    values = np.random.default_rng(0).uniform(0, 2, (4, *model.input_shape[1:])).astype(np.float32)
    outputs = model.predict(values, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    np.savez_compressed(f"keras2-{name}.npz", values, *outputs)
    model.save("large.h5")
    with h5py.File("large.h5") as large, h5py.File(f"keras2-{name}.h5", "w", libver="latest") as small:
        small.attrs.update(large.attrs)
        large.copy("model_weights", small)
    model.save(f"keras2-{name}.keras")
    with zipfile.ZipFile(f"keras2-{name}.keras") as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(f"keras2-{name}.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
