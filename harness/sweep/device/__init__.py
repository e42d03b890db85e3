"""One device's part of a sweep."""
