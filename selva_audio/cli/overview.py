"""The first page of help, without the command-line library: it is shown more often than any other."""

SUMMARY = "Text-selective video-to-audio: a video and a sentence in, the sound of that source out, in sync."
COMMANDS = {
    "generate": "Make the sound of what the prompt names, in sync with the picture.",
    "features": "Extract the features of a video into an .npz file.",
    "replay": "Make a sound again from its recipe.",
    "models": "Weight files: what each variant needs, what is here, fetch and check.",
    "audio": "Sounds that exist already: VAE round trip, smoothing, matching, level, rate.",
    "dataset": "Data sets to train on: make one of videos, check it, look at it.",
    "train": "Teach a model new sounds from clips.",
    "steer": "Steering vectors: directions of a style in the generator.",
    "ditto": "Choose the noise that the sound starts from, so that it comes near to a style.",
    "adapter": "LoRA adapters: what one holds, merge, convert, resize, extract, diff.",
    "sweep": "Run several trainings from one file, and compare them.",
    "evaluate": "Score a model, compare adapters, or measure the sounds of a folder.",
    "bench": "Measure how long each stage takes on this machine, and tell what would change it.",
    "doctor": "Tell what is installed, what is missing, and what to do about it.",
    "demo": "Make the sound of each of two drawn bouncing balls, and score it.",
}
REQUESTS: tuple[list[str], ...] = ([], ["--help"], ["-h"])


def overview() -> str:
    """Usage, the commands, and where their own help is."""
    lines = ["Usage: selva COMMAND", "", SUMMARY, "", "Commands:"]
    lines += [f"  {name:9} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "`selva COMMAND --help` tells the options of a command; `selva --version` the version."]
    )
