"""Range checks for settings, with one wording everywhere."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def check_integer(name: str, value: Any, minimum: int) -> int:
    """The value as an int; refused where it is no integer ≥ minimum."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name}: expected an integer >= {minimum}, received {value!r}")
    return int(value)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """The value as a float; refused where it is no finite number from low to high, with ``open_low`` low itself too."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high or (open_low and value == low):
        bounds = [f"{'>' if open_low else '>='} {low:g}"] if math.isfinite(low) else []
        bounds += [f"<= {high:g}"] if math.isfinite(high) else []
        raise ValueError(f"{name}: expected a finite number {' and '.join(bounds)}, received {value!r}")
    return float(value)


def keep(settings: Any, **values: Any) -> None:
    """Put checked values into a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of the names."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, received {value!r}")


def check_device(name: Any) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch built without CUDA asserts
        raise ValueError(f"device: expected cpu, or cuda or mps where there is one, received {name!r}") from error
