"""A phone made of the real adbd, for machines without a phone."""
