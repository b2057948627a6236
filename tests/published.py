"""Every published variant at toy width: untrained, in the published file formats and hub layout."""

import io
import math
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor

from selva_audio.bundle import Part, SelVAModel
from selva_audio.configs import ModelConfig, get_config
from selva_audio.runtime import RuntimePolicy
from selva_audio.weights import load_component
from selva_audio.weights.components import expected_shapes
from selva_audio.weights.manifest import WeightFile, variant_files

T5_VOCABULARY = 32128
_SEED = 2016
_CONSTANTS = {"latent_std": 1.0, "data_mean": -3.3, "data_std": 0.8}


def toy_config(variant: str) -> ModelConfig:
    """The variant with its own rates, files and versions, and narrow networks."""
    config = get_config(variant)
    return replace(
        config,
        generator=replace(
            config.generator,
            hidden_dim=32,
            num_heads=2,
            num_joint_blocks=2,
            num_fused_blocks=1,
            clip_dim=24,
            sync_dim=32,
            text_dim=16,
            mlp_multiple_of=8,
        ),
        video_encoder=replace(
            config.video_encoder, image_size=32, width=32, depth=1, num_heads=2, mlp_dim=32, text_dim=16
        ),
        vae=replace(config.vae, hidden_dim=16),
        vocoder=replace(config.vocoder, initial_channels=64, resblock_kernels=(3,), resblock_dilations=(1,)),
        clip=replace(
            config.clip,
            embed_dim=24,
            frame_size=34,
            image_size=28,
            vision_width=16,
            vision_layers=1,
            vision_heads=2,
            text_width=16,
            text_layers=1,
            text_heads=2,
        ),
        t5=replace(config.t5, d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16),
    )


def untrained_state(component: str, config: ModelConfig) -> dict[str, Tensor]:
    """State dict of one part: unit gains, zero biases, weights of variance 1 / fan-in, under a fixed seed."""
    noise = torch.Generator().manual_seed(_SEED)
    state = {}
    for key, shape in expected_shapes(component, config).items():
        last = key.rpartition(".")[2]
        if last in _CONSTANTS:
            state[key] = torch.full(shape, _CONSTANTS[last])
        elif len(shape) > 1 and not key.endswith("filter"):
            fan_in = math.prod(shape[1:])
            state[key] = torch.randn(shape, generator=noise) / math.sqrt(fan_in)
        elif not key.endswith("filter"):
            state[key] = torch.full(shape, 1.0 if last == "weight" else 0.0)
    return state


def untrained_model(config: ModelConfig) -> SelVAModel:
    """A bundle in float32 on the CPU, made of such weights by the loader of the real ones."""

    def build(part: str) -> torch.nn.Module:
        return load_component(part, config, untrained_state(part, config)).requires_grad_(False)

    parts = {part: Part(lambda part=part: build(part), lambda: "untrained") for part in config.files}
    return SelVAModel(config, RuntimePolicy(), parts | {"image_clip": parts["clip"]})


def published_files(config: ModelConfig) -> dict[tuple[str, str], bytes]:
    """(hub repository, path) -> content of every file of a variant, as its publisher lays it out."""
    files = {}
    for component, entry in variant_files(config).items():
        state = untrained_state(component, config)
        for path, content in _contents(component, entry, state).items():
            files[entry.repo, path] = content
    return files


def build_unigram_tokenizer(folder: Path, vocab_size: int = T5_VOCABULARY) -> Path:
    """Write a ``tokenizer.json`` with T5's kind of model and its special ids (pad 0, eos 1, unk 2).

    Not T5's vocabulary: letters, a few words, and numbered fillers up to ``vocab_size``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unigram_tokenizer(vocab_size).save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def unigram_tokenizer(vocab_size: int = T5_VOCABULARY) -> Tokenizer:
    """The tokenizer of ``build_unigram_tokenizer``."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -6.0) for word in ("dog", "barking", "rain", "bell", "the", "a", "is", "on")]
    pieces += [(chr(code), -9.0) for code in range(0x21, 0x7F)]
    pieces += [(f"<extra_id_{index}>", -20.0) for index in range(vocab_size - len(pieces))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


def _contents(component: str, entry: WeightFile, state: dict[str, Tensor]) -> dict[str, bytes]:
    if component == "clip":
        return {"model.safetensors": save(state)}
    if component == "t5":
        return {
            "model.safetensors": save(state),
            "tokenizer.json": unigram_tokenizer().to_str().encode(),
        }
    if component == "vocoder":
        content = _pickled({"generator": _with_weight_norm(state)})
        if entry.is_folder:
            return {entry.parts[0][0]: content, "config.json": b"{}"}
        return {entry.paths[0]: content}
    # The hub's own spelling of the 44k SelVA generators is the second one of the table.
    return {entry.paths[-1]: _pickled(state)}


def _with_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.ndim == 3 and not key.endswith("filter"):
            stem = key.removesuffix(".weight")
            split[f"{stem}.weight_g"] = value.norm(dim=(1, 2), keepdim=True)
            split[f"{stem}.weight_v"] = value
        else:
            split[key] = value
    return split


def _pickled(content: object) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getvalue()
