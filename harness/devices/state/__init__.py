"""Read a device's temperature, clocks, battery and labels."""
