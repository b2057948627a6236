"""``selva features``: extract and keep features, for data sets or for later sampling."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..options import FeatureOptions
from .console import print_json, progress_bar, say
from .settings import FEATURES, MODEL, FeatureSettings, ModelSettings, pick


def features(
    video: Annotated[Path, Parameter(help="Video, or image with MMAudio variants.")],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            help="A .npz file, or a folder: there name_001.npz, name_002.npz, ... with --name, else "
            "the video's name.",
        ),
    ],
    mask: Annotated[
        Path | None, Parameter(help="Image or video, white where the sounding source is.")
    ] = None,
    settings: FeatureSettings = FEATURES,
    model: ModelSettings = MODEL,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Extract the features of a video into an .npz file."""
    from ..tasks.features import write_features
    from ..tasks.generate import load_model

    options = pick(settings, FeatureOptions)
    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar(video.name) as on_progress:
        path, found = write_features(bundle, video, output, options, mask, on_progress=on_progress)
    counts = {"clip": found.clip.shape[1], "sync": found.sync.shape[1]}
    say(f"Done: {path} ({found.duration:.2f} s, {counts['clip']} clip, {counts['sync']} sync rows)")
    if json:
        print_json({"path": path, "duration": found.duration, **counts})
    return 0
