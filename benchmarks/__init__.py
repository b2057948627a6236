"""Measurements longer than tests may be; each writes results/NAME.json, of which RESULTS.md is made."""
