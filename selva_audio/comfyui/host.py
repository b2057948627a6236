"""Running a task inside ComfyUI: its devices and memory, its progress bar, its way to cancel."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management as management
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from torch import nn

from ..errors import OutputError, SelVAError, os_error_sentence
from ..options.generate import Offload, Precision
from ..progress import Progress
from ..runtime import RuntimePolicy

_KEEP_IN_VRAM_FROM = 16 * 2**30
# What a stage needs beside its weights: the vocoder's activations for 8 seconds, with room.
_WORKING_MEMORY = 2 * 2**30
_BAR_STEPS = 1000
_REPORT_EVERY = 0.1
_SAY_EVERY = 0.25
_PREVIEW_EVERY = 1.0
_PREVIEW_SHARE = 10  # a preview that takes a second is shown every ten seconds
_PATCHER = "_comfyui_patcher"


@dataclass(frozen=True, slots=True)
class ComfyPolicy(RuntimePolicy):
    """Parts that ComfyUI loads, counts and evicts with its own models.

    Attributes:
        rest: device where a part waits.
        active: parts of the stages being run; ComfyUI must not evict one for another.
    """

    rest: str = "cpu"
    active: list[nn.Module] = field(default_factory=list, compare=False)

    @property
    def home(self) -> str:
        """Device where a part rests between stages."""
        return self.rest

    @contextlib.contextmanager
    def on_device(self, *parts: nn.Module) -> Iterator[None]:
        """Have ``parts`` on the compute device inside the block; staged ones leave after it."""
        fresh = [part for part in parts if not any(part is other for other in self.active)]
        self.active.extend(fresh)
        try:
            patchers = [self._patcher(part) for part in self.active]
            management.load_models_gpu(patchers, memory_required=_WORKING_MEMORY, force_full_load=True)
            for part in self.active:
                part.to(self.device)  # --novram leaves everything where it was
            yield
        finally:
            self.active[:] = [part for part in self.active if not any(part is other for other in fresh)]
            if self.staged:
                for part in fresh:
                    self._patcher(part).detach()
                management.soft_empty_cache()

    def _patcher(self, part: nn.Module) -> ModelPatcher:
        """The patcher of a part, kept with it, so that both go together."""
        keeper = part.__dict__.get(_PATCHER)
        if keeper is None or not keeper.serves(part, self.device):
            # ComfyUI writes its marks into the model it is given: a list around the part takes them.
            keeper = _Keeper(
                ModelPatcher(nn.ModuleList([part]), torch.device(self.device), torch.device(self.rest))
            )
            part.__dict__[_PATCHER] = keeper
        return keeper.patcher


class _Keeper:
    """Holds a patcher; a copy of the part gets none, because the patcher is of the original."""

    def __init__(self, patcher: ModelPatcher) -> None:
        self.patcher = patcher

    def serves(self, part: nn.Module, device: str) -> bool:
        """Whether it is that of this part: a generator with an adapter starts as a copy of its base."""
        return self.patcher.model[0] is part and str(self.patcher.load_device) == device

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None


def choose_policy(precision: Precision, offload: Offload) -> tuple[ComfyPolicy, str]:
    """Device, number format and placement as ComfyUI was started, and a sentence about them."""
    device = management.get_torch_device()
    notes = []
    chosen = _precision(precision, device)
    if chosen != precision:
        notes.append(f"{chosen} in place of {precision}")
    if management.is_device_cpu(device):
        if offload != "auto":
            notes.append(f"offload_strategy {offload} has no effect without a GPU")
        return ComfyPolicy("cpu", chosen), "; ".join(["cpu", chosen, *notes])
    free = management.get_free_memory(device)
    staged = offload == "offload_to_cpu" or (offload == "auto" and free < _KEEP_IN_VRAM_FROM)
    staged = staged or management.vram_state == management.VRAMState.NO_VRAM
    notes.append("parts visit the GPU in turn" if staged else "parts stay on the GPU while there is room")
    rest = str(management.unet_offload_device())
    policy = ComfyPolicy(str(device), chosen, staged and rest != str(device), rest=rest)
    return policy, "; ".join([str(device), f"{free / 2**30:.1f} GB free", chosen, *notes])


def _precision(wanted: Precision, device: torch.device) -> Precision:
    if args.force_fp32:
        return "fp32"
    if management.is_device_cpu(device):
        return "fp32" if wanted == "fp16" else wanted
    if args.force_fp16 or (wanted == "bf16" and not management.should_use_bf16(device)):
        return "fp16"
    return wanted


class Job:
    """What a node tells the page while it works.

    Args:
        node_id: of the node on the page.
    """

    done = False

    def __init__(self, node_id: str | None) -> None:
        self._node_id = node_id
        self._bar = ProgressBar(_BAR_STEPS)
        self._stage = ""
        self._said = self._reported = 0.0
        self._next_preview = 0.0

    def progress(self, progress: Progress) -> None:
        """Move the bar, show the preview; raises ComfyUI's own exception when the user has pressed Cancel."""
        management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if self.done:  # a model reads its parts when they are needed, and reports as it was told to
            running = _running.get()
            if running is not None:
                running.say_stage(progress.stage, now)
            return
        self.say_stage(progress.stage, now)
        done = progress.step / progress.total if progress.total else 0.0
        if now - self._reported >= _REPORT_EVERY or done >= 1:
            self._reported = now
            self._bar.update_absolute(round(done * _BAR_STEPS), _BAR_STEPS, self._preview(progress, now))

    def say_stage(self, stage: str, now: float) -> None:
        """Show a stage that has begun, unless another one has only just been shown."""
        if stage != self._stage and now - self._said >= _SAY_EVERY:
            self._stage, self._said = stage, now
            self.say(stage)

    def say(self, text: str) -> None:
        """Show ``text`` on the node."""
        from server import PromptServer

        if PromptServer.instance is not None and self._node_id is not None:
            PromptServer.instance.send_progress_text(text, self._node_id)

    def _preview(self, progress: Progress, now: float) -> tuple[str, Any, int] | None:
        if progress.preview is None or now < self._next_preview:
            return None
        from PIL import Image

        from ..tasks.pictures import mel_picture

        shown = progress.preview() if callable(progress.preview) else progress.preview
        picture = Image.fromarray(mel_picture(shown) if shown.ndim == 2 else shown)
        cost = time.monotonic() - now
        self._next_preview = now + max(_PREVIEW_EVERY, _PREVIEW_SHARE * cost)
        return "JPEG", picture, picture.width


_running: ContextVar[Job | None] = ContextVar("_running", default=None)


@contextlib.contextmanager
def job(node: Any) -> Iterator[Job]:
    """Run a task for a node: outside of ComfyUI's inference mode, its errors as sentences.

    Tensors made in inference mode could never be trained on; the trainers share these models and features.
    """
    run = Job(node.hidden.unique_id)
    before = _running.set(run)
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield run
    except OSError as error:
        raise OutputError(os_error_sentence(error)) from error
    except ImportError as error:
        raise SelVAError(
            f"A Python package is missing or broken ({error}). Run `pip install -r requirements.txt` in the "
            "folder of this pack with ComfyUI's Python, then start ComfyUI again."
        ) from error
    finally:
        _running.reset(before)
        run.done = True
