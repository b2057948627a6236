"""Conditions of clips, projected once for as long as the adapter leaves the projections alone.

Letters: B clips of one update.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

from ..models.fast_product import exact_float32
from ..models.generator import Conditions, Generator, concatenate_conditions

# What lies between features and ``Conditions``.
_PROJECTIONS = frozenset(
    {"clip_input_proj", "sync_input_proj", "text_input_proj", "clip_cond_proj", "text_cond_proj"}
)
_MOST_KEPT = 256  # about 0.4 MB each in bfloat16


class ProjectedConditions:
    """Conditions of the clips that were last asked for.

    Args:
        base: generator without the adapter.
        num_latents: latent tokens of a clip.
    """

    def __init__(self, base: Generator, num_latents: int) -> None:
        self._base = base
        self._num_latents = num_latents
        self._kept: OrderedDict[Hashable, Conditions] = OrderedDict()

    @torch.no_grad()
    def of(self, keys: Sequence[Hashable], features: Callable[[], Sequence[Tensor]]) -> Conditions:
        """Conditions of a batch.

        Args:
            keys: B, equal where the features are.
            features: gives CLIP, sync and text features (B, tokens, width); called if one is not known.
        """
        rows: Sequence[Tensor] = ()
        items = []
        for item, key in enumerate(keys):
            made = self._kept.pop(key, None)
            if made is None:
                rows = rows or features()
                clip, sync, text = (each[item : item + 1] for each in rows)
                with exact_float32():
                    made = self._base.conditions(clip, sync, text, self._num_latents)
            self._kept[key] = made
            items.append(made)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return reduce(concatenate_conditions, items)


def leaves_projections_alone(paths: Iterable[str]) -> bool:
    """Whether an adapter of these layers changes nothing between features and conditions."""
    return not any(path.partition(".")[0] in _PROJECTIONS for path in paths)
