"""The pipeline files: valid, complete, and the published ones as published."""

import pytest

from glann.settings import check_pipeline, load_pipeline, pipeline_names


@pytest.mark.parametrize("name", pipeline_names())
def test_every_pipeline_file_is_valid_and_round_trips(name):
    pipeline = check_pipeline(load_pipeline(name))
    assert pipeline.description
    tables = {"description": pipeline.description, "stages": [stage.to_toml() for stage in pipeline.stages]}
    assert check_pipeline(tables) == pipeline


def test_the_named_pipelines_exist():
    assert {"glann", "quick", "reference-mnist", "reference-cifar10"} <= set(pipeline_names())


@pytest.mark.parametrize(("name", "epochs", "halved"), [("mnist", 200, 20), ("cifar10", 500, 50)])
def test_the_reference_pipelines_have_the_published_settings(name, epochs, halved):
    glo, imle = (stage.settings for stage in check_pipeline(load_pipeline(f"reference-{name}")).stages)
    assert (glo.epochs, glo.decay, glo.decay_epochs) == (epochs, "step", halved)
    assert (glo.latent_dim, glo.batch_size, glo.generator, glo.loss) == (64, 128, "reference", "vgg")
    assert (glo.beta1, glo.beta2, glo.latent_lr, glo.lr) == (0.5, 0.999, 1e-2, 1e-3)
    assert (imle.noise_dim, imle.network, imle.pool, imle.epochs, imle.batch_size) == (32, "reference", 2.0, 50, 128)
    assert not imle.calibrate
