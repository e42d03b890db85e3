"""What `hostile.py` tries, in one module per kind of harm."""
