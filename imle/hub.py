"""A trained artefact on disk and on the Hugging Face Hub: config.json and model.safetensors."""

import json
import tempfile
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from imle.atomic import write_atomically
from imle.checkpoint import read_weights, storable
from imle.errors import DataError
from imle.folder import CHECKPOINTS

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Pretrained(nn.Module):
    """A module that a folder with two files brings back: its config says how it is built, the rest are its weights."""

    def to_config(self) -> dict[str, Any]:
        """JSON-able facts from which `from_config` makes the same module, weights aside."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any], network: nn.Module | None = None) -> Self:
        """A module with fresh weights; ``load_state_dict`` brings the trained ones."""
        raise NotImplementedError

    def save_pretrained(
        self, directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **push: Any
    ) -> str | None:
        """Write config.json and model.safetensors, each whole or not at all.

        Args:
            directory: made where it is missing.
            repo_id: where on the Hub it goes if ``push_to_hub``; by default the directory's name.
            push_to_hub: whether it is uploaded as well.
            **push: further arguments of `push_to_hub`.

        Returns:
            The address of the commit, where it was uploaded.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / WEIGHTS, safetensors.torch.save(storable(self.state_dict())))
        write_atomically(directory / CONFIG, json.dumps(self.to_config(), indent=2).encode())
        return self.push_to_hub(repo_id or directory.resolve().name, **push) if push_to_hub else None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        network: nn.Module | None = None,
    ) -> Self:
        """Load a sampler from a folder, or from the Hugging Face Hub.

        Args:
            source: a folder, or a Hub id such as ``user/name`` where no such folder exists.
            revision: branch, tag or commit on the Hub.
            token: for the Hub; None: the one that is stored.
            cache_dir: where downloads are kept; None: where the Hub's library keeps them.
            local_files_only: take what was downloaded before, and ask nobody.
            force_download: even what is there already.
            network: for a sampler whose network is the caller's own.

        Returns:
            The sampler, in eval mode on the CPU.

        Raises:
            DataError: if files are missing or damaged, with every missing and unexpected weight.
        """
        download = {
            "revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only,
            "force_download": force_download,
        }  # fmt: skip
        config_path, weights_path = (_fetch(source, name, download) for name in (CONFIG, WEIGHTS))
        try:
            config = json.loads(config_path.read_text(encoding="utf-8"))
            tensors = read_weights(weights_path)
        except (OSError, ValueError, SafetensorError) as error:
            raise DataError(f"cannot read a model from {source}: {error}") from error
        if not isinstance(config, dict):
            raise DataError(f"{config_path}: expected an object, received {type(config).__name__}")
        try:
            loaded = cls.from_config(config, network)
            loaded.load_state_dict(tensors, strict=True)
        except DataError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"the weights in {source} do not fit its config.json: {error}") from error
        return loaded

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a sampler",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload config.json and model.safetensors to the Hugging Face Hub.

        Args:
            repo_id: ``user/name``, made where it is missing.
            commit_message: first line of the commit.
            private: whether a new repository is private; None: as the account's settings say.
            token: for the Hub; None: the one that is stored.
            branch: what is committed to; None: the main one.
            create_pr: open a pull request instead.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=commit_message, revision=branch, create_pr=create_pr
            )
        return str(commit)


def _fetch(source: str | Path, name: str, download: dict[str, Any]) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            hint = "; the fit has not finished, the same command goes on" if (folder / CHECKPOINTS).is_dir() else ""
            raise DataError(f"expected {name} in {folder}, found none{hint}")
        return folder / name
    if folder.exists():
        raise DataError(f"expected a folder or a Hub id, received the file {folder}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(str(source), name, **download))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise DataError(f"expected a folder or a Hub id, received {source}: {error}") from error
