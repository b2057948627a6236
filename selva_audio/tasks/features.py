"""Features of one video into a file of the user's choosing."""

from pathlib import Path

from ..bundle import SelVAModel
from ..errors import InputError
from ..features import VideoFeatures, save_features
from ..options import FeatureOptions
from ..progress import ProgressFn, ignore_progress
from .generate import extract_features, extract_numbered


def write_features(
    model: SelVAModel,
    video: Path,
    output: Path,
    options: FeatureOptions,
    mask: Path | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> tuple[Path, VideoFeatures]:
    """Extract and write; returns the file and its content.

    Args:
        model: bundle of ``load_model``.
        video: file to read.
        output: an .npz file, or a folder for ``<video name>.npz``; with ``options.name`` always a folder
            for ``name_001.npz``, ``name_002.npz``, ...
        options: prompt, range, mask strength.
        mask: 1 where the sounding source is.
        on_progress: progress and cancel.

    Raises:
        InputError: an output with another ending than .npz, or a file where ``options.name`` needs a folder.
    """
    if options.name:
        if output.suffix == ".npz" or output.is_file():
            raise InputError(
                f"A name numbers files in a folder, but the output {output} is a file. Give one of the two."
            )
        return extract_numbered(
            model, video, options.model_copy(update={"cache_dir": output}), mask, on_progress=on_progress
        )
    if output.suffix and output.suffix != ".npz" and not output.is_dir():
        raise InputError(
            f"Features are .npz files; {output.name!r} has another ending. Give a .npz file or a folder."
        )
    path = output if output.suffix == ".npz" else output / f"{video.stem}.npz"
    features = extract_features(model, video, options, mask, on_progress=on_progress)
    return save_features(path, features), features
