"""The parts of ``benchmarks.vs_upstream``."""
