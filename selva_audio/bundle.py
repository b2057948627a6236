"""A variant's parts, each loaded at first use; nothing edits a loaded part in place."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import uint8

from .configs import ModelConfig, get_config
from .errors import InputError, unknown_name
from .models.mel import mel_spectrogram
from .progress import ProgressFn, ignore_progress
from .runtime import RuntimePolicy
from .weights import load_component
from .weights.store import WeightStore

if TYPE_CHECKING:
    from torch import Tensor, nn

PARTS = ("generator", "video_encoder", "clip", "t5", "vae", "vocoder")


class Part:
    """One module that is built at first use and then kept.

    Args:
        build: gives the module, ready for inference.
        identity: gives a text that is equal exactly when the weights are.
    """

    def __init__(self, build: "Callable[[], nn.Module]", identity: Callable[[], str]) -> None:
        self._build = build
        self._identity = identity
        self._lock = threading.Lock()

    def get(self) -> Any:
        """The module; built once, also when several threads ask."""
        with self._lock:
            return self._module

    @cached_property
    def _module(self) -> "nn.Module":
        return self._build()

    @cached_property
    def identity(self) -> str:
        """Text that is equal exactly when the weights are."""
        return self._identity()


class SelVAModel:
    """The lazily loaded parts of one variant.

    Attributes:
        config: sizes and rates.
        policy: device, precision, offload.
        adapters: path, sha256 and strength of each adapter in the generator.
    """

    def __init__(
        self,
        config: ModelConfig,
        policy: RuntimePolicy,
        parts: Mapping[str, Part],
        adapters: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.config = config
        self.policy = policy
        self.adapters = tuple(adapters)
        self._parts = dict(parts)

    generator = property(lambda self: self._part("generator").get(), doc="Flow-matching transformer.")
    video_encoder = property(lambda self: self._part("video_encoder").get(), doc="Sync features.")
    t5 = property(lambda self: self._part("t5").get(), doc="T5 text encoder; SelVA variants only.")
    vae = property(lambda self: self._part("vae").get(), doc="Mel autoencoder.")
    vocoder = property(lambda self: self._part("vocoder").get(), doc="Mel to waveform.")

    @property
    def clip(self) -> Any:
        """CLIP: the text tower, with the image tower where the variant is conditioned on frames."""
        return self._part("clip").get()

    @property
    def image_clip(self) -> Any:
        """CLIP with its image tower, whatever the variant."""
        return self._part("image_clip").get()

    @property
    def mel(self) -> "Callable[[Tensor], Tensor]":
        """Function from a waveform (B, L) to its log mel (B, M, F)."""
        return partial(mel_spectrogram, config=self.config.mel)

    def identity(self, part: str) -> str:
        """Text that is equal exactly when the weights of ``part`` are."""
        return self._part(part).identity

    def identities(self) -> dict[str, str]:
        """Identity of every part, for a recipe."""
        return {part: self.identity(part) for part in PARTS if part in self._parts}

    def replace(self, **parts: "nn.Module") -> "SelVAModel":
        """A bundle with other modules in some places; all other tensors are shared.

        Raises:
            InputError: a name that is not one of ``PARTS``.
        """
        for name in parts:
            if name not in PARTS:
                raise InputError(unknown_name("part", name, PARTS))
        changed = {name: _given(module) for name, module in parts.items()}
        if "clip" in changed:
            changed["image_clip"] = changed["clip"]
        adapters = () if "generator" in parts else self.adapters
        return SelVAModel(self.config, self.policy, self._parts | changed, adapters)

    def adapted(
        self,
        build: "Callable[[Any], nn.Module]",
        adapters: Sequence[Mapping[str, Any]],
        *,
        clip_conditioning: bool,
    ) -> "SelVAModel":
        """A bundle whose generator is made of this one's at first use; all tensors are shared.

        Args:
            build: gives the new generator from the present one, which it leaves as it is.
            adapters: path, sha256 and strength of each adapter that it adds.
            clip_conditioning: what "auto" means with them.
        """
        base = self._part("generator")
        added = "".join(f";{each['sha256']}*{each['strength']!r}" for each in adapters)
        part = Part(lambda: build(base.get()), lambda: base.identity + added)
        config = replace(self.config, clip_conditioning=clip_conditioning)
        parts = self._parts | {"generator": part}
        return SelVAModel(config, self.policy, parts, (*self.adapters, *adapters))

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise InputError(f"{self.config.name} has no {name}; it has {', '.join(self._parts)}.")
        return self._parts[name]


def load_model(
    variant: str | ModelConfig = "small_16k",
    *,
    device: str = "auto",
    precision: str = "bf16",
    offload: str = "auto",
    models_dir: str | Path | None = None,
    offline: bool | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> SelVAModel:
    """Locate every file of a variant now, load each part at its first use.

    Args:
        variant: key of ``VARIANTS``, or a configuration of your own.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "bf16", "fp16" or "fp32" weights.
        offload: "auto", "keep_in_vram" or "offload_to_cpu".
        models_dir: folder looked at before all others.
        offline: True never downloads; None follows the environment.
        on_progress: told about downloads and checks.

    Raises:
        InputError: unknown variant, device, precision or offload.
        MissingFileError: a file is nowhere and may not be downloaded, or one of the package is missing.
        DownloadError, CheckpointError: a file cannot be had, or is not what it should be.
    """
    config = get_config(variant)
    policy = RuntimePolicy.resolve(device, precision, offload)
    return load_model_under(policy, config, models_dir=models_dir, offline=offline, on_progress=on_progress)


def load_model_under(
    policy: RuntimePolicy,
    variant: str | ModelConfig,
    *,
    models_dir: str | Path | None = None,
    offline: bool | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> SelVAModel:
    """``load_model`` for a host that manages devices and memory itself, by a policy of its own."""
    config = get_config(variant)
    folder = Path(models_dir) if models_dir is not None else None
    store = WeightStore(folder, offline=offline, on_progress=on_progress)
    names = {part: config.files[part] for part in PARTS if part in config.files}
    for name in names.values():
        store.path(name)
    parts = {
        part: Part(
            partial(_load, part, config, policy, store, image_tower=config.clip_conditioning),
            partial(store.identity, name),
        )
        for part, name in names.items()
    }
    parts["image_clip"] = (
        parts["clip"]
        if config.clip_conditioning
        else Part(
            partial(_load, "clip", config, policy, store, image_tower=True),
            partial(store.identity, names["clip"]),
        )
    )
    return SelVAModel(config, policy, parts)


def _load(
    part: str, config: ModelConfig, policy: RuntimePolicy, store: WeightStore, *, image_tower: bool
) -> "nn.Module":
    """Read one part and put it where it rests, in the policy's number format."""
    name = config.files[part]
    state = store.read(name, part, config)
    if part == "clip":
        module = load_component(part, config, state, image_tower=image_tower)
    else:
        module = load_component(part, config, state, tokenizer=store.path(name) if part == "t5" else None)
    return module.to(device=policy.home, dtype=policy.dtype_of(part)).requires_grad_(False)


def _given(module: "nn.Module") -> Part:
    """A part that exists already; its identity is a digest of its tensors."""

    def identity() -> str:
        digest = hashlib.sha256()
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    return Part(lambda: module, identity)
