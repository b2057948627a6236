"""Files of steering vectors: ours, and those of the public pack.

| form | what is on disk |
| --- | --- |
| ours | ``{"format": "selva_steering/1", "vectors": {block path: (T, D)}, "t_edges": [...], "variant", \
"base", "contrast", "n", "seed", "report"}`` |
| public pack | ``{"steering_vectors": [...], "n_joint", "n_fused", "variant", ...}``: a list of (N, D), or \
(D,) in the oldest files, joint blocks first |

Nothing is unpickled: a file that asks for more than tensors and plain values is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..configs import VARIANTS
from ..errors import CheckpointError, MissingFileError, shown
from ..weights.io import read_object, write_object
from .steering import SteeringVectors

FORMAT = "selva_steering/1"
_OWN = ("format", "vectors", "t_edges", "variant", "base")
_MOST_BYTES = 2**30


def write_steering(path: str | Path, vectors: SteeringVectors) -> Path:
    """Write vectors without positions as a ``.pt`` file, whole or not at all; returns the path.

    Raises:
        OutputError: the place cannot be written.
    """
    path = Path(path)
    told = {key: value for key, value in vectors.meta.items() if key not in _OWN}
    content = {
        "format": FORMAT,
        "vectors": {name: tensor[:, 0].contiguous() for name, tensor in vectors.vectors.items()},
        "t_edges": list(vectors.edges),
        "variant": vectors.variant,
        "base": vectors.base,
    }
    write_object(path, {**content, **told})
    return path


def read_steering(path: str | Path) -> SteeringVectors:
    """Vectors of a file, ours or of the public pack.

    Raises:
        MissingFileError: no such file.
        CheckpointError: damaged, not of these forms, or asking to run code.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(
            f"There are no steering vectors {path}. Make them with `selva steer extract --data-dir DIR "
            "--output FILE`."
        )
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise CheckpointError(f"{path} is larger than {_MOST_BYTES >> 20} MB; those are no steering vectors.")
    content = read_object(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        return _own(path, content)
    if isinstance(content, Mapping) and isinstance(content.get("steering_vectors"), list):
        return _of_pack(path, content)
    raise CheckpointError(
        f"{path} holds no steering vectors. Give a file of `selva steer extract`, or one of the public pack."
    )


def _own(path: Path, content: Mapping[str, Any]) -> SteeringVectors:
    found, edges = content.get("vectors"), content.get("t_edges")
    if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found):
        raise _unusable(path, "it names no blocks")
    if not isinstance(edges, list) or not all(isinstance(edge, float | int) for edge in edges):
        raise _unusable(path, "it tells no times")
    edges = tuple(float(edge) for edge in edges)
    if len(edges) < 2 or list(edges) != sorted(set(edges)) or (edges[0], edges[-1]) != (0.0, 1.0):
        raise _unusable(path, f"its times are {shown(edges)}, and not from 0 to 1 in order")
    vectors = {name: _checked(path, name, tensor, dims=(2,))[:, None] for name, tensor in found.items()}
    shapes = {tuple(tensor.shape) for tensor in vectors.values()}
    if len(shapes) != 1 or {shape[0] for shape in shapes} != {len(edges) - 1}:
        raise _unusable(path, f"its vectors are of shapes {shown(sorted(shapes))} for {len(edges) - 1} times")
    meta = {key: value for key, value in content.items() if key not in _OWN}
    return SteeringVectors(
        vectors, edges, str(content.get("variant") or ""), str(content.get("base") or ""), meta
    )


def _of_pack(path: Path, content: Mapping[str, Any]) -> SteeringVectors:
    listed, variant = content["steering_vectors"], str(content.get("variant") or "")
    config = VARIANTS[variant].generator if variant in VARIANTS else None
    joint = content.get("n_joint", config.num_joint_blocks if config else None)
    if not isinstance(joint, int) or not 0 <= joint <= len(listed):
        raise _unusable(path, f"it lists {len(listed)} blocks, of which {shown(joint)} are joint")
    vectors = {}
    for number, tensor in enumerate(listed):
        name = f"joint_blocks.{number}" if number < joint else f"fused_blocks.{number - joint}"
        tensor = _checked(path, name, tensor, dims=(1, 2))
        vectors[name] = (tensor[None] if tensor.ndim == 1 else tensor)[None]
    if len({tuple(tensor.shape) for tensor in vectors.values()}) != 1:
        raise _unusable(path, "its vectors are of several shapes")
    meta = {key: value for key, value in content.items() if key not in ("steering_vectors", "variant")}
    return SteeringVectors(vectors, variant=variant, meta=meta, is_of_pack=True)


def _checked(path: Path, name: str, tensor: Any, *, dims: tuple[int, ...]) -> Tensor:
    if not isinstance(tensor, Tensor) or tensor.ndim not in dims or not tensor.numel():
        raise _unusable(path, f"{name} is {shown(getattr(tensor, 'shape', tensor))}")
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise _unusable(path, f"{name} holds values that are no numbers")
    return tensor.detach().float().contiguous()


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be used: {reason}. Extract the vectors again.")
