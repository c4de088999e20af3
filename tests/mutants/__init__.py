"""Seeded bugs: the state machine must find each."""
