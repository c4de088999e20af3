"""Tests of virtrpc."""
