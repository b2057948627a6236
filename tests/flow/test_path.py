import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.flow import interpolate, target_velocity, velocity_loss


def test_path_and_loss_give_the_published_numbers(golden, fill):
    units = golden("units")
    x0, x1, predicted = (
        torch.from_numpy(fill.make_input(f"unit.{name}", (3, 7, 5), units.meta["seed"]))
        for name in ("x0", "x1", "pv")
    )
    assert units.error("xt", interpolate(x0, x1, torch.tensor([0.1, 0.5, 0.9]))) <= 5e-5
    assert units.error("fm_loss", velocity_loss(predicted, x0, x1)) <= 5e-5


@given(t=st.floats(0, 1))
def test_path_runs_from_noise_to_data_at_its_target_velocity(t):
    x0, x1 = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    at = lambda value: interpolate(x0, x1, torch.full((2,), value, dtype=torch.float64))
    assert torch.equal(at(0.0), x0)
    assert torch.equal(at(1.0), x1)
    torch.testing.assert_close(at(t), x0 + t * target_velocity(x0, x1))


def test_loss_is_zero_for_the_target_itself():
    x0, x1 = torch.randn(2, 2, 3, 4)
    assert velocity_loss(target_velocity(x0, x1), x0, x1).tolist() == [0.0, 0.0]
