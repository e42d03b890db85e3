"""Spec files: errors name file, key, what was found and what is allowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.options import pixel_range
from harness.compression.recipes import usual_recipes
from harness.errors import ExitCode, FailureClass, UsageError
from harness.spec.loading import load_spec, validate_spec
from harness.spec.model import ModelSpec, find_model
from harness.spec.profile import DeviceProfile
from harness.spec.sweep import PRESETS, SweepSpec, load_sweep_spec


def error_of(text, spec_type, folder):
    file = folder / "my.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_spec(file, spec_type)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_USAGE
    return str(caught.value)


def test_an_empty_sweep_is_the_default_sweep():
    spec = load_sweep_spec(None, {})
    assert spec.recipes == ("fp32", "fp16", "dynamic-int8", "int8")
    assert spec.measurement.invocations == 5


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_laid_under_what_is_given(preset):
    spec = load_sweep_spec(None, {"preset": preset, "measurement": {"runs": 3}})
    assert spec.measurement.runs == 3
    assert spec.measurement.invocations == PRESETS[preset]["invocations"] >= 5


def test_the_command_line_is_laid_over_the_file(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text('recipes = ["int8"]\ndelegates = ["gpu"]\n[measurement]\nruns = 11\ninvocations = 6\n')
    spec = load_sweep_spec(file, {"delegates": ["cpu"], "measurement": {"runs": 12}})
    assert (spec.recipes, spec.delegates) == (("int8",), ("cpu",))
    assert (spec.measurement.runs, spec.measurement.invocations) == (12, 6)


def test_a_typo_in_a_key_names_the_near_one_and_all_allowed(tmp_path):
    message = error_of('recipies = ["int8"]', SweepSpec, tmp_path)
    assert "unknown key 'recipies'. Did you mean 'recipes'?" in message
    assert "Allowed here: broken_gpu, data, delegates, devices" in message


def test_a_typo_in_a_table_lists_that_tables_keys(tmp_path):
    message = error_of("[measurement]\ninvocation = 5", SweepSpec, tmp_path)
    assert "unknown key 'measurement.invocation'. Did you mean 'invocations'?" in message
    assert "Allowed here: accuracy_samples, fewest_invocations, init_pairs" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[measurement]\ninvocations = 2", ["'measurement.invocations'", "found 2", "greater than or equal to 5"]),
        ('preset = "fast"', ["'preset'", "found 'fast'", "'quick', 'standard' or 'strict'"]),
        ("threads = [0]", ["'threads'", "found [0]", "from 1"]),
        ("threads = [1025]", ["'threads'", "found [1025]", "from 1 to 1024"]),
        ("seed = 9223372036854775808", ["'seed'", "less than 9223372036854775808"]),
        ("recipes = []", ["'recipes'", "at least one"]),
        ("measurement = 5", ["'measurement'", "found 5"]),
        ("x = [", ["not valid TOML"]),
    ],
)
def test_bad_values_say_what_was_found_and_what_is_allowed(tmp_path, text, parts):
    message = error_of(text, SweepSpec, tmp_path)
    for part in parts:
        assert part in message


def test_an_unknown_kind_of_source_lists_the_known(tmp_path):
    message = error_of('name = "m"\n[source]\nkind = "caffe"\npath = "x"', ModelSpec, tmp_path)
    assert "keras-application" in message


def test_a_missing_key(tmp_path):
    assert "key 'source' is missing" in error_of('name = "m"', ModelSpec, tmp_path)


def test_files_that_are_not_there_or_not_text(tmp_path):
    for path in (tmp_path / "nosuch.toml", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            load_spec(path, SweepSpec)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load_spec(tmp_path / "binary.toml", SweepSpec)


def test_an_unknown_model_lists_the_shipped_ones():
    with pytest.raises(UsageError) as caught:
        find_model("fashion-dscn")
    assert "fashion-dscnn" in f"{caught.value} {caught.value.advice}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*SweepSpec.model_fields, "x", "measurment"]), JSON))
def test_any_spec_is_accepted_or_refused_in_words(values):
    for spec_type in (SweepSpec, DeviceProfile, ModelSpec):
        try:
            validate_spec(values, spec_type, origin="spec")
        except UsageError as error:
            assert str(error).startswith("spec: ")


@pytest.mark.parametrize("preset", PRESETS)
def test_promise_h8_no_sweep_makes_fewer_than_five_invocations_a_cell(preset):
    planned = load_sweep_spec(None, {"preset": preset}).measurement
    assert min(planned.invocations, planned.fewest_invocations) >= 5
    for too_few in ({"invocations": 4}, {"fewest_invocations": 4}):
        with pytest.raises(UsageError):
            load_sweep_spec(None, {"preset": preset, "measurement": too_few})


def test_promise_h20_every_failure_class_says_what_to_do():
    for failure_class in FailureClass:
        assert failure_class.advice.endswith(".")


def test_data_and_pixels_replace_the_model_files(tmp_path):
    np.savez(tmp_path / "mine.npz", calibration_images=np.zeros((1, 2, 2), np.uint8))
    sweep = load_sweep_spec(None, {"data": str(tmp_path / "mine.npz"), "pixels": (-1.0, 1.0)})
    model = sweep.find_model()
    assert model.locate(model.data.path) == tmp_path / "mine.npz"
    assert [pixel * model.preprocessing.scale + model.preprocessing.offset for pixel in (0, 255)] == [-1.0, 1.0]
    assert load_sweep_spec(None, {}).find_model() == find_model("fashion-dscnn")
    with pytest.raises(UsageError, match=r"gone\.npz: no such file"):
        load_sweep_spec(None, {"data": "gone.npz"}).find_model()


@pytest.mark.parametrize(
    ("text", "ends"), [("0..1", (0, 1)), ("-1..1", (-1, 1)), ("0.5..-2.25", (0.5, -2.25)), (None, None)]
)
def test_a_range_of_pixels(text, ends):
    assert pixel_range(text) == ends


@pytest.mark.parametrize("text", ["", "1", "0..0", "a..b", "0,1", "0...1"])
def test_another_range_of_pixels_is_refused(text):
    with pytest.raises(UsageError, match="--pixels"):
        pixel_range(text)


def test_default_recipes_without_data_leave_out_int8():
    bare = find_model("fashion-dscnn").model_copy(update={"data": None})
    recipes, note = usual_recipes(SweepSpec.model_fields["recipes"].default, bare)
    assert [recipe.name for recipe in recipes] == ["fp32", "fp16", "dynamic-int8"]
    assert "leaving out int8" in note
    assert "--data" in note
    assert usual_recipes(["fp32", "int8"], find_model("fashion-dscnn"))[1] == ""
