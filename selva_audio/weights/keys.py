"""Key rules: the layout of published files to the layout of our modules.

Works on names and views of tensors, so meta tensors (a file's header) go through the same rules as
real ones. Only weight norm is computed; comparing with a module is left to ``components``.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models.antialias import antialias_filter
from ..models.bigvgan import fold_weight_norm

State = dict[str, Tensor]

VISION_PREFIXES = ("vision_model.", "visual_projection.")

# Tables that a module computes from lengths; some files hold them.
_COMPUTED_TABLE = re.compile(r"(^|\.)(freqs|inv_freq|latent_rot|clip_rot|[^.]*(rope|rotary)[^.]*)(\.|$)")
_TEXT_SYNCH_PREFIXES = (
    "vfeat_extractor.", "text_proj.", "synch_text_cross_blocks.", "sup_text_feat", "empty_string_feat",
)  # fmt: skip
_WEIGHT_NORM = re.compile(r"\.(?:parametrizations\.weight\.original[01]|weight_[gv])$")

# open_clip name -> transformers name, for what is only renamed; a prefix where it ends with a dot.
_CLIP_NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.": "vision_model.embeddings.patch_embedding.",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "visual.proj": "visual_projection.weight",
}
_CLIP_BLOCK_NAMES = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.": ".self_attn.",
}
_CLIP_TRANSPOSED = ("text_projection", "visual.proj")


def to_module_layout(component: str, state_dict: Mapping[str, Tensor]) -> State:
    """State dict of a published file -> names and shapes of the component's module.

    VAE weights keep their published scale (``models.vae.fold_magnitude`` is another step); weight norm is
    folded, because that changes names.

    Args:
        component: generator, video_encoder (TextSynch), synchformer, vae, vocoder, clip or t5.
        state_dict: tensors by name; an outer ``generator`` key is opened.

    Raises:
        CheckpointError: no state dict, or half of a weight-norm pair is missing.
    """
    return _RULES[component](_tensors(state_dict))


def _tensors(state_dict: Mapping[str, object]) -> State:
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"The weights are a {type(state_dict).__name__}; a state dict (name -> tensor) is needed. "
            "Give the dictionary the file holds."
        )
    inner = state_dict.get("generator")
    if isinstance(inner, Mapping):
        return _tensors(inner)
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"The weights hold a {type(value).__name__} under {key!r}; a state dict has tensors only. "
                "Give the inner dictionary that maps names to tensors."
            )
    return dict(state_dict)  # type: ignore[arg-type]


def _generator(state: State) -> State:
    return {key: value for key, value in state.items() if not _COMPUTED_TABLE.search(key)}


def _synchformer(state: State) -> State:
    return _starting_with(state, ("vfeat_extractor.",))


def _text_synch(state: State) -> State:
    return _starting_with(state, _TEXT_SYNCH_PREFIXES)


def _vae(state: State) -> State:
    return state


def _vocoder(state: State) -> State:
    """Fold weight norm; files made without the anti-alias filters get them, since they are constants."""
    for module in {_WEIGHT_NORM.sub("", key) for key in state if _WEIGHT_NORM.search(key)}:
        _check_weight_norm(state, module)
    folded = fold_weight_norm(state)
    for activation in {key.rpartition(".act.")[0] for key in folded if ".act." in key}:
        for name in ("upsample.filter", "downsample.lowpass.filter"):
            if f"{activation}.{name}" not in folded:
                folded[f"{activation}.{name}"] = antialias_filter()
    return folded


def _clip(state: State) -> State:
    """Either layout; without an image tower only what the text tower needs is kept."""
    if not any(key.startswith(("text_model.", "vision_model.")) for key in state):
        state = _from_open_clip(state)
    state = {key: value for key, value in state.items() if not key.endswith(".position_ids")}
    return state if any(key.startswith(VISION_PREFIXES) for key in state) else text_tower(state)


def text_tower(state: Mapping[str, Tensor]) -> State:
    """What a CLIP without image tower holds, of a state dict in module layout."""
    return _starting_with(state, ("text_model.",))


def _t5(state: State) -> State:
    """The encoder of a whole model; its token table goes by either of two names."""
    encoder = _starting_with(state, ("encoder.",))
    if "shared.weight" in state:
        encoder.setdefault("encoder.embed_tokens.weight", state["shared.weight"])
    return encoder


_RULES: Mapping[str, Callable[[State], State]] = {
    "generator": _generator,
    "video_encoder": _text_synch,
    "synchformer": _synchformer,
    "vae": _vae,
    "vocoder": _vocoder,
    "clip": _clip,
    "t5": _t5,
}


def _starting_with(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> State:
    return {key: value for key, value in state.items() if key.startswith(prefixes)}


def _check_weight_norm(state: State, module: str) -> None:
    """Raise CheckpointError where a pair's shapes cannot be multiplied; the fold finds missing halves."""
    names = ("weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1")
    old_g, old_v, new_g, new_v = (state.get(f"{module}.{name}") for name in names)
    magnitude, direction = (old_g if new_g is None else new_g), (old_v if new_v is None else new_v)
    if magnitude is None or direction is None:
        return
    if direction.ndim < 2 or magnitude.numel() != direction.shape[0]:
        raise CheckpointError(
            f"The weight norm of {module} has magnitudes {tuple(magnitude.shape)} for weights "
            f"{tuple(direction.shape)}; one magnitude per first axis is needed. Fetch the vocoder file again."
        )


def _from_open_clip(state: State) -> State:
    renamed: State = {}
    for key, value in state.items():
        name = _clip_name(key)
        if key in _CLIP_TRANSPOSED:
            renamed[name] = value.transpose(0, 1) if value.ndim == 2 else value
        elif ".self_attn.in_proj_" in name and value.ndim:
            for part, rows in zip("qkv", torch.tensor_split(value, 3), strict=True):
                renamed[name.replace(".in_proj_", f".{part}_proj.")] = rows
        elif not name.endswith("attn_mask"):
            renamed[name] = value
    return renamed


def _clip_name(key: str) -> str:
    name = _CLIP_NAMES.get(key, key)
    for old, new in _CLIP_NAMES.items():
        if old.endswith(".") and key.startswith(old):
            name = new + key.removeprefix(old)
    for old, new in _CLIP_BLOCK_NAMES.items():
        if ".layers." in name:
            name = name.replace(old, new)
    return name
