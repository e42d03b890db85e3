"""TFLite's official `benchmark_model`: command line, log, outcome."""
