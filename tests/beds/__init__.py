"""Test beds: the guest image and private hypervisors."""
