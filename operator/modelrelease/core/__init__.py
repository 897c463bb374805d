"""The product: pure functions from what is wanted, known and seen to what should be. No I/O, clock or randomness."""
