"""Activation steering: directions of a style, added to the latent stream after each block while sampling.

Finding the directions is left to ``training.steering``, their files to ``steering_file``. Nothing is left in
a generator: hooks live as long as a block of code, and go when it is left, on errors too.

Letters: T bins of time, P positions (1, or one for each latent token), B batch, N latent tokens, D width.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ..errors import CheckpointError, InputError
from ..options.steering import SteeringOptions
from .solvers import Velocity


@dataclass(frozen=True, slots=True, eq=False)
class SteeringVectors:
    """Directions by block.

    Attributes:
        vectors: block path -> (T, P, D) float32 on the CPU; all blocks have the same T, P and D.
        edges: T + 1 times from 0 (noise) to 1 (data); bin k holds from edge k to edge k + 1.
        variant: of the generator they were found in; "" where the file does not tell.
        base: identity of its weights without adapters; "" likewise.
        meta: other plain values of the file: contrast, n, seed, report.
        is_of_pack: whether the public pack wrote the file.
    """

    vectors: Mapping[str, Tensor]
    edges: tuple[float, ...] = (0.0, 1.0)
    variant: str = ""
    base: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    is_of_pack: bool = False

    def at(self, path: str, t: float, num_latents: int) -> Tensor:
        """(1 or num_latents, D) direction of a block at a time; positions are interpolated to the latents."""
        past = sum(t >= edge for edge in self.edges[1:-1])
        vector = self.vectors[path][past]
        if vector.shape[0] in (1, num_latents):
            return vector
        stretched = functional.interpolate(vector.T[None], size=num_latents, mode="linear")
        return stretched[0].T


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """Vectors with how they act: ``SelVAModel.inputs.steering``.

    Attributes:
        vectors: the directions.
        options: strength, mode, branch, blocks.
        path: file they were read from; "" for none.
        sha256: of that file.
    """

    vectors: SteeringVectors
    options: SteeringOptions
    path: str = ""
    sha256: str = ""

    @property
    def account(self) -> dict[str, Any]:
        """What a recipe keeps."""
        return {"path": self.path, "sha256": self.sha256, "options": self.options.model_dump(mode="json")}

    @contextlib.contextmanager
    def attached(self, generator: nn.Module, velocity: Velocity, *, guided: bool) -> Iterator[Velocity]:
        """A velocity field like ``velocity`` of ``generator``, steered inside the block.

        With a strength of 0 it is ``velocity`` itself. With the branch "both" guidance does not amplify the
        change: c v + (1 - c) v is v.

        Args:
            generator: its blocks are hooked until the block of code is left.
            velocity: calls ``generator`` once, with items of one time.
            guided: its batches are conditional items, then as many unconditional ones.
        """
        if self.options.steering_strength == 0:
            yield velocity
            return
        now = 0.0

        def at(t: Tensor, x: Tensor) -> Tensor:
            nonlocal now
            now = float(t)
            return velocity(t, x)

        half = guided and self._branch == "cond"
        handles: list[RemovableHandle] = []
        try:
            for path in self.paths(generator):
                block = generator.get_submodule(path)
                move = self._mover(path, lambda: now, half=half)
                handles.append(block.register_forward_hook(lambda _, inputs, out, move=move: move(out)))
            yield at
        finally:
            for handle in handles:
                handle.remove()

    def paths(self, generator: nn.Module) -> list[str]:
        """Blocks that are steered.

        Raises:
            InputError: a block that is asked for and is not there.
        """
        paths, wanted = block_paths(generator), self.options.block_numbers
        if wanted is not None and max(wanted) >= len(paths):
            raise InputError(
                f"steering_blocks = {self.options.steering_blocks!r} names block {max(wanted)}, but "
                f"the generator has blocks 0 to {len(paths) - 1}."
            )
        return [path for number, path in enumerate(paths) if wanted is None or number in wanted]

    @property
    def _branch(self) -> str:
        chosen = self.options.steering_branch
        return chosen if chosen != "auto" else "cond" if self.vectors.is_of_pack else "both"

    @property
    def _is_relative(self) -> bool:
        chosen = self.options.steering_mode
        return chosen == "relative" if chosen != "auto" else not self.vectors.is_of_pack

    def _mover(self, path: str, now: Callable[[], float], *, half: bool) -> Callable[[Any], Any]:
        """Function from the output of a block to the steered output."""

        def move(output: Any) -> Any:
            if isinstance(output, tuple):
                return (move(output[0]), *output[1:])
            vector = self.vectors.at(path, now(), output.shape[1]).to(output.device)
            if half:
                steered, untouched = output.chunk(2)
                return torch.cat((self._moved(steered, vector), untouched))
            return self._moved(output, vector)

        return move

    def _moved(self, latent: Tensor, vector: Tensor) -> Tensor:
        """(B, N, D) with the vector (N or 1, D) added."""
        if self._is_relative:
            # A direction of length zero says nothing, in whatever units.
            unit = functional.normalize(vector, dim=-1)
            vector = latent.float().norm(dim=-1, keepdim=True) * unit
        moved: Tensor = latent.float() + self.options.steering_strength * vector
        return moved.to(latent.dtype)


def block_paths(generator: nn.Module) -> list[str]:
    """Paths of the blocks in the order in which the latent stream passes them."""
    return [
        f"{group}.{number}"
        for group in ("joint_blocks", "fused_blocks")
        for number in range(len(list(generator.get_submodule(group).children())))
    ]


def check_steering_fits(generator: nn.Module, vectors: SteeringVectors, width: int) -> None:
    """Compare blocks and width.

    Raises:
        CheckpointError: the vectors are of another generator.
    """
    expected = block_paths(generator)
    found = {tensor.shape[-1] for tensor in vectors.vectors.values()}
    if sorted(vectors.vectors) != sorted(expected) or found != {width}:
        told = f" They were found in {vectors.variant}." if vectors.variant else ""
        raise CheckpointError(
            f"The steering vectors do not fit this generator: they are for {len(vectors.vectors)} blocks of "
            f"width {', '.join(map(str, sorted(found)))}, and it has {len(expected)} of width {width}.{told} "
            "Choose the variant they were found in, or extract them again."
        )
