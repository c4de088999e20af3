"""Tests of the Python client against a small fake server."""
