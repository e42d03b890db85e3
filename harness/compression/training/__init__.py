"""Training a Keras model while what earlier steps made of its weights is kept."""
