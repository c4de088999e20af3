"""`make demo`: the main job on a real guest."""
