"""GLANN itself: the two stages of a pipeline file (Hoshen, Li, Malik 2019, arXiv 1812.08985) within a budget."""

from baselines.budget import LATENT_DIM, Clock, Trained, count, fit_glo, imle_epochs
from torch import randn
from torch.nn.functional import normalize

from glann import GLANN, losses
from glann.images import ImageSet
from glann.settings import GLOSettings, IMLESettings, check_pipeline, load_pipeline
from glann.stages import estimator

STAGE_1 = 0.7  # of the budget, at least: stage 2 gets no more epochs than the pipeline file gives it


def train(images: ImageSet, budget: float, seed: int, pipeline: str, loss: str = losses.OFFLINE) -> Trained:
    """The pipeline's settings, its epochs cut to the budget, its distance one that needs no download."""
    clock = Clock(budget)
    tables = load_pipeline(pipeline)
    first, second = (stage.settings for stage in check_pipeline(tables).stages)
    settings = GLOSettings(**{**first.model_dump(), "loss": loss})
    assert isinstance(second, IMLESettings)
    network = estimator(second, seed)

    # How long stage 2 takes is measured on unit vectors of the same number and dimension.
    vectors = normalize(randn(len(images), LATENT_DIM), dim=1)
    wanted = imle_epochs(network, vectors, (1 - STAGE_1) * budget)
    share = (1 - STAGE_1) * min(1.0, network.epochs / wanted.epochs)
    result, settings = fit_glo(images, settings, (1 - share) * budget - clock.spent(), seed)
    first_seconds = clock.spent()

    # Its share is stage 2's also where stage 1 took longer than was measured; the row says what was spent.
    fitted = imle_epochs(network, result.latents, max(clock.left(), share * budget))
    fitted = fitted if fitted.epochs < network.epochs else network
    sampler = fitted.fit(result.latents)
    config = {
        "generator": settings.generator, "generator_options": {}, "latent_dim": LATENT_DIM,
        "height": images.height, "width": images.width, "channels": images.channels,
    }  # fmt: skip
    model = GLANN(result.generator, sampler, config)
    facts = {
        "pipeline": pipeline, "loss": settings.loss, "glo_epochs": settings.epochs, "imle_epochs": fitted.epochs,
        "glo_seconds": first_seconds, "glo_loss": float(result.losses.mean()),
    }  # fmt: skip
    return Trained(
        draw=lambda n, s: model.sample(n, seed=s),
        copies=lambda rows: model.decode(result.latents[rows]),
        parameters=count(result.generator, sampler),
        processor_seconds=clock.spent(),
        facts=facts,
    )
