"""One file a kind of model source; `harness.compression.source` chooses between them."""
