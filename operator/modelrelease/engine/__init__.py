"""What runs: watching, queueing, reconciling, reading the outside, leading. No decisions; those are in core."""
