"""Devices reached over ADB: phones, emulators and virtual phones."""
