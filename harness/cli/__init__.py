"""The command line: one file per verb. Parse arguments, call, print; no logic."""
