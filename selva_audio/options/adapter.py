"""Settings of an adapter: where it sits, how large it is, and how it starts."""

import math
from typing import Literal

from pydantic import Field

from .base import Options


class AdapterOptions(Options):
    """A low-rank adapter before it is trained."""

    target: str = Field(
        default="qkv conv",
        description="What is adapted: qkv, conv, linear1, mlp, modulation, input, final, all, or endings of "
        "module paths, with spaces between.",
    )
    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the change of each layer.")
    alpha: float = Field(
        default=0.0,
        ge=0,
        le=4096,
        description="Scale of the change, over the rank; 0: twice the rank, with PiSSA the rank, with "
        "rsLoRA 8.",
    )
    use_rslora: bool = Field(
        default=False, description="Divide alpha by the square root of the rank instead of the rank."
    )
    use_dora: bool = Field(default=False, description="Train the length of each output row apart (DoRA).")
    init_mode: Literal["standard", "pissa"] = Field(
        default="standard",
        description="Start from noise, or from the main directions of the weights (PiSSA).",
    )
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the inputs of the change that a step drops."
    )
    rank_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the ranks that a step drops, per sample."
    )
    module_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the layers that a step leaves as they were, per sample.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the starting values.")

    @property
    def effective_alpha(self) -> float:
        """``alpha``, or what 0 stands for."""
        if self.alpha:
            return self.alpha
        # rsLoRA is stable across ranks only while alpha stays the same.
        return 8.0 if self.use_rslora else float(self.rank * (1 if self.init_mode == "pissa" else 2))

    @property
    def scale(self) -> float:
        """Factor on the product of the two matrices."""
        return lora_scale(self.effective_alpha, self.rank, use_rslora=self.use_rslora)


def lora_scale(alpha: float, rank: int, *, use_rslora: bool) -> float:
    """Alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732)."""
    return alpha / (math.sqrt(rank) if use_rslora else rank)
