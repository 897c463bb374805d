"""A rollout played in memory against chance: what the real core would do with a canary of known quality.

Pure: uses `core` alone, reads no clock, file or network, and draws every random number from a seed. Not here: options,
tables and pictures (cli).
"""
