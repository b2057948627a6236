"""Stages "encoder" and "refine": the text-conditioned video encoder and its T5 stand-in.

Onset labels on the output alone teach nothing in any reasonable time. Dense losses on patch tokens (what is
here, where in the patch, did it hit) and on the output (where, how fast) do; their heads are dropped after.

The first round marks the neighbours of an impact's bin too, which makes learning start. Those soft labels
then hide what is left to learn, such as the turning point of a high hop; the second round nearly ignores
them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from selva_audio.configs import num_segments
from selva_audio.models.synchformer import Motionformer
from selva_audio.models.t5 import T5
from selva_audio.models.text_synch import TextMemory, TextSynch, initialize
from selva_audio.scenes import HEARD, HELD_OUT, MATERIALS, Scene
from selva_audio.weights.tokenizers import t5_tokenizer

from .data import CONFIG, training_scene
from .fit import Plan, Trainee, device_of, stream
from .labels import Batch, segment_batch

PLAN = Plan(steps=2300, learning_rate=1.5e-3, ema=0.995, weight_decay=0.02, warmup=100)
REFINE_PLAN = Plan(steps=1500, learning_rate=1e-3, ema=0.995, weight_decay=0.02, warmup=50)
SEGMENTS = 24
PROMPTS = 3
_POSITIVE_WEIGHT = 4.0
_EMBEDDING_STD = 0.5
_PLAIN_UNTIL, _VARIED_FROM = 0.4, 0.6
_NOISE_LEVEL = 0.03
_REFINED_NEIGHBOUR_WEIGHT = 0.1
_NAMES = (*HEARD, *HELD_OUT)
_WIDTH = CONFIG.video_encoder.width


class Encoder(nn.Module):
    """The two networks that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.video_encoder = TextSynch(CONFIG.video_encoder)
        self.t5 = T5(CONFIG.t5, t5_tokenizer(CONFIG.t5))
        initialize(self.video_encoder)
        _initialize_small(self.video_encoder)


class Heads(nn.Module):
    """Linear read-outs for the helper losses."""

    def __init__(self) -> None:
        super().__init__()
        num_classes = len(MATERIALS)
        self.slot = nn.Linear(_WIDTH, 3 + 1 + 1 + 4 + 1 + 1)
        self.patch = nn.Linear(_WIDTH, num_classes + 1 + 2 + 4 + 1)
        self.here = nn.Linear(_WIDTH, 1)
        self.word = nn.Linear(CONFIG.t5.d_model, num_classes)


class EncoderStage(Trainee):
    """Segments of scenes, each with ``PROMPTS`` prompts.

    Args:
        segments: per step.
        steps: the scenes grow more varied over them.
        start: weights of the first round, for the second; its scenes are varied from the start.
    """

    def __init__(
        self, segments: int = SEGMENTS, steps: int = PLAN.steps, start: Mapping[str, Tensor] | None = None
    ) -> None:
        self.segments, self.steps = segments, steps
        self.neighbour_weight = 1.0 if start is None else _REFINED_NEIGHBOUR_WEIGHT
        self.encoder, self.heads = Encoder(), Heads()
        self.module = nn.ModuleDict({"encoder": self.encoder, "heads": self.heads})
        if start is not None:
            self.module.load_state_dict(start)
        noise = stream(0, "pixel noise").standard_normal(1 << 20, dtype=np.float32)
        self._noise = torch.from_numpy(noise)

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        batch = self._draw(rng, step).to(device_of(self.heads))
        visual, attended, slots, text = self._forward(batch)
        losses = (
            _slot_losses(self.heads.slot(slots), batch, self.neighbour_weight)
            | _patch_losses(self.heads.patch(visual), batch, self.neighbour_weight)
            | {
                "here": _soft_bce(self.heads.here(attended)[..., 0], batch.here),
                "word": functional.cross_entropy(self.heads.word(text), batch.words),
            }
        )
        total = sum(_WEIGHTS.get(key, 1.0) * value for key, value in losses.items())
        assert isinstance(total, Tensor)
        return total, {key: float(value.detach()) for key, value in losses.items()}

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Patch tokens before and after the text, output slots, and one vector per prompt."""
        video = self.encoder.video_encoder
        extractor = video.vfeat_extractor
        unique = sorted(set(batch.prompts))
        states, mask = self.encoder.t5.encode_text(unique)
        rows = torch.tensor([unique.index(text) for text in batch.prompts], device=batch.frames.device)
        memory = video._text_memory(states, mask)
        visual = extractor.tokens(batch.frames)  # (N, K, P, D)
        tokens = visual.repeat_interleave(PROMPTS, dim=0)
        block = video.synch_text_cross_blocks[0]
        attended = block(tokens.flatten(1, 2), TextMemory(*(each[rows] for each in memory)))
        attended = attended.view_as(tokens)
        weights = mask.float() / mask.sum(dim=1, keepdim=True)
        text = torch.einsum("b l d, b l -> b d", states, weights)[rows]
        return visual, attended, extractor.aggregate(attended), text

    def _draw(self, rng: np.random.Generator, step: int) -> Batch:
        progress = step / self.steps if self.neighbour_weight == 1 else 1.0
        variety = float(np.clip((progress - _PLAIN_UNTIL) / (_VARIED_FROM - _PLAIN_UNTIL), 0, 1))
        scenes = [
            training_scene(int(rng.integers(2**48)), variety=variety * rng.uniform())
            for _ in range(self.segments)
        ]
        segments = [int(rng.integers(num_segments(scene.duration))) for scene in scenes]
        named = [_choose_words(scene, rng) for scene in scenes]
        batch = segment_batch(scenes, segments, named, rng, CONFIG.video_encoder.image_size)
        count = batch.frames[0].numel()
        for frames in batch.frames:
            first = int(rng.integers(len(self._noise) - count))
            frames += _NOISE_LEVEL * float(rng.uniform()) * self._noise[first : first + count].view_as(frames)
        return batch


_WEIGHTS = {"event": 2.0, "offset": 0.5, "loud": 0.5, "place": 1.0, "speed": 4.0, "p_speed": 2.0}


def _slot_losses(out: Tensor, batch: Batch, neighbour_weight: float) -> dict[str, Tensor]:
    events, offset, loudness, place, speed, presence = out.split([3, 1, 1, 4, 1, 1], dim=-1)
    near = batch.is_near / batch.is_near.sum().clamp(min=1)
    shown = batch.presence[:, None] / (batch.presence.sum() * out.shape[1]).clamp(min=1)
    return {
        "event": _soft_bce(events, batch.events, neighbour_weight),
        "offset": ((offset[..., 0] - batch.offset).abs() * near).sum(),
        "loud": ((loudness[..., 0] - batch.loudness).abs() * near).sum(),
        "place": ((place - batch.place).abs().mean(dim=-1) * shown).sum(),
        "speed": (speed[..., 0] - batch.speed).abs().mean(),
        "present": functional.binary_cross_entropy_with_logits(
            presence[..., 0], batch.presence[:, None].expand(-1, out.shape[1])
        ),
    }


def _patch_losses(out: Tensor, batch: Batch, neighbour_weight: float) -> dict[str, Tensor]:
    classes, events, place, speed = out.split([len(MATERIALS) + 1, 2, 4, 1], dim=-1)
    is_object = (batch.material < len(MATERIALS)).float()
    share = is_object / is_object.sum().clamp(min=1)
    return {
        "p_class": functional.cross_entropy(classes.flatten(0, 2), batch.material.flatten()),
        "p_event": _soft_bce(events, batch.patch_events, neighbour_weight),
        "p_place": ((place - batch.patch_place).abs().mean(dim=-1) * share).sum(),
        "p_speed": ((speed[..., 0] - batch.patch_speed).abs() * share).sum(),
    }


def _soft_bce(logits: Tensor, target: Tensor, neighbour_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy in which impacts, which are rare, weigh more."""
    is_neighbour = (target > 0) & (target < 1)
    weight = (1 + _POSITIVE_WEIGHT * target) * torch.where(is_neighbour, neighbour_weight, 1.0)
    return functional.binary_cross_entropy_with_logits(logits, target, weight)


def _choose_words(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Some objects of the scene and at least one material that is not in it.

    Guidance makes an impact of a trace, so absent things must leave none.
    """
    present = [each.material.name for each in scene.objects]
    absent = [name for name in _NAMES if name not in present]
    words = [*rng.permutation(present)[: PROMPTS - 1], *rng.permutation(absent)]
    return [str(word) for word in words[:PROMPTS]]


@torch.no_grad()
def _initialize_small(video: TextSynch) -> None:
    """Upstream's scales suit width 768 and a pretrained start; these suit 96 and nothing."""
    extractor: Motionformer = video.vfeat_extractor
    for module in extractor.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
    nn.init.xavier_uniform_(extractor.patch_embed_3d.proj.weight.view(_WIDTH, -1))
    for embedding in (extractor.pos_embed, extractor.temp_embed):
        nn.init.normal_(embedding, std=_EMBEDDING_STD)
    block = video.synch_text_cross_blocks[0]
    nn.init.ones_(block.norm1.weight)
    nn.init.xavier_uniform_(block.ffn.w2.weight)
    nn.init.normal_(video.sup_text_feat, std=_EMBEDDING_STD)
