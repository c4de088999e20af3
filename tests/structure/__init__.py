"""The call graph of our own source, by which tests/test_structure.py holds the central rules."""
