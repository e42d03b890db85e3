"""Start and stop emulators of the Android SDK, where one is installed."""
