"""Benchmarks: each prints a table and writes its results, every number with the run it comes from."""
