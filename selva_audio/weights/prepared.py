"""Parts as they are used, kept on disk: folded, in their number format, and ready to be mapped into memory.

The first load of a part writes such a file into the user's cache folder; later ones read nothing and compute
nothing, the system brings in what is touched. A file belongs to the content of the weight file it was made
of: when that changes, it is made anew. ``SELVA_PREPARED=off`` keeps none.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor, nn

from ..errors import CheckpointError, OutputError
from .io import read_metadata, read_state_dict, write_safetensors

logger = logging.getLogger(__name__)

# Of what a file holds: it changes with the folding of weights and the names of modules.
_FORMAT = 1
_SWITCH = "SELVA_PREPARED"
_FREE_BYTES = 8 * 2**30
_WORTH = 32 * 2**20  # bytes; a smaller part is made about as fast as it is mapped
_TURNED = "turned"  # names of tensors that lie in memory with their last two axes exchanged


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """Where one part is kept.

    Attributes:
        path: the file; it need not exist.
    """

    path: Path

    @classmethod
    def of(
        cls, label: str, *, weights: Path, identity: str, config: Any, dtype: torch.dtype
    ) -> "PreparedPart":
        """The place of a part.

        Args:
            label: name of the part, with what it was cut down to.
            weights: file that it is made of; gives the place its name.
            identity: of the content of that file.
            config: sizes of the part.
            dtype: of the part's tensors.
        """
        number_format = str(dtype).removeprefix("torch.")
        text = f"{_FORMAT} {label} {identity} {config!r} {number_format}"
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(folder() / f"{weights.stem}.{label}.{number_format}.{key}.safetensors")

    @property
    def is_kept(self) -> bool:
        """Whether the part is there."""
        return is_on() and self.path.is_file()

    def load(self, skeleton: Callable[[], nn.Module]) -> nn.Module | None:
        """The part, its tensors mapped from the file; None where it is not kept or does not load.

        Args:
            skeleton: gives the module on the meta device.
        """
        if not self.is_kept:
            return None
        try:
            turned = read_metadata(self.path).get(_TURNED, "").split()
            state = read_state_dict(self.path)
            module = skeleton()
            module.load_state_dict(
                state | {name: state[name].transpose(-1, -2) for name in turned}, assign=True
            )
        except (CheckpointError, OutputError, RuntimeError, KeyError, OSError) as error:
            logger.warning("%s does not load (%s); it is made again.", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
            return None
        return module.eval().requires_grad_(False)

    def save(self, module: nn.Module) -> bool:
        """Keep a part, in place of older ones of the same name; whether it was kept.

        A small part is not kept, nor one that would leave the disk with less than 8 GB; a cache that cannot
        be written is no error.
        """
        state = module.state_dict()
        size = sum(value.nbytes for value in state.values())
        if not is_on() or size < _WORTH or not _has_space(self.path, size):
            return False
        turned = [name for name, value in state.items() if _is_turned(value)]
        plain = state | {name: state[name].transpose(-1, -2) for name in turned}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_safetensors(self.path, plain, {_TURNED: " ".join(turned)})
        except (OutputError, OSError) as error:
            logger.debug("%s was not kept: %s", self.path, error)
            return False
        for older in self._of_the_same_name():
            with contextlib.suppress(OSError):  # another process may have it open
                older.unlink()
        return True

    def _of_the_same_name(self) -> Iterator[Path]:
        start = self.path.name.rpartition(".safetensors")[0].rpartition(".")[0] + "."
        for path in self.path.parent.iterdir():
            key = path.name.removeprefix(start).removesuffix(".safetensors")
            if path != self.path and path.name == f"{start}{key}.safetensors" and "." not in key:
                yield path


def folder() -> Path:
    """Where parts are kept."""
    return user_cache_path("selva-audio", appauthor=False) / "prepared"


def is_on() -> bool:
    """Whether parts are kept at all."""
    return os.environ.get(_SWITCH, "").lower() not in ("off", "0", "false", "no")


def _has_space(path: Path, size: int) -> bool:
    place = next((each for each in path.parents if each.exists()), None)
    if place is None:
        return False
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return False
    return free - size > _FREE_BYTES


def _is_turned(value: Tensor) -> bool:
    return value.dim() >= 2 and not value.is_contiguous() and value.transpose(-1, -2).is_contiguous()
