"""The small generator of ``small_generator`` as fixtures."""

from small_generator import generator, velocity  # noqa: F401 (fixtures)
