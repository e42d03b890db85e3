"""Choose the row of a device to ship."""
