"""PiSSA files of the residual kind: they hold the base weight without its main directions.

Their model is ``W_res + s B A``. As a change of the base that is ``W_res + s B A - W``, of at most twice the
rank, so strength 0 is the base and strength 1 the trained model.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .record import Adapter, Delta, stacked
from .targets import adaptable_layers

# Share of the base weight's energy. 16-bit residuals round at about 1e-6, another base is near 1.
MAX_FOREIGN_ENERGY = 1e-4


def resolved(adapter: Adapter, generator: nn.Module) -> Adapter:
    """The adapter with every residual weight turned into a plain change of the generator's own weight.

    Raises:
        CheckpointError: a residual weight belongs to another base.
    """
    if not adapter.residuals:
        return adapter
    layers = adaptable_layers(generator)
    deltas = dict(adapter.deltas)
    for path, residual in adapter.residuals.items():
        layer = cast(nn.Linear, layers[path])
        deltas[path] = _plain(path, deltas[path], residual, layer.weight)
        bias = adapter.biases.get(path)
        if bias is not None and (layer.bias is None or not _is_close(bias, layer.bias)):
            raise _foreign(path, "its bias is another one")
    rank = max(delta.rank for delta in deltas.values())
    meta = {**adapter.meta, "rank": rank, "alpha": float(rank), "use_rslora": False, "init_mode": "standard"}
    return Adapter(deltas, meta, origin=adapter.origin)


def _plain(path: str, delta: Delta, residual: Tensor, weight: Tensor) -> Delta:
    base = weight.detach().double().cpu().flatten(1)
    b, a = stacked(delta)
    if residual.numel() != base.numel():
        raise _foreign(path, f"it has {residual.numel():,} numbers where the base has {base.numel():,}")
    change = residual.double().reshape(base.shape) + b @ a - base
    u, s, vh = torch.linalg.svd(change, full_matrices=False)
    rank = min(2 * delta.rank, len(s))
    beyond = float(s[rank:].square().sum() / base.square().sum())
    if beyond > MAX_FOREIGN_ENERGY:
        raise _foreign(
            path, f"{beyond:.2g} of the energy of the base is left over, {MAX_FOREIGN_ENERGY:g} may be"
        )
    a_new = vh[:rank].reshape(rank, *delta.a.shape[1:]).float().contiguous()
    return Delta(a_new, (u[:, :rank] * s[:rank]).float().contiguous(), 1.0)


def _is_close(given: Tensor, base: Tensor) -> bool:
    given, base = given.float(), base.detach().float().cpu()
    return given.shape == base.shape and torch.allclose(given, base, rtol=0.02, atol=1e-3)


def _foreign(path: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"The residual weight of {path} was not taken from this base: {reason}. "
        "Choose the variant and the weights that the adapter was trained on."
    )
