"""Upstream's own modules, from a checkout that the user gives, called as upstream's demo calls them.

Nothing of upstream is in this repository. What it imports and we replace, we say in ``NOTES``.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from .files import CLIP_REPOSITORY, T5_REPOSITORY, repository

NOTES = [
    "torchaudio.save is not called: torchaudio 2.11 needs torchcodec for it. Upstream's FLAC is not counted.",
    "Upstream's downloads are not called: the files are there, with values of a rule.",
]
GUIDANCE = 4.5


def open_checkout(folder: Path) -> None:
    """Make upstream importable.

    Raises:
        SystemExit: the folder holds something else, or an import of upstream fails.
    """
    if not (folder / "selva" / "model" / "networks_generator.py").is_file():
        raise SystemExit(f"{folder} is no checkout of SelVA: it has no selva/model/networks_generator.py.")
    sys.path.insert(0, str(folder))
    try:
        import selva.utils.eval_utils  # noqa: F401
    except ImportError as failure:
        raise SystemExit(
            f"Upstream does not import here: {failure}. Use an interpreter of benchmarks/requirements.txt."
        ) from failure


class Upstream:
    """All that upstream's demo computes with for small_16k, each part built at first use.

    The demo also holds CLIP's image tower and Synchformer, which it never calls; here they are left out, so
    that both sides fit into one process. What they cost shows in the cold start.

    Args:
        work: folder of ``files.write_weights``.
        device: "cpu" or "cuda".
        dtype: of every weight.
        duration: seconds of video that are used.
    """

    def __init__(self, work: Path, device: str, dtype: torch.dtype, duration: float) -> None:
        from selva.model.sequence_config import CONFIG_16K

        self.work, self.device, self.dtype = work, device, dtype
        CONFIG_16K.duration = self.duration = duration
        self.lengths = CONFIG_16K

    def _ready(self, part: torch.nn.Module) -> torch.nn.Module:
        return part.to(self.device, self.dtype).eval().requires_grad_(False)

    def _weights(self, name: str) -> Any:
        return torch.load(self.work / "weights" / name, weights_only=True, mmap=True)

    @cached_property
    def encoder(self) -> Any:
        """TextSynch."""
        from selva.model.networks_video_enc import get_my_textsynch

        with _no_first_values():
            net = get_my_textsynch("depth1")
        net.load_weights(self._weights("video_enc_sup_5.pth"))
        self._ready(net).update_seq_lengths(video_seq_len=self.lengths.sync_seq_len)
        return net

    @cached_property
    def generator(self) -> Any:
        """The flow-matching transformer."""
        from selva.model.networks_generator import get_my_mmaudio

        with _no_first_values():
            net = get_my_mmaudio("small_16k")
        net.load_weights(self._weights("generator_small_16k_sup_5.pth"))
        lengths = self.lengths
        self._ready(net).update_seq_lengths(
            lengths.latent_seq_len, lengths.clip_seq_len, lengths.sync_seq_len
        )
        return net

    @cached_property
    def coder(self) -> Any:
        """The features of upstream without its text encoders: VAE and vocoder."""
        from selva.model.utils.features_utils import FeaturesUtils

        with _no_first_values():
            return self._ready(
                FeaturesUtils(
                    tod_vae_ckpt=self.work / "ext_weights" / "v1-16.pth",
                    bigvgan_vocoder_ckpt=self.work / "ext_weights" / "best_netG.pt",
                    enable_conditions=False,
                    mode="16k",
                    need_vae_encoder=False,
                )
            )

    @cached_property
    def features(self) -> Any:
        """The same with its text encoders."""
        import open_clip
        from selva.model.utils.features_utils import patch_clip
        from transformers import T5EncoderModel, T5TokenizerFast

        found = self.coder
        with _no_first_values():
            clip = open_clip.create_model("ViT-H-14-378-quickgelu")
        del clip.visual
        state = torch.load(
            repository(self.work, CLIP_REPOSITORY) / "open_clip_pytorch_model.bin",
            weights_only=True,
            mmap=True,
        )
        clip.load_state_dict({key: state[key] for key in clip.state_dict()})
        found.clip_model = self._ready(patch_clip(clip))
        found.tokenizer_clip = open_clip.get_tokenizer("ViT-H-14-378-quickgelu")
        t5 = repository(self.work, T5_REPOSITORY)
        found.text_encoder_t5 = self._ready(T5EncoderModel.from_pretrained(t5))
        found.tokenizer_t5 = T5TokenizerFast.from_pretrained(t5)
        return found

    @torch.inference_mode()
    def read(self, video: Path) -> Any:
        """The video's frames as the demo holds them."""
        from selva.utils.eval_utils import load_video

        return load_video(video, self.duration)

    @torch.inference_mode()
    def text(self, prompt: str) -> tuple[Tensor, Tensor]:
        """CLIP features of the prompt and of the empty one; T5 runs for both."""
        clip = self.features.encode_text_clip([prompt])
        self.features.encode_text_t5([prompt])
        negative = self.features.encode_text_clip([""])
        self.features.encode_text_t5([""])
        return clip, negative

    @torch.inference_mode()
    def sync(self, frames: Tensor, prompt: str) -> Tensor:
        """Sync features of (T, 3, 224, 224) in [-1, 1]."""
        text, mask = self.features.encode_text_t5([prompt])
        text, mask = self.encoder.prepend_sup_text_tokens(text, mask)
        return self.encoder.encode_video_with_sync(
            frames[None].to(self.device, self.dtype), text_f=text, text_mask=mask
        )

    @torch.inference_mode()
    def sample(self, sync: Tensor, clip: Tensor, negative: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Latent (1, N, C) from noise, guided."""
        from selva.model.flow_matching import FlowMatching

        sync, clip, negative, noise = (
            each.to(self.device, self.dtype) for each in (sync, clip, negative, noise)
        )
        net = self.generator
        conditions = net.preprocess_conditions(net.get_empty_clip_sequence(1), sync, clip)
        empty = net.get_empty_conditions(1, negative_text_features=negative)
        flow = FlowMatching(min_sigma=0, inference_mode="euler", num_steps=steps)
        field = lambda t, x: net.ode_wrapper(t, x, conditions, empty, GUIDANCE)
        return net.unnormalize(flow.to_data(field, noise))

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Mel (1, M, F) of (1, N, C)."""
        return self.coder.decode(latent.to(self.device, self.dtype))

    @torch.inference_mode()
    def vocode(self, mel: Tensor) -> Tensor:
        """Waveform (1, 1, L) of (1, M, F)."""
        return self.coder.vocode(mel.to(self.device, self.dtype))

    @torch.inference_mode()
    def write(self, info: Any, audio: Tensor, output: Path) -> None:
        """The video with sound, coded anew."""
        from selva.utils.eval_utils import make_video

        make_video(info, output, audio, sampling_rate=self.lengths.sampling_rate)

    @torch.inference_mode()
    def whole(self, video: Path, prompt: str, noise: Tensor, output: Path, steps: int) -> Tensor:
        """Video in, video with sound out; the waveform."""
        from selva.model.flow_matching import FlowMatching
        from selva.utils.eval_utils import generate

        info = self.read(video)
        drawn = noise.to(self.device, self.dtype)
        with patch.object(torch, "randn", lambda *args, **kwargs: drawn.clone()):
            audios = generate(
                None,
                info.sync_frames.unsqueeze(0),
                [prompt],
                negative_text=[""],
                feature_utils=self.features,
                net_video_enc=self.encoder,
                net_generator=self.generator,
                fm=FlowMatching(min_sigma=0, inference_mode="euler", num_steps=steps),
                rng=torch.Generator(device=self.device),
                cfg_strength=GUIDANCE,
            )
        audio = audios.float().cpu()[0]
        self.write(info, audio, output)
        return audio


@contextlib.contextmanager
def _no_first_values() -> Iterator[None]:
    """Build modules without drawing values that the state dict replaces."""
    names = ("kaiming_uniform_", "xavier_uniform_", "uniform_", "normal_", "trunc_normal_")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor))
        yield


def run_demo(checkout: Path, work: Path, arguments: list[str], on_audio: Any) -> None:
    """Upstream's demo in this process, from its first import on; ``on_audio`` gets its waveform."""
    import runpy

    # The demo names its weights relative to where it runs.
    os.chdir(work)
    sys.argv = ["demo.py", *arguments]
    sys.path.insert(0, str(checkout))
    import torchaudio
    from selva.utils import download_utils

    download_utils.download_model_if_needed = lambda *args, **kwargs: None
    torchaudio.save = lambda path, audio, rate: on_audio(SimpleNamespace(waveform=audio, rate=rate))
    runpy.run_path(str(checkout / "demo.py"), run_name="__main__")
