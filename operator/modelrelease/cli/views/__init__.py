"""What the reading verbs show: pure functions from values to text, for a width and without looking at a terminal."""
