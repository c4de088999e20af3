"""The server against a model: see machine.py."""
