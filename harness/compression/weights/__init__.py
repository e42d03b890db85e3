"""Functions over one weight array: masks, clusters, rounding."""
