"""The official tool as data: binaries, flags, command lines, logs, delegation evidence."""
