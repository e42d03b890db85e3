"""Put a phone into a state fit for measuring, and restore it."""
