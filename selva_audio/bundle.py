"""A variant's parts, each loaded at first use; nothing edits a loaded part in place."""

import copy
import hashlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import is_grad_enabled, is_inference_mode_enabled, uint8

from .configs import ModelConfig, get_config
from .errors import InputError, unknown_name
from .graphs import forget
from .models.mel import mel_spectrogram
from .progress import ProgressFn, ignore_progress
from .runtime import RuntimePolicy, mark_mapped, num_threads, release_memory, trim_memory
from .weights.components import empty_component, load_component, part_config
from .weights.prepared import PreparedPart
from .weights.store import WeightStore
from .weights.untrained import untrained_component

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

PARTS = ("generator", "video_encoder", "clip", "t5", "vae", "vocoder")
_NUM_REMEMBERED = 32


class Part:
    """One module that is built at first use and then kept.

    Args:
        build: gives the module, ready for inference.
        identity: gives a text that is equal exactly when the weights are.
        exact: gives one of its own in float32 on the CPU; None copies the built one.
        base: what it was made of; None for a part that is as its file has it.
        account: path and sha256 of the file it was made with.
        is_quick: tells whether building it again would cost next to nothing.
    """

    def __init__(
        self,
        build: "Callable[[], nn.Module]",
        identity: Callable[[], str],
        *,
        exact: "Callable[[], nn.Module] | None" = None,
        base: "Part | None" = None,
        account: Mapping[str, Any] | None = None,
        is_quick: Callable[[], bool] = lambda: False,
    ) -> None:
        self._build = build
        self._identity = identity
        self._exact = exact
        self.base = base or self
        self.account = account
        self._is_quick = is_quick
        self._lock = threading.Lock()
        self._remembered: dict[Hashable, Any] = {}

    def get(self) -> Any:
        """The module; built once, also when several threads ask."""
        with self._lock:
            return self._module

    def exact(self) -> Any:
        """A module of its own with the numbers of the file, as they were before any rounding."""
        if self._exact is not None:
            return self._exact()
        return copy.deepcopy(self.get()).float().cpu()

    def release(self) -> None:
        """Let go of a module that is quick to build again; whoever else holds it keeps it."""
        with self._lock:
            if self.is_built and self._is_quick():
                del self._module

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gave for ``key`` before, else what it gives now; the last few are kept.

        Only without gradients, and not for inference tensors, which nothing could be trained on later.
        """
        if is_grad_enabled() or is_inference_mode_enabled():
            return make()
        # Sums depend on the number of threads, and results on nothing that came before.
        key = (num_threads(), key)
        with self._lock:
            if key in self._remembered:
                self._remembered[key] = self._remembered.pop(key)
                found: T = self._remembered[key]
                return found
        made = make()
        with self._lock:
            self._remembered[key] = made
            while len(self._remembered) > _NUM_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return made

    @property
    def is_built(self) -> bool:
        """Whether the module is in memory."""
        return "_module" in self.__dict__

    @cached_property
    def _module(self) -> "nn.Module":
        return self._build()

    @cached_property
    def identity(self) -> str:
        """Text that is equal exactly when the weights are."""
        return self._identity()


class TextEdit(Protocol):
    """Changes text features before they reach the generator, as a textual inversion does.

    ``edit`` is called by ``synthesis.encode_prompts``, once for each sound, while CLIP is on the device.
    It gets what CLIP made of the prompts and gives rows of the same shape; with a strength of 0 it gives
    ``plain`` itself. It must leave CLIP as it found it, also when it fails. The generator's stored features
    of the empty string, which guidance compares with, are never edited.
    """

    @property
    def account(self) -> "Mapping[str, Any]":
        """For recipes: "path" ("" when it is in memory only), "sha256", and "options" (JSON-able)."""
        ...

    def edit(self, clip: Any, prompts: Sequence[str], plain: "Tensor") -> "Tensor":
        """(B, 77, text_dim) of ``prompts``: the prompt, then the negative prompt unless it is empty."""
        ...


class Steers(Protocol):
    """Adds to the generator's activations while it samples; see ``flow.steering``."""

    @property
    def account(self) -> "Mapping[str, Any]":
        """For recipes, as that of ``TextEdit``."""
        ...

    def attached(
        self, generator: Any, velocity: "Callable[[Tensor, Tensor], Tensor]", *, guided: bool
    ) -> "AbstractContextManager[Callable[[Tensor, Tensor], Tensor]]":
        """A velocity field like ``velocity`` of ``generator``, steered inside the block.

        ``guided`` says that its batches are the conditional items, then as many unconditional ones.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SamplerInputs:
    """What a model samples with beside its weights; the default changes nothing, bit for bit.

    Attributes:
        textual_inversion: edits the text features.
        steering: moves activations.
    """

    textual_inversion: TextEdit | None = None
    steering: Steers | None = None


class SelVAModel:
    """The lazily loaded parts of one variant.

    Attributes:
        config: sizes and rates.
        policy: device, precision, offload.
        adapters: path, sha256 and strength of each adapter in the generator.
        inputs: textual inversion and steering vectors that it samples with.
    """

    def __init__(
        self,
        config: ModelConfig,
        policy: RuntimePolicy,
        parts: Mapping[str, Part],
        adapters: Sequence[Mapping[str, Any]] = (),
        inputs: SamplerInputs | None = None,
    ) -> None:
        self.config = config
        self.policy = policy
        self.adapters = tuple(adapters)
        self.inputs = inputs or SamplerInputs()
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

    def base_identity(self, part: str) -> str:
        """Identity of what ``part`` was before adapters or tuning."""
        return self._part(part).base.identity

    @property
    def tuned_vocoder(self) -> Mapping[str, Any] | None:
        """Path and sha256 of the file that the vocoder was tuned with; None for the variant's own."""
        return self._part("vocoder").account

    def exact(self, part: str) -> Any:
        """A module of its own in float32 on the CPU, with the numbers of the file.

        What is trained starts from it, and digests are taken of it: neither may depend on the policy.
        """
        return self._part(part).exact()

    def remembered(self, part: str, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gave for ``key`` with the weights of ``part`` before, else what it gives now.

        For small results of the weights and the key alone, which nobody may change.
        """
        return self._part(part).remembered(key, make)

    @contextmanager
    def aside(self, *needed: str) -> Iterator[None]:
        """Have every part in memory but the ``needed`` ones on the CPU inside the block; back after it."""
        if self.policy.device == "cpu":
            yield
            return
        kept = {id(self._part(name).get()) for name in needed}
        others = [part.get() for part in self._parts.values() if part.is_built and id(part.get()) not in kept]
        try:
            for module in others:
                module.to("cpu")
                forget(module)
            release_memory()
            yield
        finally:
            for module in others:
                module.to(self.policy.home)

    @contextmanager
    def at_work(self, *names: str) -> Iterator[list[Any]]:
        """Have parts on the compute device inside the block, and at rest after it, also on errors.

        At rest means: on the policy's home device, or out of memory where the policy keeps no parts and one
        can be mapped from disk again.
        """
        if not self.policy.keeps_parts:
            trim_memory()  # whoever had parts of the stage before has let go of them by now
        modules = [self._part(name).get() for name in names]
        try:
            with self.policy.on_device(*modules):
                yield modules
        finally:
            if self.policy.staged:
                for module in modules:
                    forget(module)
            if not self.policy.keeps_parts:
                modules.clear()
                for name in names:
                    self._part(name).release()
                trim_memory()

    def base_vocoder(self) -> "SelVAModel":
        """A bundle with the variant's own vocoder."""
        parts = self._parts | {"vocoder": self._part("vocoder").base}
        return SelVAModel(self.config, self.policy, parts, self.adapters, self.inputs)

    def with_tuned_vocoder(
        self, build: "Callable[[Any], nn.Module]", account: Mapping[str, Any]
    ) -> "SelVAModel":
        """A bundle whose vocoder is made of the variant's own at first use; another tuning is left behind.

        Args:
            build: gives the new vocoder from the variant's own, which it leaves as it is.
            account: path and sha256 of the file.
        """
        base = self._part("vocoder").base
        part = Part(
            lambda: build(base.get()),
            lambda: f"{base.identity};{account['sha256']}",
            exact=lambda: build(base.exact()),
            base=base,
            account=account,
        )
        return SelVAModel(
            self.config, self.policy, self._parts | {"vocoder": part}, self.adapters, self.inputs
        )

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
        return SelVAModel(self.config, self.policy, self._parts | changed, adapters, self.inputs)

    def with_inputs(self, **inputs: "TextEdit | Steers | None") -> "SelVAModel":
        """A bundle that samples with other ``inputs``, by their names there; None takes one away."""
        changed = replace(self.inputs, **inputs)  # type: ignore[arg-type]
        return SelVAModel(self.config, self.policy, self._parts, self.adapters, changed)

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
        part = Part(lambda: build(base.get()), lambda: base.identity + added, base=base.base)
        config = replace(self.config, clip_conditioning=clip_conditioning)
        parts = self._parts | {"generator": part}
        return SelVAModel(config, self.policy, parts, (*self.adapters, *adapters), self.inputs)

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
    parts = {part: _read_part(part, config, policy, store, config.clip_conditioning) for part in names}
    whole = parts["clip"] if config.clip_conditioning else _read_part("clip", config, policy, store, True)
    return SelVAModel(config, policy, parts | {"image_clip": whole})


def untrained_model(
    variant: str | ModelConfig, *, device: str = "auto", precision: str = "bf16", offload: str = "auto"
) -> SelVAModel:
    """A bundle whose weights know nothing, made without any file: for measuring, not for sound.

    Args:
        variant: key of ``VARIANTS``, or a configuration of your own.
        device: as ``load_model``.
        precision: as ``load_model``.
        offload: as ``load_model``.

    Raises:
        InputError: unknown variant, device, precision or offload.
    """
    config = get_config(variant)
    policy = RuntimePolicy.resolve(device, precision, offload)

    def build(part: str) -> "nn.Module":
        module = untrained_component(part, config, image_tower=config.clip_conditioning)
        return module.to(device=policy.home, dtype=policy.dtype_of(part)).requires_grad_(False)

    parts = {part: Part(partial(build, part), lambda: "untrained") for part in PARTS if part in config.files}
    return SelVAModel(config, policy, parts | {"image_clip": parts["clip"]})


def _read_part(
    part: str, config: ModelConfig, policy: RuntimePolicy, store: WeightStore, image_tower: bool
) -> Part:
    place = cache(partial(_place, part, config, policy, store, image_tower))
    return Part(
        lambda: _load(part, config, policy, store, image_tower, place()),
        partial(store.identity, config.files[part]),
        exact=partial(_load_exact, part, config, store, image_tower),
        is_quick=lambda: place().is_kept,
    )


def _place(
    part: str, config: ModelConfig, policy: RuntimePolicy, store: WeightStore, image_tower: bool
) -> PreparedPart:
    name = config.files[part]
    return PreparedPart.of(
        part if part != "clip" or image_tower else "clip_text",
        weights=store.weights_file(name),
        identity=store.identity(name),
        config=part_config(part, config),
        dtype=policy.dtype_of(part),
    )


def _load(
    part: str,
    config: ModelConfig,
    policy: RuntimePolicy,
    store: WeightStore,
    image_tower: bool,
    place: PreparedPart,
) -> "nn.Module":
    """One part where it rests, in the policy's number format: as it was prepared before, or read now."""
    name = config.files[part]
    tokenizer = store.path(name) if part == "t5" else None
    skeleton = partial(empty_component, part, config, tokenizer=tokenizer, image_tower=image_tower)
    module = mapped = place.load(skeleton)
    if module is not None:
        store.check(name, part, config, is_known_to_fit=True)
    else:
        module = _load_exact(part, config, store, image_tower).to(dtype=policy.dtype_of(part))
        mapped = place.load(skeleton) if place.save(module) else None
        module = mapped or module
    if mapped is not None and not policy.keeps_parts:
        mark_mapped(mapped)
    return module.to(device=policy.home)


def _load_exact(part: str, config: ModelConfig, store: WeightStore, image_tower: bool) -> "nn.Module":
    """Read one part, in float32 on the CPU."""
    name = config.files[part]
    state = store.read(name, part, config)
    if part == "clip":
        module = load_component(part, config, state, image_tower=image_tower)
    else:
        module = load_component(part, config, state, tokenizer=store.path(name) if part == "t5" else None)
    return module.requires_grad_(False)


def _given(module: "nn.Module") -> Part:
    """A part that exists already; its identity is a digest of its tensors."""

    def identity() -> str:
        digest = hashlib.sha256()
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    return Part(lambda: module, identity)
