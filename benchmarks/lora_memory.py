"""Peak memory of LoRA training steps on a variant with random weights, on the CPU: structure, not quality.

``python -m benchmarks.lora_memory --variant large_44k`` prints the target report and a JSON line.
"""

import argparse
import json
import sys
import time
from functools import partial

import torch

from selva_audio.configs import TRAINED_DURATION, get_config
from selva_audio.models.generator import Generator
from selva_audio.options import LoraOptions
from selva_audio.training.clips import Clips
from selva_audio.training.keyed import keyed
from selva_audio.training.lora import LoraTraining, lora_report

from .speed.measure import resident_gb

_SPREAD = 0.02


def random_generator(variant: str, dtype: torch.dtype) -> Generator:
    """A generator of full size whose weights are noise, built without a second copy of them."""
    with torch.device("meta"):
        generator = Generator(get_config(variant).generator)
    generator = generator.to(dtype).to_empty(device="cpu")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_(0, _SPREAD, generator=random)
        generator.empty_string_feat.normal_(0, 1, generator=random)
        generator.latent_mean.zero_()
        generator.latent_std.fill_(1)
    return generator.eval().requires_grad_(False)


def random_clips(variant: str, count: int) -> Clips:
    """Clips of noise of the lengths of 8 seconds."""
    config = get_config(variant)
    sizes, lengths = config.generator, config.lengths(TRAINED_DURATION)
    random = torch.Generator().manual_seed(1)
    mean = torch.randn(count, lengths.latent, sizes.latent_dim, generator=random)
    names = tuple(f"clip{index}" for index in range(count))
    return Clips(
        names=names,
        mean=mean,
        std=torch.full_like(mean, 0.1),
        valid=torch.ones(mean.shape[:2], dtype=torch.bool),
        clip=torch.randn(count, lengths.clip, sizes.clip_dim, generator=random),
        has_clip=torch.ones(count, dtype=torch.bool),
        sync=torch.randn(count, lengths.sync, sizes.sync_dim, generator=random),
        text=torch.randn(count, sizes.text_length, sizes.text_dim, generator=random),
        prompts=names,
        recordings=names,
        splits=("train",) * count,
        pad="zero",
        fingerprint="noise",
        encoded=count,
    )


def main() -> None:
    """Train some steps and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="large_44k")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    parser.add_argument("--target", default="qkv conv")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--grad-checkpoint", action="store_true")
    given = parser.parse_args()
    dtype = torch.float32 if given.precision == "fp32" else torch.bfloat16
    options = LoraOptions(batch_size=1, target=given.target, grad_checkpoint=given.grad_checkpoint, lr=1e-4)
    training = LoraTraining(
        random_generator(given.variant, dtype),
        random_clips(given.variant, 2),
        options,
        variant=given.variant,
        base="noise",
        clip_conditioning=False,
    )
    print("\n".join(lora_report(training.report, options)), file=sys.stderr)
    optimizer = torch.optim.AdamW(training.parameters(options.lr), weight_decay=0.0)
    losses, started = [], time.perf_counter()
    for step in range(given.steps):
        optimizer.zero_grad()
        for part in training.loss(step, partial(keyed, 0, step)):
            part.backward()
            losses.append(float(part.detach()))
        optimizer.step()
    result = {
        "variant": given.variant,
        "precision": given.precision,
        "layers": len(training.report.targets),
        "parameters": training.report.num_parameters(options.rank),
        "losses": losses,
        "seconds_per_step": round((time.perf_counter() - started) / given.steps, 2),
        "peak_gb": round(resident_gb(), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
