"""The command line: one file a verb. Parse arguments, call, print; no logic."""
