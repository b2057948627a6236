"""One line about a video, features, a sound."""

import numpy as np
import torch

from selva_audio.features import VideoFeatures
from selva_audio.media.encode import write_video
from selva_audio.records import Audio
from selva_audio.tasks.describe import describe_audio, describe_comparison, describe_features, describe_video


def test_features_are_told_by_length_and_tokens():
    features = VideoFeatures(torch.zeros(1, 40, 4), torch.zeros(1, 112, 4), duration=5.0625)
    assert describe_features(features) == "5.06 s -> 40 clip, 126 sync frames in 14 segments"
    without = VideoFeatures(torch.zeros(1, 0, 4), torch.zeros(1, 0, 4), duration=8.0)
    assert describe_features(without) == "8.00 s -> no clip, 0 sync frames in 0 segments"


def test_a_sound_is_told_by_length_takes_and_level():
    tone = torch.ones(2, 1, 8000) * 0.1
    expected = "0.50 s at 16000 Hz, mono, 2 takes, -20.0 dBFS RMS, peak -20.0 dBFS"
    assert describe_audio(Audio(tone, 16000)) == expected
    assert "stereo, 1 take," in describe_audio(Audio(torch.ones(1, 2, 10), 44100))


def test_a_video_is_told_by_frames_and_rate(tmp_path, frames):
    file = write_video(np.zeros((3, 8, 8, 3), np.uint8), 30000 / 1001, tmp_path / "a.mp4")
    assert describe_video(file) == "3 frames, 29.97 fps"
    assert describe_video(frames(1), 16.0) == "1 frame, 16 fps"


def test_adapters_are_told_by_the_numbers_of_the_set_before_means_over_its_clips():
    interval = {"value": 3.0, "low": 2.0, "high": 4.0}
    made = {
        "id": "trained",
        "status": "completed",
        "set_metrics": {"ltas_distance": interval, "kad_mel": None, "clip_diversity": 0.7},
        "avg_metrics": {"ltas_distance": 9.0, "mel_l1": 0.42, "diversity": None},
        "copies": ["a"],
    }
    summary = {"adapters": [made, {"id": "lost", "status": "failed"}]}
    assert describe_comparison(summary) == ["trained: ltas_distance 3, mel_l1 0.42, copies 1", "lost: failed"]
