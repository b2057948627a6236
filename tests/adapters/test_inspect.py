import pytest
import torch

from selva_audio.adapters import Delta
from selva_audio.adapters.inspect import report_layer


def base_weight() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(24, 24, generator=random, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(24, 24, generator=random, dtype=torch.float64))[0]
    return (u * torch.linspace(24, 1, 24) ** 1.5) @ v.T


def planted(weight: torch.Tensor, size: float) -> Delta:
    """One direction that is an even mixture of the last twelve of the base."""
    u, _, vh = torch.linalg.svd(weight)
    mixture = u[:, 12:].sum(dim=1, keepdim=True) / 12**0.5
    return Delta(vh[-1:].float(), (size * mixture).float(), 1.0)


def test_a_layer_is_told_by_its_sizes() -> None:
    weight = base_weight()
    row = report_layer("x", planted(weight, 3.0), weight)
    assert (row.kind, row.rank, row.shape) == ("linear", 1, (24, 24))
    assert row.norm == pytest.approx(3.0, rel=1e-5) and row.stable_rank == pytest.approx(1.0)
    assert row.relative_norm == pytest.approx(3.0 / float(weight.norm()), rel=1e-5)
    magnitude = 2 * weight.float().norm(dim=1)
    dora = Delta(torch.zeros(1, 24), torch.zeros(24, 1), 1.0, magnitude=magnitude)
    assert report_layer("x", dora).norm is None
    assert report_layer("x", dora, weight).relative_norm == pytest.approx(1.0, rel=1e-5)
