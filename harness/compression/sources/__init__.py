"""One file a kind of model source; `harness.compression.sources.load` chooses between them."""
