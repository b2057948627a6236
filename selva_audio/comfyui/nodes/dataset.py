"""Data sets: one clip of a prepared one at a time; and sounds loaded, picked, judged and saved."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...options import InspectOptions
from ..folders import find, fingerprint, looked_at, output_folder, with_inner
from ..host import job
from ..present import audio_player, output, told
from ..schema import AUDIO_DATASET, AUDIO_PLAYER, DATASET_TIP, PLAYER_TIP, widgets
from ..sounds import read_sounds, sounds_wire, told_of
from ..wires import audio_wire

_FILES = (
    ("video_path", "The picture."),
    ("audio_wav", "The sound, where it is a .wav file."),
    ("audio_flac", "The sound, where it is a .flac file."),
    ("features_path", "The features (.npz)."),
    ("frames_dir", "Folder with the pictures one by one."),
    ("mask_dir", "Folder with masks for them."),
    ("label", "What kind of sound it is."),
)


class SelvaDatasetBrowser(io.ComfyNode):
    """One clip of a prepared data set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaDatasetBrowser",
            display_name="SelVA Dataset Browser",
            category="SelVA/dataset",
            description="The files of one clip of a data set, as selva dataset prepare makes it.",
            inputs=[
                io.String.Input(
                    "dataset_json",
                    default="",
                    tooltip="A dataset.json, or a folder with one or with pairs of .npz and sound. Relative: "
                    "looked for in ComfyUI's own folder, then in output, models and input.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Which clip, from 0; past the end from the start.",
                ),
                io.Combo.Input(
                    "split",
                    options=["any", "train", "val"],
                    default="any",
                    optional=True,
                    tooltip="Only clips for training or for validation.",
                ),
                io.String.Input(
                    "only_label", default="", optional=True, tooltip="Only clips with this label; empty: all."
                ),
                io.Boolean.Input(
                    "with_faults",
                    default=True,
                    optional=True,
                    tooltip="Clips that are not fit for training too.",
                ),
            ],
            outputs=[
                *(io.String.Output(display_name=name, tooltip=f"{tip} Empty: none.") for name, tip in _FILES),
                io.Int.Output(display_name="max_index", tooltip="The last index: total less one."),
                io.Int.Output(display_name="total", tooltip="Number of clips."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, dataset_json: str | None, **others: Any) -> str:
        """Changes with the list, and with the files beside it."""
        found = looked_at(dataset_json, "dataset_json", "base")
        folders = [path if path.is_dir() else path.parent for path in found]
        inner = (each for folder in folders for each in folder.rglob("features") if each.is_dir())
        return fingerprint(*folders, *inner)

    @classmethod
    def execute(
        cls,
        dataset_json: str,
        index: int,
        split: str = "any",
        only_label: str = "",
        with_faults: bool = True,
    ) -> io.NodeOutput:
        """Paths of the clip's files, its label, and how many clips there are."""
        with job(cls) as run:
            from ...tasks.dataset import browse, read_dataset

            dataset = read_dataset(find(dataset_json, "dataset_json", "base"))
            side: Any = "" if split == "any" else split
            found = browse(dataset, index, split=side, label=only_label, with_faults=with_faults)
            entry = found.entry
            files = [
                entry.video,
                found.sound(".wav"),
                found.sound(".flac"),
                entry.npz,
                entry.frames,
                entry.mask,
            ]
            paths = [str(path) if path is not None and path.exists() else "" for path in files]
            text = told(run, found.sentence, *dataset.notes)
        return output(*paths, entry.label, found.total - 1, found.total, text=text)


class SelvaDatasetLoader(io.ComfyNode):
    """A folder of sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaDatasetLoader",
            display_name="SelVA Dataset Loader",
            category="SelVA/dataset",
            description="Loads all sounds of a folder and of the folders in it.",
            inputs=[
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="Folder with .wav, .flac, .mp3, .ogg, .aac or .m4a files. Relative: looked for "
                    "where ComfyUI was started, then in output, models, ComfyUI's own folder and input.",
                )
            ],
            outputs=[AUDIO_DATASET.Output(display_name="dataset", tooltip="For the other dataset nodes.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None) -> str:
        """Changes with the files."""
        found = looked_at(folder, "folder", "here")
        return fingerprint(*(each for path in found for each in with_inner(path)))

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        """The sounds."""
        with job(cls) as run:
            from ...tasks.sounds import load_sounds

            sounds = load_sounds(find(folder, "folder", "here"), on_progress=run.progress)
            text = told(run, told_of(sounds))
        return output(sounds_wire(sounds), text=text)


class SelvaDatasetInspector(io.ComfyNode):
    """Which sounds are fit for training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetInspector"
        return io.Schema(
            node_id=node,
            display_name="SelVA Dataset Inspector",
            category="SelVA/dataset",
            description="Measures every sound, and leaves out those that are not fit for training.",
            inputs=[
                AUDIO_DATASET.Input("dataset", tooltip=DATASET_TIP),
                *widgets(node, InspectOptions, "skip_rejected", "min_snr_db"),
                *widgets(node, InspectOptions, "check_codec_artifacts", "max_silence_fraction"),
            ],
            outputs=[
                AUDIO_DATASET.Output(display_name="dataset", tooltip="The sounds that are kept."),
                io.String.Output(display_name="report", tooltip="A line for each sound."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The sounds that are kept, and the report."""
        with job(cls) as run:
            from ...tasks.sounds import inspect_sounds, inspection_report

            options = InspectOptions.parse(**settings)
            kept, found = inspect_sounds(read_sounds(dataset), options, on_progress=run.progress)
            report = inspection_report(found)
            text = told(run, told_of(kept))
        return output(sounds_wire(kept), report, text=text)


class SelvaDatasetItemExtractor(io.ComfyNode):
    """One sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaDatasetItemExtractor",
            display_name="SelVA Dataset Item Extractor",
            category="SelVA/dataset",
            description="One sound of a data set, to be heard or worked on.",
            is_output_node=True,
            inputs=[
                AUDIO_DATASET.Input("dataset", tooltip=DATASET_TIP),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Which sound, from 0; past the end from the start.",
                ),
                AUDIO_PLAYER.Input("audioUI", optional=True, tooltip=PLAYER_TIP),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The sound."),
                io.String.Output(display_name="name", tooltip="Its name, without ending."),
                io.Int.Output(display_name="total", tooltip="Number of sounds."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, dataset: Any, index: int, audioUI: Any = None) -> io.NodeOutput:
        """The sound at a place."""
        with job(cls) as run:
            from ...tasks.describe import describe_audio
            from ...tasks.sounds import take_sound

            sounds = read_sounds(dataset)
            found = take_sound(sounds, index)
            place = f"{index % len(sounds) + 1} of {len(sounds)}"
            text = told(run, f"{place}: {found.name}, {describe_audio(found.audio)}")
        wire = audio_wire(found.audio)
        return output(wire, found.name, len(sounds), text=text, players=[audio_player(cls, wire)])


class SelvaDatasetSaver(io.ComfyNode):
    """Sounds and features to a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaDatasetSaver",
            display_name="SelVA Dataset Saver",
            category="SelVA/dataset",
            description="Writes every sound as 24-bit FLAC beside its features, as trainers read them.",
            is_output_node=True,
            inputs=[
                AUDIO_DATASET.Input("dataset", tooltip=DATASET_TIP),
                io.String.Input(
                    "output_dir",
                    default="",
                    tooltip="Folder to write to; relative: below the output folder. Not that of the sounds.",
                ),
                io.String.Input(
                    "npz_source_dir",
                    default="",
                    optional=True,
                    tooltip="Folder with the features; empty: beside the sounds that were loaded. Relative: "
                    "looked for where ComfyUI was started, then as for the loader.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="What was written, and what is missing.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, dataset: Any, output_dir: str, npz_source_dir: str = "") -> io.NodeOutput:
        """Write the files."""
        with job(cls) as run:
            from ...tasks.sounds import save_sounds

            features: Path | None = None
            if npz_source_dir.strip():
                features = find(npz_source_dir, "npz_source_dir", "here")
            folder = output_folder(output_dir, "output_dir")
            saved = save_sounds(read_sounds(dataset), folder, features=features, on_progress=run.progress)
            report = "\n".join([saved.sentence, *saved.notes])
            text = told(run, report)
        return output(report, text=text)
