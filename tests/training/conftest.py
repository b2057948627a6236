"""The small generator of ``small_generator`` as a fixture."""

from small_generator import generator  # noqa: F401 (a fixture)
