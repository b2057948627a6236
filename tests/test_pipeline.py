"""Video file to waveform through every stage, with rule-made weights, against recorded numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.flow import guided_velocity, sample_euler
from selva_audio.media.transforms import squash, to_sync
from selva_audio.media.video import read_frames
from selva_audio.weights import load_component

FOLDER = Path(__file__).parent
MANIFESTS = {
    "video_encoder": "video_enc",
    "generator": "generator_small_16k",
    "vae": "vae_16k",
    "vocoder": "bigvgan_16k",
}


@pytest.fixture(scope="module")
def load(rule_state):
    """``load(component, seed)``: the published size of small_16k, through the ordinary loader."""

    def build(component: str, seed: int) -> torch.nn.Module:
        manifest = json.loads((FOLDER / f"contracts/manifests/{MANIFESTS[component]}.json").read_text())
        constants = {}
        if component == "vae":
            recorded = json.loads((FOLDER / "golden/data/constants_vae_16k.json").read_text())
            constants = {
                key: np.array(recorded[key], "f4").reshape(manifest[key])
                for key in recorded
                if key in manifest
            }
        return load_component(component, "small_16k", rule_state(manifest, seed, constants))

    return build


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_pipeline_gives_the_recorded_numbers(golden, fill, load) -> None:
    recorded = golden("pipeline_small_16k_0")
    meta = recorded.meta
    seed, num_latents, num_clip = meta["weights_seed"], meta["L"], meta["C"]

    def given(name: str, shape: tuple[int, ...], **kind) -> torch.Tensor:
        return torch.from_numpy(fill.make_input(f"pipe.{name}", shape, meta["input_seed"], **kind))

    video = FOLDER / "golden" / "data" / meta["file"]
    grids, duration = read_frames(
        video, [25.0], meta["requested_duration"], transform=lambda rgb: squash(rgb, 224)
    )
    assert duration == meta["duration_sec"]
    text = given("t5", (1, meta["t5_length"], 768), scale=0.2)
    mask = torch.ones(1, meta["t5_length"], dtype=torch.bool)
    sync = load("video_encoder", seed).encode(to_sync(grids[25.0].pixels)[None], text, mask)

    generator = load("generator", seed)
    empty_clip = generator.empty_clip(1, num_clip)
    prompts = [given(name, (1, 77, 1024), kind="l2") for name in ("clip_text", "clip_neg")]
    conditional = generator.conditions(empty_clip, sync, prompts[0], num_latents)
    empty_sync = generator.empty_sync(1, sync.shape[1])
    unconditional = generator.conditions(empty_clip, empty_sync, prompts[1], num_latents)
    velocity = guided_velocity(generator, conditional, unconditional, meta["cfg_strength"])
    x1 = sample_euler(velocity, given("x0", (1, num_latents, 20)), meta["num_steps"])
    latent = generator.unnormalize(x1)
    del generator, velocity, conditional, unconditional

    mel = load("vae", seed).decode(latent)
    wave = load("vocoder", seed)(mel)
    got = {"sync_f": sync, "latent": latent, "mel": mel, "wave": wave}
    errors = {key: recorded.error(key, value) for key, value in got.items()}
    print({key: f"{error:.1e}" for key, error in errors.items()})
    assert max(errors.values()) < 1e-3, errors
