"""Offline metrics: onsets and selectivity, materials, distances, seams, diversity."""
