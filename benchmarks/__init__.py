"""Benchmarks of Pollux beside its peers: `python -m benchmarks --help`, and docs/benchmarks.md for the method."""
