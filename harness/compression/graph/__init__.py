"""Rewrite a `.tflite` graph: quantize it or store it sparsely."""
