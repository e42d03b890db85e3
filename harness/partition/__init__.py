"""Model parallelism: cut a `.tflite` into stages that run on different units of a phone, or at the same time."""
