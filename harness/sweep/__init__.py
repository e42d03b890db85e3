"""Plan a sweep, run it, resume it."""
