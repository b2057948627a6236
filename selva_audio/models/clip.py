"""CLIP's two towers: prompts to 77 text states, frames to one embedding each.

The towers are transformers' classes, so attribute names are those of ``CLIPModel``; ``weights.keys`` maps the
open_clip layout to them. Token ids come from the ``tokenizer`` the caller hands in.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..configs import CLIPConfig
from ..errors import InputError
from ..graphs import Replayed
from ..runtime import put_aside

TextTokenizer = Callable[[list[str]], Tensor]

_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_FRAMES_AT_ONCE = 8


class CLIP(nn.Module):
    """Text tower and, unless left out, image tower.

    Args:
        config: sizes.
        tokenizer: prompts -> token ids (B, context_length) int64, on the CPU.
        image_tower: False builds the text tower alone, which is all that SelVA's own generators need.

    Source: CLIP (arXiv:2103.00020); weights DFN (arXiv:2309.17425).
    """

    def __init__(self, config: CLIPConfig, tokenizer: TextTokenizer, *, image_tower: bool = True) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        towers = _build_towers(config, image_tower)
        self.text_model = _with_position_ids(towers.text_model)
        for layer in self.text_model.encoder.layers:
            layer.register_forward_hook(_let_go)
        self.vision_model = None
        if image_tower:
            self.vision_model = _with_position_ids(towers.vision_model)
            self.visual_projection = towers.visual_projection
            # Not used here; kept so that a saved module is a whole CLIPModel.
            self.text_projection = towers.text_projection
            self.logit_scale = towers.logit_scale

    def encode_text(self, prompts: list[str]) -> Tensor:
        """States of every position, padding included: each depends on the prompt through causal attention.

        Returns:
            (B, context_length, text_width) float32, each vector of unit length.
        """
        ids = self.tokenizer(prompts).to(next(self.parameters()).device)
        states: Tensor = self.text_model(input_ids=ids).last_hidden_state
        return functional.normalize(states.float(), dim=-1)

    def encode_image(self, frames: Tensor) -> Tensor:
        """One embedding per frame.

        Args:
            frames: (B, T, 3, frame_size, frame_size) in [0, 1].

        Returns:
            (B, T, embed_dim) float32, each vector of unit length.

        Raises:
            InputError: another shape, or the image tower was left out.
        """
        if self.vision_model is None:
            raise InputError(
                "This CLIP holds its text tower alone and cannot encode frames. Load a CLIP file with image "
                "weights, or turn clip_conditioning off."
            )
        self._check_frames(frames)
        flat = torch.split(frames.flatten(0, 1), _FRAMES_AT_ONCE)
        tower = Replayed(self.vision_model, _pooled)
        embeddings = torch.cat([self._embed(tower, chunk) for chunk in flat])
        return rearrange(embeddings, "(b t) d -> b t d", b=frames.shape[0])

    def _embed(self, tower: Replayed, frames: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, embed_dim) float32."""
        mean, std = (frames.new_tensor(values)[:, None, None] for values in (_PIXEL_MEAN, _PIXEL_STD))
        # 384 is no multiple of the patch size 14; the network was trained on the top left 378.
        size = self.config.image_size
        pixels = ((frames - mean) / std)[..., :size, :size]
        pooled = tower(pixels.to(self.visual_projection.weight.dtype))
        return functional.normalize(self.visual_projection(pooled).float(), dim=-1)

    def _check_frames(self, frames: Tensor) -> None:
        size = self.config.frame_size
        if frames.ndim != 5 or frames.shape[1] < 1 or tuple(frames.shape[2:]) != (3, size, size):
            raise InputError(
                f"CLIP frames have the shape {tuple(frames.shape)}; (B, T, 3, {size}, {size}) with at least "
                f"one frame is needed. Resize the frames to {size}x{size}."
            )


def _pooled(tower: nn.Module, pixels: Tensor) -> Tensor:
    pooled: Tensor = tower(pixel_values=pixels).pooler_output
    return pooled


def _let_go(layer: nn.Module, *_: Any) -> None:
    # A prompt passes a layer once; all layers together are half of what a sound needs memory for.
    for parameter in layer.parameters():
        put_aside(parameter)


def _build_towers(config: CLIPConfig, image_tower: bool) -> Any:
    from transformers import CLIPConfig as TransformersConfig
    from transformers import CLIPModel

    return CLIPModel(
        TransformersConfig(
            projection_dim=config.embed_dim,
            text_config={
                "vocab_size": config.vocab_size,
                "hidden_size": config.text_width,
                "intermediate_size": 4 * config.text_width,
                "num_hidden_layers": config.text_layers,
                "num_attention_heads": config.text_heads,
                "max_position_embeddings": config.context_length,
                "projection_dim": config.embed_dim,
                "hidden_act": "quick_gelu",
                # Only pooling reads these, which is not used; outside the vocabulary they cause warnings.
                "bos_token_id": config.vocab_size - 2,
                "eos_token_id": config.vocab_size - 1,
            },
            vision_config={
                "hidden_size": config.vision_width,
                "intermediate_size": 4 * config.vision_width,
                "num_hidden_layers": config.vision_layers if image_tower else 0,
                "num_attention_heads": config.vision_heads,
                "image_size": config.image_size,
                "patch_size": config.patch_size,
                "projection_dim": config.embed_dim,
                "hidden_act": "quick_gelu",
            },
        )
    )


def _with_position_ids(tower: Any) -> Any:
    """Make the buffer real where the module is built on the meta device: no file holds it."""
    embeddings = tower.embeddings
    count = embeddings.position_embedding.num_embeddings
    embeddings.position_ids = torch.arange(count, device="cpu")[None]
    return tower
