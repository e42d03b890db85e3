"""What else compression changed: fidelity to the float model, robustness, and where the error comes from."""
