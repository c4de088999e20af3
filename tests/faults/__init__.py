"""Faults of the real thing: guests and daemons that are stopped, killed and flooded, and disks that fill up. Run by `make test-faults`."""
