import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.models.mel import mel_spectrogram
from selva_audio.plots import mel_figure, save_figure, spectrogram_figure, takes_figure

RATE = 16000
MELS = [VARIANTS["small_16k"].mel, VARIANTS["small_44k"].mel]


def tone(frequency, seconds=1.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def vertical_lines(axis):
    return [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]


def test_png_is_whole_and_of_the_right_size(tmp_path):
    path = save_figure(spectrogram_figure(tone(440), RATE, title="tone"), tmp_path / "new" / "tone.png")
    picture = imread(path)
    assert picture.shape == (408, 1200, 4)
    assert picture[..., :3].std() > 0.1
    assert [item.name for item in path.parent.iterdir()] == ["tone.png"]


def test_each_take_adds_a_row_of_equal_height(tmp_path):
    takes = [(f"take {index}", tone(300 * index + 300), ()) for index in range(3)]
    figure = takes_figure(takes, RATE, title="takes")
    path = save_figure(figure, tmp_path / "takes.png")
    assert imread(path).shape == (984, 1200, 4)
    axes = figure.axes[:3]
    assert [axis.get_title(loc="left") for axis in axes] == ["take 0", "take 1", "take 2"]
    heights = [axis.get_position().height for axis in axes]
    assert max(heights) - min(heights) < 1e-6


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    paths = [
        save_figure(spectrogram_figure(tone(440), RATE, marks=[0.5]), tmp_path / f"{index}.png")
        for index in range(2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_marks_are_drawn_where_they_lie_and_outside_ones_are_not():
    figure = spectrogram_figure(tone(440, 2.0), RATE, marks=[0.25, 1.5, 2.5, -1.0])
    assert vertical_lines(figure.axes[0]) == [0.25, 1.5]
    assert vertical_lines(spectrogram_figure(tone(440), RATE).axes[0]) == []


def test_marks_change_the_picture_at_their_time_only(tmp_path):
    pictures = {}
    for marks in ((), (0.5,)):
        figure = spectrogram_figure(tone(440), RATE, title="tone", marks=marks)
        pictures[marks] = imread(save_figure(figure, tmp_path / f"{len(marks)}.png"))
    plain, marked = pictures.values()
    columns = np.flatnonzero((plain != marked).any(axis=(0, 2)))
    assert 0 < len(columns) < 12
    assert abs(columns.mean() - 0.47 * 1200) < 40


def test_time_axis_is_in_seconds_and_spans_the_longest_take():
    figure = takes_figure([("long", tone(440, 2.0), ()), ("short", tone(440, 1.0), ())], RATE)
    long, short = figure.axes[:2]
    assert long.get_xlim() == short.get_xlim() == (0, 2.0)
    assert short.images[0].get_extent()[1] == 1.0
    assert short.get_xlabel() == "time (s)"


@pytest.mark.parametrize("frequency", [250, 1000, 4000])
def test_a_tone_is_brightest_at_its_tick(frequency):
    figure = spectrogram_figure(tone(frequency), RATE)
    axis = figure.axes[0]
    ticks = dict(zip([text.get_text() for text in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    row = np.asarray(axis.images[0].get_array()).mean(axis=1).argmax() + 0.5
    assert abs(row - ticks[f"{frequency / 1000:g}"]) < 1.0


@pytest.mark.parametrize("config", MELS)
def test_a_mel_is_drawn_in_decibels_of_its_own_base(config):
    wave = torch.from_numpy(tone(1000, 1.0, config.sample_rate))
    mel = mel_spectrogram(torch.stack([wave, 0.1 * wave]), config)
    figure = mel_figure(mel[0], config, title="mel", marks=[0.5])
    levels = np.asarray(figure.axes[0].images[0].get_array())
    assert levels.shape == (config.num_mels, mel.shape[2])
    assert levels.max() == 0
    quieter = np.asarray(mel_figure(torch.cat([mel[0], mel[1]], 1), config).axes[0].images[0].get_array())
    middle = mel.shape[2] // 2
    assert np.isclose(quieter[:, mel.shape[2] + middle].max(), -20, atol=0.2)


def test_silence_is_drawn_dark(tmp_path):
    levels = np.asarray(spectrogram_figure(np.zeros(RATE), RATE).axes[0].images[0].get_array())
    assert levels.max() <= -70


def test_no_global_state_of_matplotlib_is_touched(tmp_path):
    before = dict(matplotlib.rcParams)
    save_figure(spectrogram_figure(tone(440), RATE, title="tone"), tmp_path / "tone.png")
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_failed_writing_leaves_the_old_picture(tmp_path):
    path = save_figure(spectrogram_figure(tone(440), RATE), tmp_path / "tone.png")
    content = path.read_bytes()
    figure = spectrogram_figure(tone(880), RATE)
    figure.axes[0].set_title(r"$\notasymbol$")
    with pytest.raises(ValueError, match="notasymbol"):
        save_figure(figure, path)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["tone.png"]


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="no sound to draw"):
        takes_figure([], RATE)
    with pytest.raises(InputError, match=r"one waveform \(L,\), not \(2, 16000\)"):
        spectrogram_figure(np.zeros((2, RATE)), RATE)
    with pytest.raises(InputError, match=r"\(80, F\), not \(128, 9\)"):
        mel_figure(np.zeros((128, 9)), MELS[0])
    with pytest.raises(InputError, match=r"not 'tone.jpg'"):
        save_figure(spectrogram_figure(tone(440), RATE), tmp_path / "tone.jpg")
