"""Benchmark programs: their binaries, and one protocol for running them and reading what they print."""
