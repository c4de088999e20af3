"""A simulated hypervisor behind the `Driver` protocol: no dependency, and every fault at will."""
