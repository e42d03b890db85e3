"""Data sets, real inputs through the device, metrics, fidelity to the float model."""
