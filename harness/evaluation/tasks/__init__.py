"""One file a task; each registers itself with `harness.evaluation.task`."""
