"""Benchmarks: each prints a ratio against something outside the project, from the same run."""
