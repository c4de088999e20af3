"""What the server tells of itself and of its guests to those who watch over it: metrics and logs. Traces are in `tracing.py`."""
