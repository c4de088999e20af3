"""Generated stubs of the contract virtrpc.v1; made by proto/generate.py."""
