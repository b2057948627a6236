import math
from typing import get_args

import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.flow import SOLVERS, sample_euler
from selva_audio.options import generate as generate_options
from selva_audio.progress import Cancelled

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2}


@pytest.mark.parametrize("name", SOLVERS)
def test_error_shrinks_with_the_order_of_the_solver(name):
    x0 = torch.tensor([1.0, -2.0], dtype=torch.float64)
    field = lambda t, x: x * torch.cos(2 * t)
    exact = x0 * math.exp(math.sin(2) / 2)
    errors = [float((SOLVERS[name](field, x0, n) - exact).abs().max()) for n in (32, 64)]
    assert errors[0] / errors[1] == pytest.approx(2 ** ORDERS[name], rel=0.1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 7])
def test_straight_paths_are_solved_exactly(name, steps):
    x0, x1 = torch.randn(2, 3, 4).double().unbind(0)
    torch.testing.assert_close(SOLVERS[name](lambda t, x: x1 - x0, x0, steps), x1, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "growth"),
    [
        ("euler", lambda h: 1 + h),
        ("midpoint", lambda h: 1 + h + h * h / 2),
        ("heun", lambda h: 1 + h + h * h / 2),
    ],
)
def test_gradient_through_a_linear_field_has_its_closed_form(name, growth):
    x0 = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    x1 = SOLVERS[name](lambda t, x: rate * x, x0, 10)
    by_x0, by_rate = torch.autograd.grad(x1.sum(), [x0, rate])
    h = torch.tensor(-0.15, dtype=torch.float64, requires_grad=True)
    factor = growth(h) ** 10
    (slope,) = torch.autograd.grad(factor, h)
    torch.testing.assert_close(by_x0, factor.detach().expand(2), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(by_rate, 0.1 * slope * x0.detach().sum(), rtol=1e-5, atol=0.0)


def test_euler_visits_the_published_grid(golden):
    seen = []

    def record(t, x):
        seen.append(t)
        return torch.zeros_like(x)

    sample_euler(record, torch.zeros(2), 25)
    assert all(t.dtype is torch.float32 and t.ndim == 0 for t in seen)
    assert torch.stack(seen).tolist() == golden("units").arrays["euler_steps_25"][:-1].tolist()


@pytest.mark.parametrize("name", SOLVERS)
def test_each_step_is_reported_and_the_start_is_left_alone(name):
    x0 = torch.ones(2)
    reports = []
    x1 = SOLVERS[name](lambda t, x: -x, x0, 3, lambda done, steps, x: reports.append((done, steps, x)))
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(reports[-1][2], x1)
    assert len({tuple(report[2].tolist()) for report in reports}) == 3
    assert torch.equal(x0, torch.ones(2))


@pytest.mark.parametrize("name", SOLVERS)
def test_raising_in_the_report_stops_within_one_step(name):
    calls = []

    def field(t, x):
        calls.append(float(t))
        return x

    def cancel(done, steps, x):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        SOLVERS[name](field, torch.ones(1), 10, cancel)
    assert len(calls) == 2 * ORDERS[name]


def test_fewer_than_one_step_is_refused():
    with pytest.raises(InputError, match="at least 1 step, not 0"):
        sample_euler(lambda t, x: x, torch.ones(1), 0)


def test_users_can_choose_exactly_these_solvers():
    assert set(SOLVERS) == set(get_args(generate_options.Solver))
