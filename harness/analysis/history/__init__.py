"""Follow cells over many nights and find level shifts."""
