"""A state dict in its published layout to a module ready for inference.

Reading files is left to ``io``, finding them to ``store``.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..configs import VARIANTS, ModelConfig, get_config
from ..errors import CheckpointError, InputError, unknown_name
from ..models.bigvgan import BigVGAN
from ..models.clip import CLIP
from ..models.generator import Generator
from ..models.layers import lay_out_convolutions
from ..models.synchformer import Synchformer
from ..models.t5 import T5
from ..models.text_synch import TextSynch
from ..models.vae import VAE, fold_magnitude
from .keys import VISION_PREFIXES, text_tower, to_module_layout
from .tokenizers import clip_tokenizer, t5_tokenizer

Shapes = Mapping[str, tuple[int, ...]]
TokenizerSource = str | Path | Tokenizer | Callable[[list[str]], Any]

_CONFIG_FIELDS = {
    "generator": "generator",
    "video_encoder": "video_encoder",
    "synchformer": "video_encoder",
    "vae": "vae",
    "vocoder": "vocoder",
    "clip": "clip",
    "t5": "t5",
}
COMPONENTS = tuple(_CONFIG_FIELDS)
# One name that the files of a component have and others lack; the first that is found decides.
_SIGNS = {
    "audio_input_proj.0.weight": "generator",
    "text_proj.0.weight": "video_encoder",
    "vfeat_extractor.cls_token": "synchformer",
    "data_mean": "vae",
    "conv_pre.bias": "vocoder",
    "token_embedding.weight": "clip",
    "text_model.embeddings.token_embedding.weight": "clip",
    "encoder.final_layer_norm.weight": "t5",
}
_SHOWN = 3


def load_component(
    component: str,
    variant: str | ModelConfig,
    state_dict: Mapping[str, Tensor],
    *,
    tokenizer: TokenizerSource | None = None,
    image_tower: bool = True,
) -> nn.Module:
    """Build one part of a model from a state dict as published.

    Key rules and weight folding are applied, the module is in eval mode and float32 on the CPU. Tensors that
    need no change are shared with ``state_dict``, which is never changed.

    Args:
        component: one of ``COMPONENTS``; of an "mmaudio" variant, "video_encoder" is the plain Synchformer.
        variant: key of ``VARIANTS``, or a configuration of your own.
        state_dict: names to tensors; an outer ``generator`` key is opened.
        tokenizer: of "clip" and "t5" only: a callable from prompts to ids; for T5 also a tokenizer file,
            its folder or a ``tokenizers.Tokenizer``. By default CLIP's comes with this package, and T5's is
            looked for at the first prompt.
        image_tower: False leaves CLIP's image weights out. A file without them gives the text tower alone.

    Raises:
        InputError: unknown component or variant, or a tokenizer for a part that has none.
        CheckpointError: names or shapes are not those of the component.
    """
    kind, config = _resolve(component, variant)
    state = to_module_layout(kind, state_dict)
    if kind == "clip" and not image_tower:
        state = text_tower(state)
    _check(kind, config, state, state_dict)
    if kind == "vae":
        state = fold_magnitude(state)
    ready = {key: _as_float32(value) for key, value in state.items()}
    module = _build(
        kind,
        part_config(kind, config),
        _has_image_tower(state),
        _tokenizer(kind, config, tokenizer),
    )
    module.load_state_dict(ready, assign=True)
    lay_out_convolutions(module)
    return module.eval()


def empty_component(
    component: str,
    variant: str | ModelConfig,
    *,
    tokenizer: TokenizerSource | None = None,
    image_tower: bool = True,
) -> nn.Module:
    """The module that ``load_component`` builds, on the meta device: whoever asks gives it its tensors."""
    kind, config = _resolve(component, variant)
    part = part_config(kind, config)
    return _build(kind, part, image_tower, _tokenizer(kind, config, tokenizer))


def check_state_dict(component: str, variant: str | ModelConfig, shapes: Shapes) -> None:
    """Check a file from its header alone, by the same rules as ``load_component``.

    Args:
        component: one of ``COMPONENTS``.
        variant: key of ``VARIANTS``, or a configuration of your own.
        shapes: every name in the file with its shape.

    Raises:
        InputError: unknown component or variant.
        CheckpointError: names or shapes are not those of the component.
    """
    kind, config = _resolve(component, variant)
    tensors = {key: torch.empty(tuple(shape), device="meta") for key, shape in shapes.items()}
    _check(kind, config, to_module_layout(kind, tensors), tensors)


def expected_shapes(component: str, variant: str | ModelConfig, *, image_tower: bool = True) -> Shapes:
    """Names and shapes of a component's module, in the layout that ``load_component`` builds."""
    kind, config = _resolve(component, variant)
    return _expected_shapes(kind, part_config(kind, config), image_tower)


def part_config(component: str, config: ModelConfig) -> Any:
    """Sizes of a component."""
    return getattr(config, _CONFIG_FIELDS[component])


def _resolve(component: str, variant: str | ModelConfig) -> tuple[str, ModelConfig]:
    """The component whose module and key rules apply, and the configuration."""
    config = get_config(variant)
    if component not in _CONFIG_FIELDS:
        raise InputError(unknown_name("component", component, COMPONENTS))
    if component == "video_encoder" and config.family == "mmaudio":
        return "synchformer", config
    return component, config


def _build(kind: str, part: Any, image_tower: bool, tokenizer: Any = None) -> nn.Module:
    """An empty module on the meta device."""
    with torch.device("meta"):
        match kind:
            case "generator":
                return Generator(part)
            case "video_encoder":
                return TextSynch(part)
            case "synchformer":
                return Synchformer(part)
            case "vae":
                return VAE(part)
            case "vocoder":
                return BigVGAN(part)
            case "clip":
                return CLIP(part, tokenizer, image_tower=image_tower)
            case _:
                return T5(part, tokenizer)


def _tokenizer(kind: str, config: ModelConfig, source: TokenizerSource | None) -> Any:
    if kind not in ("clip", "t5"):
        if source is not None:
            raise InputError(f"The {kind} takes no tokenizer; clip and t5 do. Leave it out.")
        return None
    if callable(source):
        return source
    if kind == "t5":
        return t5_tokenizer(config.t5, source)
    if source is not None:
        raise InputError(f"CLIP's tokenizer is a function from prompts to ids, not {source!r}. Leave it out.")
    return clip_tokenizer(config.clip)


def _as_float32(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device="cpu", dtype=dtype)


def _has_image_tower(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(VISION_PREFIXES) for key in state)


@cache
def _expected_shapes(kind: str, part: Any, image_tower: bool) -> Shapes:
    state = _build(kind, part, image_tower).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def _check(kind: str, config: ModelConfig, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless ``state`` has exactly the names and shapes of the module."""
    found = {key: tuple(value.shape) for key, value in state.items()}
    image_tower = _has_image_tower(state)
    needed = _expected_shapes(kind, part_config(kind, config), image_tower)
    if found == needed:
        return
    raise CheckpointError(
        f"These are not the {kind} weights of {config.name}: {_differences(found, needed)}. "
        f"{_guess(kind, config, found, given)}"
    )


def _differences(found: Shapes, needed: Shapes) -> str:
    missing = [key for key in needed if key not in found]
    unexpected = [key for key in found if key not in needed]
    wrong = [
        f"{key} has shape {found[key]} where {needed[key]} is needed"
        for key in needed
        if key in found and found[key] != needed[key]
    ]
    parts = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("of another shape", wrong),
    ]
    return "; ".join(part for part in parts if part)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"


def _guess(kind: str, config: ModelConfig, found: Shapes, given: Mapping[str, Any]) -> str:
    """What the weights are instead, as far as that shows, and what to do."""
    other = _fitting_variant(kind, config, found)
    if other is not None:
        return f"This looks like {other}: choose that variant, or the file of {config.name}."
    inner = given.get("generator", given)
    look = next((name for sign, name in _SIGNS.items() if sign in inner), kind)
    again = f"fetch the right one again with: selva models download {config.name}"
    if look != kind:
        return f"This looks like a {look} file: load it as {look}, or {again}."
    return f"The file may be cut short or of another model: {again}."


def _fitting_variant(kind: str, config: ModelConfig, found: Shapes) -> str | None:
    """Name of another variant that has a part of these shapes; those of the same family are tried first."""
    own = part_config(kind, config)
    tried = {own}
    for other in sorted(VARIANTS.values(), key=lambda each: each.family != config.family):
        part = part_config(kind, other)
        if part in tried:
            continue
        tried.add(part)
        if found == _expected_shapes(kind, part, any(key.startswith(VISION_PREFIXES) for key in found)):
            return other.name
    return None
