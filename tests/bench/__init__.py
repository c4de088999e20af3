"""`make bench`: figures, as ratios within one run."""
