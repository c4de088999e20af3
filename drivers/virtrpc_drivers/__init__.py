"""Drivers: what virtrpc asks of a hypervisor, and who answers. A driver process loads only this package, and never grpc."""
