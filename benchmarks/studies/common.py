"""What the studies share: where results go, tables, figures, worker processes, latents, the network of the toys."""

import itertools
import json
import multiprocessing
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor, nn

DOCS = Path(__file__).resolve().parents[2] / "docs" / "studies"
COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#66a182", "#6d597a", "#8d99ae", "#2e4057")
WIDTH = 7.0  # inches; at 100 dpi a page shows it as 700 px

plt.rcParams.update(
    {
        "figure.dpi": 100, "savefig.dpi": 160, "font.size": 10, "axes.titlesize": 10.5, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=COLOURS), "figure.constrained_layout.use": True,
    }
)  # fmt: skip


def save(name: str, results: dict[str, Any], figures: dict[str, Any], part: str = "") -> None:
    """Write docs/studies/data/NAME.json, or NAME_PART.json, and one PNG a figure."""
    (DOCS / "data").mkdir(parents=True, exist_ok=True)
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    arguments = [Path(a).name if "/" in a else a for a in sys.argv[1:]]  # where a file lies is nobody's business
    facts = {
        "command": " ".join(["python", f"benchmarks/studies/{name}.py", *arguments]),
        "torch": torch.__version__, "python": platform.python_version(), **results,
    }  # fmt: skip
    data = DOCS / "data" / f"{name}{f'_{part}' * bool(part)}.json"
    data.write_text(json.dumps(rounded(facts), indent=1) + "\n")
    for file, figure in figures.items():
        path = DOCS / "images" / f"{file}.png"
        figure.savefig(path)
        with Image.open(path) as picture:  # 256 colours do, in a third of the bytes
            picture.convert("RGB").quantize(256).save(path, optimize=True)
    print(f"\nwritten: {data}, {', '.join(str(DOCS / 'images' / f'{f}.png') for f in figures)}")


def rounded(value: Any) -> Any:
    """Floats to five significant digits, all the way down."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Markdown table."""
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard deviation over seeds."""
    values = [float(v) for v in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"


def in_workers(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int) -> list[Any]:
    """The answers to all jobs in order, from processes of one thread each, with a dot on standard error a job."""
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        waiting = [pool.apply_async(function, job) for job in jobs]
        answers = []
        for answer in waiting:
            answers.append(answer.get())
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return answers


def latents(path: str) -> Tensor:
    """(N, d) float32 from a safetensors file with the key ``latents``, as ``glann fit`` leaves it in RUN/glo."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    if "latents" not in tensors:
        raise SystemExit(f"{path}: expected the key 'latents', received {sorted(tensors)}")
    return tensors["latents"].float()


def split(x: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit, and ``held_out`` other rows to judge by."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order[held_out:]], x[order[:held_out]]


def gaussian_samples(x: Tensor, count: int, seed: int) -> Tensor:
    """Samples of the normal distribution with the mean and covariance of x."""
    values, vectors = torch.linalg.eigh(torch.cov(x.T.double()))
    noise = torch.randn(count, x.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x.double().mean(0) + noise * values.clamp_min(0).sqrt() @ vectors.T).float()


class MLP(nn.Module):
    """Linear and ReLU, ``depth`` times, and a last Linear; scale and shift are constants."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, scale: float = 1.0, shift: float = 0.0):
        super().__init__()
        sizes = [inputs] + [width] * depth
        hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, outputs))
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layers(x) + self.shift


class GradientNorm:
    """Euclidean norm of the whole gradient of a module, whoever calls backward: read it after every step."""

    def __init__(self, module: nn.Module):
        self._squares = 0.0
        for parameter in module.parameters():
            parameter.register_hook(self._add)

    def _add(self, gradient: Tensor) -> None:
        self._squares += float(gradient.square().sum())

    def take(self) -> float:
        norm, self._squares = self._squares**0.5, 0.0
        return norm
