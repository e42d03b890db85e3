"""Find, describe, prepare and talk to devices."""
