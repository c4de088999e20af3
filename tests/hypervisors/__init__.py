"""The matrix: every RPC on every hypervisor that can be started, and on simulations of those that cannot."""
