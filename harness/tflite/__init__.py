"""One `.tflite` file as data, and running it on this host in a child process."""
