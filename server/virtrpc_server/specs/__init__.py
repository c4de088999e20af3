"""Typed definitions and devices, made into XML: pure functions, one file a subject."""
