"""A trained artefact on disk and on the Hugging Face Hub: config.json and model.safetensors."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from imle.atomic import write_atomically
from imle.errors import DataError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(directory: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files, each whole or not at all, the config last.

    Args:
        directory: made where it is missing.
        config: JSON-able.
        tensors: on any device.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    flat = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_atomically(directory / WEIGHTS, safetensors.torch.save(flat))
    write_atomically(directory / CONFIG, json.dumps(dict(config), indent=2).encode())


def load(source: str | Path, revision: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read both files.

    Args:
        source: a folder, or a Hub id such as ``user/name`` where no such folder exists.
        revision: branch, tag or commit on the Hub.

    Returns:
        The config and the tensors.

    Raises:
        DataError: if a file is missing or damaged, or there is no such repository.
    """
    config_path, weights_path = (_fetch(source, name, revision) for name in (CONFIG, WEIGHTS))
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(weights_path)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"cannot read a model from {source}: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{config_path}: expected an object, received {type(config).__name__}")
    return config, tensors


def push(
    repo_id: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], private: bool | None, token: str | None
) -> str:
    """Upload both files to the Hub.

    Args:
        repo_id: ``user/name``, made where it is missing.
        config: JSON-able.
        tensors: on any device.
        private: whether a new repository is private; None: as the account's settings say.
        token: for the Hub; None: the one that is stored.

    Returns:
        The address of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(folder, config, tensors)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def _fetch(source: str | Path, name: str, revision: str | None) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise DataError(f"expected {name} in {folder}, found none")
        return folder / name
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(str(source), name, revision=revision))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise DataError(f"expected a folder or a Hub id, received {source}: {error}") from error
