"""One file a technique, registered by name."""
