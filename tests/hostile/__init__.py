"""What nobody means well by: bytes, messages and connections that no client of ours would send."""
