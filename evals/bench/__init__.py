"""Benchmarks of nets and scoring against stated baselines."""
