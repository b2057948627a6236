"""Stage "clip": the CLIP stand-in, trained to tell which materials a frame shows.

An image and a prompt match if the named material is in the picture; a sigmoid loss over all pairs, because
several prompts fit one picture.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from selva_audio.models.clip import CLIP
from selva_audio.scenes import MATERIALS, draw_frames, prompts
from selva_audio.weights.tokenizers import clip_tokenizer

from .data import CONFIG, training_scene
from .fit import Plan, Trainee, device_of

PLAN = Plan(steps=900, learning_rate=1.5e-3, ema=0.99)
FRAMES = 64
_FRAMES_OF_SCENE = 2
_START_SCALE, _START_BIAS = 5.0, -3.0


class CLIPStage(Trainee):
    """Frames against one prompt of every material."""

    def __init__(self, frames: int = FRAMES) -> None:
        self.frames = frames
        self.clip = CLIP(CONFIG.clip, clip_tokenizer(CONFIG.clip))
        self.scale = nn.Linear(1, 1)
        nn.init.constant_(self.scale.weight, _START_SCALE)
        nn.init.constant_(self.scale.bias, _START_BIAS)
        self.word = nn.Linear(CONFIG.clip.text_width, len(MATERIALS))
        self.module = nn.ModuleDict({"clip": self.clip, "scale": self.scale, "word": self.word})

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        frames, shows = (each.to(device_of(self.clip)) for each in self._draw(rng))
        texts = [str(rng.choice(prompts(name))) for name in MATERIALS]
        images = self.clip.encode_image(frames[:, None])[:, 0]
        # The mean over all states, padding included, is what the generator's own summary starts from.
        states = self.clip.encode_text(texts).mean(dim=1)
        words = functional.normalize(self.clip.text_projection(states), dim=-1)
        logits = self.scale((images @ words.T)[..., None])[..., 0]
        match = functional.binary_cross_entropy_with_logits(logits, shows)
        named = functional.cross_entropy(self.word(states), torch.arange(len(texts), device=states.device))
        accuracy = ((logits > 0) == shows.bool()).float().mean()
        numbers = {"match": float(match.detach()), "word": float(named.detach()), "accuracy": float(accuracy)}
        return match + named, numbers

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Frames (N, 3, H, W) in [0, 1], and which materials each shows: (N, materials)."""
        pictures, shows = [], []
        for _ in range(self.frames // _FRAMES_OF_SCENE):
            scene = training_scene(int(rng.integers(2**48)), variety=float(rng.uniform()))
            names = [each.material.name for each in scene.objects]
            for _ in range(_FRAMES_OF_SCENE):
                first = int(rng.integers(scene.num_frames))
                pictures.append(draw_frames(scene, CONFIG.clip.frame_size, first=first, count=1)[0])
                shows.append([float(name in names) for name in MATERIALS])
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        return frames, torch.tensor(shows)
