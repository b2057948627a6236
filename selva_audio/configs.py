"""Model configurations: one frozen record per variant, any field overridable with ``dataclasses.replace``.

Sequence lengths are computed here from the configuration and a duration, never stored (SPEC 2).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from .errors import InputError, unknown_name

CLIP_RATE = 8.0
SYNC_RATE = 25.0
SEGMENT_FRAMES = 16
SEGMENT_STEP = 8
TRAINED_DURATION = 8.0
MAX_DURATION = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class MelConfig:
    """Log-mel analysis (SPEC 14). Frequencies in hertz, lengths in samples."""

    sample_rate: int
    n_fft: int
    hop_length: int
    num_mels: int
    fmin: float
    fmax: float
    log_base: Literal["10", "e"]


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """Flow-matching transformer (SPEC 4, 5).

    ``sync_resampling`` "nearest_exact" is what published weights were trained with; "time_aware"
    places each sync token at the time of its frames, for models trained here; it needs
    ``latent_rate``, the latent tokens per second.
    """

    latent_dim: int
    hidden_dim: int
    num_heads: int
    num_joint_blocks: int
    num_fused_blocks: int
    version: Literal["v1", "v2"] = "v1"
    clip_dim: int = 1024
    sync_dim: int = 768
    text_dim: int = 1024
    text_length: int = 77
    mlp_multiple_of: int = 256
    sync_resampling: Literal["nearest_exact", "time_aware"] = "nearest_exact"
    latent_rate: float | None = None


@dataclass(frozen=True, slots=True)
class VideoEncoderConfig:
    """Synchformer visual encoder (SPEC 10); with ``num_sup_tokens`` > 0, TextSynch (SPEC 11)."""

    image_size: int = 224
    patch_size: int = 16
    patch_frames: int = 2
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    text_dim: int = 768
    num_sup_tokens: int = 5
    mlp_multiple_of: int = 256


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Mel autoencoder (SPEC 13): level widths are 1, 2 and 4 times ``hidden_dim``."""

    num_mels: int
    latent_dim: int
    hidden_dim: int


@dataclass(frozen=True, slots=True)
class VocoderConfig:
    """BigVGAN (SPEC 15). ``final`` "tanh" has a bias in the last convolution, "clamp" has none.

    ``stage_channels`` are the channels after each upsampling; None, as published, halves them each time.
    """

    num_mels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    initial_channels: int = 1536
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)
    snake: Literal["snake", "snakebeta"] = "snakebeta"
    final: Literal["tanh", "clamp"] = "tanh"
    stage_channels: tuple[int, ...] | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each upsampling."""
        halved = tuple(self.initial_channels >> stage + 1 for stage in range(len(self.upsample_rates)))
        return self.stage_channels or halved


@dataclass(frozen=True, slots=True)
class CLIPConfig:
    """CLIP towers (SPEC 12): frames are resized to ``frame_size``, the net sees ``image_size``."""

    embed_dim: int = 1024
    frame_size: int = 384
    image_size: int = 378
    patch_size: int = 14
    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    text_width: int = 1024
    text_layers: int = 24
    text_heads: int = 16
    context_length: int = 77
    vocab_size: int = 49408
    tokenizer: Literal["clip_bpe", "bytes"] = "clip_bpe"


@dataclass(frozen=True, slots=True)
class T5Config:
    """T5 encoder (SPEC 12.5); defaults are flan-t5-base."""

    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_kv: int = 64
    d_ff: int = 2048
    vocab_size: int = 32128
    max_length: int = 512
    tokenizer: Literal["t5", "bytes"] = "t5"


@dataclass(frozen=True, slots=True)
class SequenceLengths:
    """Token and sample counts for one duration (SPEC 2.1)."""

    latent: int
    clip: int
    segments: int
    sync: int
    samples: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that defines a variant.

    Attributes:
        name: key in ``VARIANTS``.
        family: "selva" (text-conditioned sync features) or "mmaudio" (plain sync features).
        files: component -> name in the weight file table.
        clip_conditioning: whether the generator was trained with CLIP frames ("auto" follows it).
    """

    name: str
    family: Literal["selva", "mmaudio"]
    mel: MelConfig
    generator: GeneratorConfig
    vae: VAEConfig
    vocoder: VocoderConfig
    files: Mapping[str, str]
    video_encoder: VideoEncoderConfig = field(default_factory=VideoEncoderConfig)
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    t5: T5Config = field(default_factory=T5Config)
    clip_conditioning: bool = False

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return self.mel.sample_rate

    @property
    def mode(self) -> str:
        """Rate class as users' files name it: "16k" or "44k"."""
        return "16k" if self.sample_rate == 16000 else "44k"

    @property
    def latent_rate(self) -> float:
        """Latent tokens per second."""
        return self.sample_rate / (2 * self.mel.hop_length)

    def lengths(self, duration: float) -> SequenceLengths:
        """Token and sample counts for ``duration`` seconds.

        Raises:
            InputError: shorter than one 16-frame segment (0.64 s).
        """
        latent = math.ceil(duration * self.sample_rate / self.mel.hop_length / 2)
        segments = num_segments(duration)
        if segments < 1:
            raise InputError(f"A duration of {duration:g} s is under the minimum of 0.64 s.")
        return SequenceLengths(
            latent=latent,
            clip=int(duration * CLIP_RATE),
            segments=segments,
            sync=SEGMENT_STEP * segments,
            samples=latent * self.mel.hop_length * 2,
        )


def num_segments(duration: float) -> int:
    """Sync segments in ``duration`` seconds: the float products of SPEC 2.1 and 2.5, kept as they are."""
    return int((duration * SYNC_RATE - SEGMENT_FRAMES) // SEGMENT_STEP + 1)


def get_config(variant: "str | ModelConfig") -> ModelConfig:
    """The configuration named ``variant``; a ``ModelConfig`` is returned as it is.

    Raises:
        InputError: no such variant; the message names the nearest one.
    """
    if isinstance(variant, ModelConfig):
        return variant
    if variant not in VARIANTS:
        raise InputError(unknown_name("variant", variant, VARIANTS))
    return VARIANTS[variant]


MEL_16K = MelConfig(16000, n_fft=1024, hop_length=256, num_mels=80, fmin=0, fmax=8000, log_base="10")
MEL_44K = MelConfig(44100, n_fft=2048, hop_length=512, num_mels=128, fmin=0, fmax=22050, log_base="e")
VAE_16K = VAEConfig(num_mels=80, latent_dim=20, hidden_dim=384)
VAE_44K = VAEConfig(num_mels=128, latent_dim=40, hidden_dim=512)
VOCODER_16K = VocoderConfig(80, upsample_rates=(4, 4, 2, 2, 2, 2), upsample_kernels=(8, 8, 4, 4, 4, 4))
VOCODER_44K = VocoderConfig(
    128, upsample_rates=(8, 4, 2, 2, 2, 2), upsample_kernels=(16, 8, 4, 4, 4, 4), final="clamp"
)
SYNCHFORMER = VideoEncoderConfig(num_sup_tokens=0)

_GENERATORS = {
    "small_16k": GeneratorConfig(20, 448, 7, num_joint_blocks=4, num_fused_blocks=8),
    "small_44k": GeneratorConfig(40, 448, 7, num_joint_blocks=4, num_fused_blocks=8),
    "medium_44k": GeneratorConfig(40, 896, 14, num_joint_blocks=4, num_fused_blocks=8),
    "large_44k": GeneratorConfig(40, 896, 14, num_joint_blocks=7, num_fused_blocks=14),
    "large_44k_v2": GeneratorConfig(40, 896, 14, num_joint_blocks=7, num_fused_blocks=14, version="v2"),
}
_AUDIO_FILES = {
    "16k": {"vae": "v1-16.pth", "vocoder": "best_netG.pt"},
    "44k": {"vae": "v1-44.pth", "vocoder": "bigvgan_v2"},
}


def _published(name: str, family: Literal["selva", "mmaudio"], size: str) -> ModelConfig:
    is_16k = size.endswith("16k")
    own = (
        {"generator": f"generator_{size}_sup_5.pth", "video_encoder": "video_enc_sup_5.pth", "t5": "t5"}
        if family == "selva"
        else {"generator": f"mmaudio_{size}.pth", "video_encoder": "synchformer_state_dict.pth"}
    )
    return ModelConfig(
        name=name,
        family=family,
        mel=MEL_16K if is_16k else MEL_44K,
        generator=_GENERATORS[size],
        vae=VAE_16K if is_16k else VAE_44K,
        vocoder=VOCODER_16K if is_16k else VOCODER_44K,
        video_encoder=VideoEncoderConfig() if family == "selva" else SYNCHFORMER,
        files=own | _AUDIO_FILES["16k" if is_16k else "44k"] | {"clip": "clip"},
        clip_conditioning=family == "mmaudio",
    )


def _demo() -> ModelConfig:
    """Toy sizes of the embedded model; same classes as the published variants."""
    return ModelConfig(
        name="demo_16k",
        family="selva",
        mel=MEL_16K,
        generator=replace(
            _GENERATORS["small_16k"],
            hidden_dim=96,
            num_heads=3,
            num_joint_blocks=2,
            num_fused_blocks=2,
            clip_dim=64,
            sync_dim=96,
            text_dim=64,
            sync_resampling="time_aware",
            latent_rate=31.25,
        ),
        vae=replace(VAE_16K, hidden_dim=24),
        vocoder=replace(
            VOCODER_16K,
            upsample_rates=(1, 1, 1, 256),
            upsample_kernels=(3, 3, 3, 512),
            initial_channels=192,
            stage_channels=(192, 192, 256, 1),
            resblock_kernels=(3,),
            resblock_dilations=(1,),
        ),
        video_encoder=VideoEncoderConfig(
            image_size=64, width=96, depth=3, num_heads=3, mlp_dim=384, text_dim=96
        ),
        clip=CLIPConfig(
            embed_dim=64,
            frame_size=64,
            image_size=64,
            patch_size=16,
            vision_width=64,
            vision_layers=2,
            vision_heads=2,
            text_width=64,
            text_layers=2,
            text_heads=2,
            vocab_size=259,
            tokenizer="bytes",
        ),
        t5=T5Config(
            d_model=96,
            num_layers=2,
            num_heads=3,
            d_kv=32,
            d_ff=256,
            vocab_size=259,
            max_length=128,
            tokenizer="bytes",
        ),
        files={
            part: f"demo_16k_{part}.safetensors"
            for part in ("generator", "video_encoder", "vae", "vocoder", "clip", "t5")
        },
        clip_conditioning=True,
    )


VARIANTS: Mapping[str, ModelConfig] = {
    "demo_16k": _demo(),
    **{
        name: _published(name, "selva", name)
        for name in ("small_16k", "small_44k", "medium_44k", "large_44k")
    },
    **{f"mmaudio_{size}": _published(f"mmaudio_{size}", "mmaudio", size) for size in _GENERATORS},
}
