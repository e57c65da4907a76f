"""Benchmarks of whole runs, and the register of all benchmarks."""
