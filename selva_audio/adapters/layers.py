"""The modules of an adapted generator: a base layer with a list of low-rank changes.

The base layer is never changed; a change of strength 0 is not computed, so that the output is the base's, bit
for bit.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .fused import adapted_output
from .record import Delta, row_gain


class Adapted(nn.Module):
    """A linear layer or convolution and the changes to it, which add up.

    Args:
        base: the layer; channel last where it is a convolution.
    """

    def __init__(self, base: nn.Linear | nn.Conv1d) -> None:
        super().__init__()
        self.base = base
        self.deltas = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out), as the base layer."""
        if x.ndim == 3 and len(self.deltas) == 1 and self._is_plain(cast(LowRank, self.deltas[0])):
            only = cast(LowRank, self.deltas[0])
            return adapted_output(x, self.base, only.lora_A, only.lora_B, only.strength * only.scale)
        base: Tensor = self.base(x)
        y = base
        for delta in self.deltas:
            change = delta(x, base, self.base)
            y = y if change is None else y + change
        return y

    def _is_plain(self, delta: "LowRank") -> bool:
        """Whether the change is a product of two matrices alone, on a layer that is not trained."""
        is_dropping = delta.training and any(delta.dropout)
        has_more = delta.lora_A0 is not None or delta.dora_m is not None
        is_trained = any(each.requires_grad for each in self.base.parameters())
        return bool(delta.strength) and not (is_dropping or has_more or is_trained)


class LowRank(nn.Module):
    """``strength scale (B A x - B0 A0 x)`` with float32 weights, whatever the number format of the base.

    Args:
        delta: starting values; copied.
        strength: factor on the whole change; 0 skips it.
        dropout: shares of inputs, ranks and whole changes that are dropped in training mode.
        path: name of the layer, which decides its masks together with the key of ``draw_dropout``.

    Source: LoRA (arXiv:2106.09685), DoRA (arXiv:2402.09353), PiSSA (arXiv:2404.02948). PiSSA is in offset
    form: the base keeps its weight and the starting product is subtracted, so that step 0 changes nothing.
    """

    lora_A0: Tensor | None
    lora_B0: Tensor | None

    def __init__(
        self,
        delta: Delta,
        *,
        strength: float = 1.0,
        dropout: tuple[float, float, float] = (0.0, 0.0, 0.0),
        path: str = "",
    ) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(_master(delta.a))
        self.lora_B = nn.Parameter(_master(delta.b))
        self.register_buffer("lora_A0", None if delta.a0 is None else _master(delta.a0))
        self.register_buffer("lora_B0", None if delta.b0 is None else _master(delta.b0))
        self.dora_m = None if delta.magnitude is None else nn.Parameter(_master(delta.magnitude))
        self.scale = delta.scale
        self.strength = strength
        self.dropout = dropout
        self.path = path
        self.key: int | Sequence[int] | None = None

    def forward(self, x: Tensor, y: Tensor, base: nn.Linear | nn.Conv1d) -> Tensor | None:
        """Change of the output.

        Args:
            x: (B, N, in) input of the layer.
            y: (B, N, out) output of the base layer.
            base: the base layer, for DoRA.

        Returns:
            (B, N, out) in the dtype of ``y``, or None for no change.
        """
        if self.strength == 0:
            return None
        is_dropping = self.training and any(self.dropout)
        inputs, ranks, whole = self._masks(x) if is_dropping else (None, None, None)
        # The two products of an offset nearly cancel; 16 bits would leave their rounding.
        x = x if self.lora_A0 is None else x.float()
        x = x if inputs is None else x * inputs
        change = self._product(x, self.lora_A, self.lora_B, ranks)
        if self.lora_A0 is not None and self.lora_B0 is not None:
            change = change - self._product(x, self.lora_A0, self.lora_B0, ranks)
        change = self.scale * change
        if self.dora_m is not None:
            gain = row_gain(self.dora_m, self._direction(base)).flatten()
            unbiased = y if base.bias is None else y - base.bias
            change = (gain - 1) * unbiased + gain * change
        if whole is not None:
            change = change * whole
        return (self.strength * change).to(y.dtype)

    def delta(self) -> Delta:
        """The present values, copied to the CPU."""
        values = (self.lora_A, self.lora_B, self.lora_A0, self.lora_B0, self.dora_m)
        a, b, a0, b0, magnitude = (None if each is None else _master(each).cpu() for each in values)
        return Delta(cast(Tensor, a), cast(Tensor, b), self.scale, a0, b0, magnitude)

    def _product(self, x: Tensor, a: Tensor, b: Tensor, ranks: Tensor | None) -> Tensor:
        a, b = a.to(x.dtype), b.to(x.dtype)
        if a.ndim == 3:
            low = functional.conv1d(x.transpose(1, 2), a, padding=a.shape[2] // 2).transpose(1, 2)
        else:
            low = rows_times(x, a)
        return rows_times(low if ranks is None else low * ranks, b)

    @torch.no_grad()
    def _direction(self, base: nn.Linear | nn.Conv1d) -> Tensor:
        """Weight before its rows get their length; without gradient, as DoRA proposes."""
        change = self.lora_B @ self.lora_A.flatten(1)
        if self.lora_A0 is not None and self.lora_B0 is not None:
            change = change - self.lora_B0 @ self.lora_A0.flatten(1)
        return base.weight.float() + self.scale * change.reshape(base.weight.shape)

    def _masks(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors for inputs (as x), ranks (B, 1, r) and the whole (B, 1, 1); a function of key and path."""
        if self.key is None:
            raise InputError(
                "Dropout needs a key for its masks. Call draw_dropout(generator, key) at each step."
            )
        shapes = (tuple(x.shape), (x.shape[0], 1, self.lora_A.shape[0]), (x.shape[0], 1, 1))
        keys = [self.key] if isinstance(self.key, int) else self.key
        if x.shape[0] % len(keys):
            raise InputError(f"{len(keys)} keys for the masks do not fit a batch of {x.shape[0]}.")
        drawn = []
        for key in keys:
            random = torch.Generator("cpu").manual_seed(stable_seed(key, self.path))
            drawn.append(
                [
                    _mask((size // len(keys), *rest), share, random)
                    for (size, *rest), share in zip(shapes, self.dropout, strict=True)
                ]
            )
        inputs, ranks, whole = (torch.cat(each).to(x) for each in zip(*drawn, strict=True))
        return inputs, ranks, whole

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LowRank":
        """Follow the generator to its device, not to its number format."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def _mask(shape: tuple[int, ...], share: float, random: torch.Generator) -> Tensor:
    return torch.empty(shape, device="cpu").bernoulli_(1 - share, generator=random).div_(1 - share)


def rows_times(x: Tensor, weight: Tensor) -> Tensor:
    """(B, N, in) and (out, in) -> (B, N, out) as one product of two matrices.

    ``linear`` on three axes takes another path where the weight wants gradients, and then the two products of
    an offset would not cancel to the bit.
    """
    product: Tensor = functional.linear(x.flatten(0, -2), weight)
    return product.reshape(*x.shape[:-1], weight.shape[0])


def stable_seed(*parts: object) -> int:
    """64-bit number that depends on the parts alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _master(tensor: Tensor) -> Tensor:
    return tensor.detach().to(dtype=torch.float32, copy=True)
