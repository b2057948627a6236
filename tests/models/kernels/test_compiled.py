import pytest

pytest.importorskip("numba")

from selva_audio.models.kernels import compiled
from selva_audio.models.kernels.compiled import compiled_step


def test_a_cache_that_cannot_be_written_costs_a_compilation_only(monkeypatch):
    asked = []

    def full_disk(signature, cache=False, **options):
        asked.append(cache)
        if cache:
            raise OSError(28, "No space left on device")
        return lambda function: function

    def step():
        """Nothing."""

    monkeypatch.setattr(compiled, "njit", full_disk)
    assert compiled_step(step, "void()") is step
    assert asked == [True, False]
