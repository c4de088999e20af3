"""The command line `virtrpc`; it begins in `start`."""
