"""How many operations a clip takes where steps are recorded, as on a GPU; counted on any machine.

Ours runs in the forms and batches that a GPU gets, and CUDA graphs have a stand-in.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from selva_audio import graphs
from selva_audio.features import encode
from selva_audio.models.fast_path import plain_forms

from .measure import Operations
from .ours import Ours
from .stages import PROMPT, STEPS, Inputs, load_parts
from .tape import Again
from .upstream import Upstream

# A kind of step runs as it is, then is recorded, and is replayed from then on.
CLIPS = ("first", "second", "third")


@contextlib.contextmanager
def as_on_a_gpu(recorder: graphs.Recorder | None) -> Iterator[None]:
    """Forms and batches of a GPU inside the block, recorded by what is given; by None: not recorded."""
    with (
        patch.object(graphs, "_recorder", recorder or graphs._recorder),
        patch.object(graphs, "_known", WeakKeyDictionary()),
        patch.object(encode, "_BLOCK_ON_CPU", encode._BLOCK_ON_GPU),
        plain_forms(),
    ):
        yield


def measure_launches(upstream: Upstream | None, ours: Ours, inputs: Inputs) -> dict[str, Any]:
    """Operations launched from a video to a video with sound, by clip; prompts are new in each."""
    load_parts("whole", upstream, ours)
    counted: dict[str, Any] = {"ours": {}}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.mp4"

        def count(side: Upstream | Ours, clip: str) -> int:
            prompt = f"{PROMPT} {clip}"
            return launched(lambda: side.whole(inputs.video, prompt, inputs.noise, output, STEPS))

        with as_on_a_gpu(Again()):
            for clip in CLIPS:
                counted["ours"][clip] = count(ours, clip)
        if upstream is not None:
            counted["upstream"] = count(upstream, CLIPS[-1])
            counted["ratio"] = round(counted["upstream"] / counted["ours"][CLIPS[-1]], 2)
            counted["first_ratio"] = round(counted["upstream"] / counted["ours"][CLIPS[0]], 2)
    return counted


def launched(run: Callable[[], Any]) -> int:
    """Operations of ``run`` that are no views; a replay is one."""
    with Operations() as operations:
        run()
    return operations.launched
