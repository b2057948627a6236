import pytest

from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.options import FitOptions, LoraOptions


def test_the_learning_rate_goes_with_the_width_unless_it_is_given():
    rates = {
        name: LoraOptions().lr_for(VARIANTS[name].generator.hidden_dim) for name in ("small_16k", "large_44k")
    }
    assert rates == pytest.approx({"small_16k": 4e-4, "large_44k": 2e-4})
    assert LoraOptions(lr=3e-5).lr_for(448) == 3e-5


def test_the_adapter_is_plain_lora_of_rank_16_on_attention_and_convolutions():
    options = LoraOptions()
    assert (options.target, options.rank, options.scale) == ("qkv conv", 16, 2.0)
    assert (options.init_mode, options.use_rslora, options.use_dora) == ("standard", False, False)


@pytest.mark.parametrize("field", ["steps", "lr", "batch_size", "clip_norm", "save_every"])
def test_values_that_cannot_train_are_refused_by_name(field):
    with pytest.raises(InputError, match=field):
        FitOptions.parse(**{field: 0})
    with pytest.raises(InputError, match="Did you mean 'warmup_steps'"):
        LoraOptions.parse(warmup_step=3)


def test_a_rate_of_zero_is_resolved_before_anything_is_trained_or_written():
    from small_clips import make_training

    training = make_training(lr=0.0)
    assert training.options.lr == LoraOptions().lr_for(training.base.config.hidden_dim) > 0
    assert training.parameters(0.0)[0]["lr"] == training.options.lr
    assert training.adapter(0).meta["lr"] == training.options.lr
