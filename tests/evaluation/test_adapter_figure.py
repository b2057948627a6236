from selva_audio.evaluation.adapter_figure import comparison_figure


def adapter(name: str, shift: float, path: str = "x.pt") -> dict:
    return {
        "id": name,
        "path": path,
        "avg_metrics": {"onset_f1_50ms": 0.9, "spectral_centroid_hz": 900 + shift, "spectral_flatness": None},
        "intervals": {"onset_f1_50ms": [0.8, 1.0], "spectral_centroid_hz": [800, 1000 + shift]},
        "set_metrics": {"ltas_distance": {"value": shift, "low": shift - 1, "high": None}, "kad_mel": None},
    }


def summary(*adapters: dict) -> dict:
    reference = {"spectral_centroid_hz": 950.0}
    about = {"name": "a", "n_clips": 3, "variant": "demo_16k", "reference_avg": reference}
    return about | {"adapters": list(adapters)}


def test_each_number_that_is_there_has_a_panel_with_a_bar_for_each_adapter():
    figure = comparison_figure(summary(adapter("base", 20, ""), adapter("an adapter of a long name", 5)))
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 3
    assert [len(axis.patches) for axis in shown] == [2, 2, 2]
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert labels == ["base", "an adapter of a l…"]
    widths = [patch.get_width() for patch in shown[0].patches]
    assert widths == [20, 5]


def test_the_recordings_are_a_line_where_numbers_are_of_single_sounds():
    figure = comparison_figure(summary(adapter("base", 20, "")))
    lines = {axis.get_title(loc="left"): axis.get_lines() for axis in figure.axes if axis.get_visible()}
    assert [line.get_xdata()[0] for line in lines["centroid (Hz)"]][-1] == 950
    assert len(lines["spectrum off by (dB)"]) == 1  # the bounds alone


def test_without_numbers_there_is_no_picture():
    failed = {"id": "lost", "path": "x", "status": "failed", "avg_metrics": {}}
    assert comparison_figure(summary(failed)) is None
