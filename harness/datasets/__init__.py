"""Labelled images, training data and input files."""
