"""Settings that a run cannot use: said, never passed over in silence."""

from ..options import FeatureOptions, GenerateOptions, Options, OutputOptions


def ignored_settings(
    features: FeatureOptions,
    options: GenerateOptions,
    output: OutputOptions,
    *,
    has_mask: bool,
    writes_video: bool,
) -> list[str]:
    """One sentence per group of settings that differ from their defaults and change nothing here."""
    found = []

    def look(useless: bool, reason: str, settings: Options, *names: str) -> None:
        changed = [name for name in names if _differs(settings, name)]
        if useless and changed:
            found.append(f"Without effect, because {reason}: {', '.join(changed)}.")

    look(not has_mask, "there is no mask", features, "mask_strength", "mask_clip", "mask_sync")
    look(
        not options.normalize or options.loudness == "none",
        "the level is left as it is",
        options,
        "target_lufs",
        "true_peak_ceiling",
    )
    unguided = options.cfg_strength < 1
    look(unguided, "cfg_strength is under 1", features, "negative_prompt")
    look(unguided, "cfg_strength is under 1", options, "negative_prompt")
    if not writes_video:
        names = ("original_audio", "original_gain_db", "duck_db", "codec", "bitrate_kbps")
        look(True, "a sound file is written", output, *names)
        return found
    look(True, "a video is written", output, "sample_format")
    look(
        output.original_audio == "replace",
        "the original sound is replaced",
        output,
        "original_gain_db",
        "duck_db",
    )
    look(output.original_audio == "mix", "the original sound is mixed, not ducked", output, "duck_db")
    look(output.codec == "lossless", "the sound is lossless", output, "bitrate_kbps")
    return found


def _differs(settings: Options, name: str) -> bool:
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)
