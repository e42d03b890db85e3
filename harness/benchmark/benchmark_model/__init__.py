"""TFLite's official `benchmark_model`: command line, log, outcome."""

FAMILIES = ("interpreter", "compiled-model")
