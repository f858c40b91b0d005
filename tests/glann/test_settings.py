import dataclasses

import pytest

import imle
from glann.settings import GLOSettings, IMLESettings, check_pipeline, load_pipeline
from glann.stages import estimator


def test_overrides_are_toml_or_bare_words():
    pipeline = check_pipeline(
        load_pipeline("quick"),
        ["glo.epochs=7", "glo.loss=l2", "imle.calibrate=false", "glo.generator_options={width=8}"],
    )
    glo, stage2 = (stage.settings for stage in pipeline.stages)
    assert (glo.epochs, glo.loss, glo.generator_options, stage2.calibrate) == (7, "l2", {"width": 8}, False)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("glo.epoch=3", r"glo\.epoch; expected one of .*epochs"),
        ("glo.epochs=0", r"glo\.epochs: .*greater than or equal to 1.*received 0"),
        ("glo.epochs=many", r"glo\.epochs: .*'many'"),
        ("glo.decay=linear", r"glo\.decay: .*'cosine' or 'step'"),
        ("imle.network=transformer", r"imle\.network: .*'residual' or 'reference'"),
        ("glow.epochs=3", r"no stage 'glow'; expected one of glo, imle"),
        ("epochs=3", r"STAGE\.KEY=VALUE"),
        ("glo.epochs", r"STAGE\.KEY=VALUE"),
        ("glo.use=imle", r"said in a pipeline file"),
    ],
)
def test_bad_overrides_are_named(override, named):
    with pytest.raises(ValueError, match=named):
        check_pipeline(load_pipeline("quick"), [override])


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({}, "stages"),
        ({"stages": [{"epochs": 3}]}, "use"),
        ({"stages": [{"use": "nonesuch"}]}, "nonesuch.*glo, imle"),
        ({"stages": [{"use": "glo"}, {"use": "glo"}]}, "same name"),
        ({"stages": [{"use": "glo"}], "stage": 1}, "'stage'"),
        ({"stages": [{"use": "glo", "name": "../../evil"}]}, "evil"),
        ({"stages": [{"use": "glo", "name": "images"}]}, "images"),
        ({"stages": [{"use": "glo", "name": "run.toml"}]}, "run.toml"),
    ],
)
def test_bad_pipelines_are_named(tables, named):
    with pytest.raises(ValueError, match=named):
        check_pipeline(tables)


def test_a_pipeline_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('description = "mine"\n[[stages]]\nuse = "glo"\nname = "first"\nepochs = 2\n')
    (stage,) = check_pipeline(load_pipeline(str(path)), ["first.epochs=3"]).stages
    assert (stage.name, stage.settings.epochs) == ("first", 3)
    path.write_text("not toml [")
    with pytest.raises(ValueError, match=r"mine\.toml"):
        load_pipeline(str(path))
    with pytest.raises(ValueError, match=r"expected a \.toml file or one of glann"):
        load_pipeline("nonesuch")


def test_stage_2_has_the_settings_of_imle():
    theirs = {f.name: f for f in dataclasses.fields(imle.IMLE)}
    assert set(IMLESettings.model_fields) == set(theirs) - {"seed"}
    ours = IMLESettings()
    for name in set(IMLESettings.model_fields) - {"refresh", "reject"}:
        assert getattr(ours, name) == theirs[name].default, name
    assert estimator(ours, seed=0) == imle.IMLE()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        GLOSettings().epochs = 3
