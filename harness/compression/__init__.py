"""Model and recipe in, variant out."""
