"""The settings of a run: a pipeline file and what the command line adds, checked before anything is done."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from glann.registry import lookup

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RESERVED = ("images", "model", "lock")  # what a run folder holds beside its stages

Augment = Literal["none", "flip", "shift", "flip+shift"]


class GLOSettings(BaseModel):
    """Settings of stage 1; what is not given has the default of this table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int | None = Field(None, ge=1, le=100_000, description="passes over the images; not given: by the next two")
    min_epochs: int = Field(60, ge=1, le=100_000, description="passes at least, where epochs is not given")
    min_images_seen: int = Field(20_000, ge=0, description="N times passes at least, where epochs is not given")
    batch_size: int | None = Field(None, ge=1, le=65_536, description="images in one step; not given: 4 to 64, by N")
    augment: Augment = Field("none", description="what else is learnt of each image: it mirrored, moved, or both")
    latent_dim: int = Field(64, ge=1, le=4096, description="dimension of a latent")
    latent_init: Literal["pca", "noise"] = Field("pca", description="where the latents start")
    loss: str = Field("auto", description="perceptual distance, by name")
    loss_weights: str | None = Field(None, description="file with the trunk weights of the perceptual distance")
    cache_gib: float = Field(12.0, ge=0, description="most memory for target features; half of what is free, at most")
    generator: str = Field("residual", description="latent -> image network, by name")
    generator_options: dict[str, Any] = Field(default_factory=dict, description="arguments of that network")
    lr: float = Field(1e-3, gt=0, le=1, description="Adam step size of the generator")
    latent_lr: float = Field(2e-2, gt=0, le=1, description="Adam step size of the latents, whose norm is 1")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of Adam's first moment")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of Adam's second moment")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the generator's averaged weights; 0 keeps the last ones")
    decay: Literal["cosine", "step"] = Field("cosine", description="how the step sizes fall over the training")
    decay_epochs: int = Field(50, ge=1, description="epochs between two halvings, with decay = step")


RULES = {  # name of the rule -> how it is written
    "refresh": {"Every": "{Every={epochs=5}}", "Adaptive": "{Adaptive={max_age=10}}", "EachBatch": "{EachBatch={}}"},
    "reject": {"Reject": "{Reject={quantile=0.02}}"},
}


class IMLESettings(BaseModel):
    """Settings of stage 2: those of `imle.IMLE`, which says what each does and checks them once more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(100, ge=1, le=100_000, description="passes over the latents")
    noise_dim: int = Field(16, ge=1, le=4096, description="dimension of the noise")
    network: Literal["residual", "reference"] = Field("residual", description="noise -> latent network")
    width: int = Field(256, ge=1, description="hidden units")
    depth: int = Field(4, ge=1, description="blocks or hidden layers")
    batch_size: int | None = Field(None, ge=1, description="latents in one gradient step; not given: 4 to 256, by N")
    lr: float = Field(3e-3, gt=0, le=1, description="Adam step size at the start")
    pool: float = Field(2.0, gt=0, description="candidates in one matching, as a multiple of N")
    pool_size: int | None = Field(None, ge=1, description="candidates in one matching, absolute; goes before pool")
    refresh: dict[str, dict[str, Any]] = Field({"Every": {"epochs": 5}}, description="when to match again")
    reject: dict[str, dict[str, Any]] | None = Field(None, description="which candidates are not used")
    direction: float = Field(1.0, ge=0, le=1, description="1 latent -> sample, 0 sample -> latent")
    perturb: float = Field(0.0, ge=0, description="noise on each committed noise")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0 keeps the last ones")
    calibrate: bool = Field(True, description="match the samples' frequencies, mean and covariance to the latents'")
    search: str = Field("auto", description="method of the nearest-neighbour search")

    @field_validator("refresh", "reject", mode="before")
    @classmethod
    def _is_rule(cls, value: Any, info: ValidationInfo) -> Any:
        rules = RULES[str(info.field_name)]
        if value is None or (isinstance(value, dict) and len(value) == 1 and set(value) <= set(rules)):
            return value
        raise ValueError(f"expected one of {', '.join(rules.values())}")


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: what runs, under which name, with which checked settings."""

    use: str
    name: str
    settings: BaseModel

    def to_toml(self) -> dict[str, Any]:
        """The table that reads back as this stage."""
        return {"use": self.use, "name": self.name, **self.settings.model_dump(exclude_none=True)}


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run in order, every setting checked."""

    description: str
    stages: tuple[StageSpec, ...]


def pipeline_names() -> list[str]:
    """The pipelines that this package brings."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def load_pipeline(name: str) -> dict[str, Any]:
    """Read a pipeline file, not yet checked.

    Args:
        name: one of `pipeline_names`, or the path of a ``.toml`` file.

    Returns:
        Its tables.

    Raises:
        ValueError: where there is no such pipeline, or the file is not TOML.
    """
    try:
        if name.endswith(".toml"):
            return tomllib.loads(Path(name).read_text(encoding="utf-8"))
        if name in pipeline_names():
            return tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"pipeline {name}: {error}") from error
    raise ValueError(f"unknown pipeline {name!r}; expected a .toml file or one of {', '.join(pipeline_names())}")


def check_pipeline(tables: Mapping[str, Any], overrides: Iterable[str] = ()) -> Pipeline:
    """Turn the tables of a pipeline file into checked settings.

    Args:
        tables: ``description`` and ``stages``, each stage with ``use``, an optional ``name``, and its settings.
        overrides: ``STAGE.KEY=VALUE``, the value in TOML (a bare word counts as a string).

    Returns:
        The pipeline.

    Raises:
        ValueError: naming the key that is unknown or out of range, and what is allowed.
    """
    unknown = set(tables) - {"description", "stages"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r} in the pipeline; expected description and stages")
    entries = tables.get("stages")
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) and "use" in e for e in entries):
        raise ValueError("a pipeline needs [[stages]], each with a `use`")
    named = {str(entry.get("name", entry["use"])): dict(entry) for entry in entries}
    for name in named:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(
                f"stage name {name!r}: expected lower-case letters, digits, - and _, no name of the run's own"
            )
    if len(named) < len(entries):
        raise ValueError("two stages of the pipeline have the same name; give one of them a `name`")
    for override in overrides:
        key, equals, value = override.partition("=")
        stage, dot, setting = key.strip().partition(".")
        if not (equals and dot and setting):
            raise ValueError(f"--set expects STAGE.KEY=VALUE, received {override!r}")
        if setting in ("use", "name"):
            raise ValueError(f"--set {override}: which stages run is said in a pipeline file")
        if stage not in named:
            raise ValueError(f"--set {override}: no stage {stage!r}; expected one of {', '.join(named)}")
        named[stage][setting] = _toml_value(value.strip())
    return Pipeline(str(tables.get("description", "")), tuple(_check_stage(n, e) for n, e in named.items()))


def _check_stage(name: str, entry: dict[str, Any]) -> StageSpec:
    from glann.stages import STAGES

    stage = lookup("stages", STAGES, str(entry["use"]))
    values = {k: v for k, v in entry.items() if k not in ("use", "name")}
    try:
        return StageSpec(str(entry["use"]), name, stage.Settings(**values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in (name, *first["loc"]))
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            allowed = ", ".join(sorted(stage.Settings.model_fields))
            raise ValueError(f"unknown setting {key}; expected one of {allowed}") from error
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {what}, received {first['input']!r}") from error


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _folder() -> Any:
    """Where the pipeline files lie: inside the installed package, or beside it in a plain checkout."""
    try:
        return resources.files("glann.pipelines")
    except ModuleNotFoundError:
        return Path(__file__).parent.parent / "pipelines"
