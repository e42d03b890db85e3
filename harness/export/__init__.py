"""Write tables and files for other programs, one format family per module."""
