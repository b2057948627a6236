"""Steps compiled by numba for CPUs. numba is optional: other modules import these where they are used."""
