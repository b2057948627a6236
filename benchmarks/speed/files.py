"""Weight files of small_16k as published, with deterministic values.

Both sides read these files: upstream as its own demo does, ours as installed weights. The values follow the
rule of ``tests/golden/fill.py``.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from selva_audio.models.antialias import antialias_filter
from selva_audio.weights import load_component

VARIANT = "small_16k"
CLIP_REPOSITORY, T5_REPOSITORY = "apple/DFN5B-CLIP-ViT-H-14-384", "google/flan-t5-base"
SEED = 0
_ROOT = Path(__file__).parents[2]
_MANIFESTS = _ROOT / "tests" / "contracts" / "manifests"
_GOLDEN = _ROOT / "tests" / "golden"
_T5_VOCABULARY = 32128


def _load_rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rule", _GOLDEN / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULE = _load_rule()


def given(name: str, shape: tuple[int, ...], kind: str = "normal", scale: float = 1.0) -> Tensor:
    """A deterministic input."""
    return torch.from_numpy(RULE.make_input(f"speed.{name}", shape, SEED, kind=kind, scale=scale))


def rule_state(manifest: str) -> dict[str, Tensor]:
    """State dict of a recorded manifest; constants of the architecture as they are in published files."""
    shapes = json.loads((_MANIFESTS / f"{manifest}.json").read_text())
    constants = json.loads((_GOLDEN / "data" / "constants_vae_16k.json").read_text())
    state = {}
    for key, shape in shapes.items():
        values = RULE.values_for(key, shape, SEED)
        if values is not None:
            state[key] = torch.from_numpy(values).reshape(shape)
        elif key.endswith("filter"):
            state[key] = antialias_filter().reshape(shape).clone()
        elif key in constants:
            state[key] = torch.tensor(constants[key]).reshape(shape)
        else:
            raise KeyError(f"{key} of {manifest} is a constant that nothing here knows")
    return state


def write_weights(folder: Path) -> Path:
    """Every file that upstream's demo and ours read for small_16k; files that are there stay.

    About 7.6 GB, most of it CLIP.
    """
    plain: Mapping[str, Callable[[], object]] = {
        "weights/video_enc_sup_5.pth": lambda: rule_state("video_enc"),
        "ext_weights/v1-16.pth": lambda: rule_state("vae_16k"),
        "ext_weights/best_netG.pt": lambda: {"generator": rule_state("bigvgan_16k")},
        "ext_weights/synchformer_state_dict.pth": lambda: rule_state("synchformer_full"),
    }
    for name, make in plain.items():
        _once(folder / name, lambda path, make=make: torch.save(make(), path))
    clip = _made(folder, CLIP_REPOSITORY)
    _once(
        clip / "open_clip_pytorch_model.bin",
        lambda path: torch.save(rule_state("clip_vit_h14_378_open_clip"), path),
    )
    _once(clip / "open_clip_config.json", lambda path: path.write_text(json.dumps(_CLIP)))
    _once(folder / "weights" / "generator_small_16k_sup_5.pth", lambda path: _write_generator(path, clip))
    t5 = _made(folder, T5_REPOSITORY)
    _once(t5 / "model.safetensors", _write_t5)
    _once(t5 / "tokenizer.json", lambda path: _unigram().save(str(path)))
    for name, content in (("config.json", _T5), ("tokenizer_config.json", _T5_TOKENIZER)):
        _once(t5 / name, lambda path, content=content: path.write_text(json.dumps(content)))
    return folder


def repository(folder: Path, name: str) -> Path:
    """Where the files of a repository are in the hub cache of ``folder``."""
    return folder / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / "rule"


def _made(folder: Path, name: str) -> Path:
    snapshot = repository(folder, name)
    reference = snapshot.parents[1] / "refs" / "main"
    for made in (snapshot, reference.parent):
        made.mkdir(parents=True, exist_ok=True)
    reference.write_text("rule")
    return snapshot


def _once(path: Path, write: Callable[[Path], object]) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    part.rename(path)


def _write_generator(path: Path, clip: Path) -> None:
    """As in published files, the stored features of the empty string are what CLIP makes of it."""
    state = rule_state("generator_small_16k")
    towers = torch.load(clip / "open_clip_pytorch_model.bin", weights_only=True, mmap=True)
    text = load_component("clip", VARIANT, towers, image_tower=False)
    with torch.no_grad():
        state["empty_string_feat"] = text.encode_text([""])[0].float().contiguous()
    torch.save(state, path)


def _write_t5(path: Path) -> None:
    state = rule_state("t5_flan_base_encoder")
    # One table under two names; the hub's file has it once.
    del state["encoder.embed_tokens.weight"]
    save_file(state, str(path), metadata={"format": "pt"})


def _unigram() -> Tokenizer:
    """T5's kind of tokenizer with its special ids, not its vocabulary, which is not at hand offline."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(chr(code), -9.0) for code in range(0x21, 0x7F)]
    pieces += [(f"<extra_id_{index}>", -20.0) for index in range(_T5_VOCABULARY - len(pieces))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


_CLIP = {
    "model_cfg": {
        "embed_dim": 1024,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 384, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 1024,
            "heads": 16,
            "layers": 24,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
_T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 768,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 12,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "vocab_size": _T5_VOCABULARY,
    "tie_word_embeddings": False,
}
_T5_TOKENIZER = {
    "tokenizer_class": "T5Tokenizer",
    "model_max_length": 512,
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
