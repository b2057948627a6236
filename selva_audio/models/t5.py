"""The T5 encoder whose states steer the video encoder.

The encoder is transformers' class; token ids come from the ``tokenizer`` the caller hands in.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..configs import T5Config

TextTokenizer = Callable[[list[str]], tuple[Tensor, Tensor]]


class T5(nn.Module):
    """Text encoder half of a T5.

    Args:
        config: sizes.
        tokenizer: prompts -> (ids (B, L) int64, mask (B, L) bool), on the CPU, padded to the longest prompt.

    Source: T5 (arXiv:1910.10683) in the gated-GELU form of flan-t5 (arXiv:2210.11416).
    """

    def __init__(self, config: T5Config, tokenizer: TextTokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.encoder = _build_encoder(config)

    def encode_text(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """States of every token after the final norm.

        Returns:
            (B, L, d_model) float32, and (B, L) bool, True where a token is no padding; the longest prompt
            sets L.
        """
        device = next(self.parameters()).device
        ids, mask = (each.to(device) for each in self.tokenizer(prompts))
        states: Tensor = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states.float(), mask


def _build_encoder(config: T5Config) -> Any:
    from transformers import T5Config as TransformersConfig
    from transformers import T5EncoderModel

    model: Any = T5EncoderModel(
        TransformersConfig(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    return model.encoder
