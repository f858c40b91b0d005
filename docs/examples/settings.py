"""Writes docs/settings.md: every setting of the built-in stages, from the descriptions in glann/settings.py.

python docs/examples/settings.py
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from glann.settings import RULES, GLOSettings, IMLESettings, load_pipeline, pipeline_names

PAGE = Path(__file__).resolve().parents[1] / "settings.md"
STAGES: dict[str, type[BaseModel]] = {"glo": GLOSettings, "imle": IMLESettings}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}

HEAD = """\
# Settings

<!-- written by docs/examples/settings.py -->

`glann fit IMAGES --set STAGE.KEY=VALUE`, or lines in a pipeline file. A value is TOML; a word needs no quotes.
`--dry-run` prints what a call would take. Once a run has begun, only `epochs` may change, and only grow. Options of the
command itself: `glann fit --help`.
"""


def allowed(key: str, field: Any) -> str:
    """What a setting may be, in a few signs."""
    if key in RULES:
        return ", ".join(f"`{rule}`" for rule in RULES[key].values())
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    kinds = [getattr(k, "__name__", "") for k in (get_args(kind) or (kind,)) if k is not type(None)]
    bounds = [f"{SIGNS[name]} {getattr(m, name):,}" for m in field.metadata for name in SIGNS if hasattr(m, name)]
    words = {"int": "whole number", "float": "number", "bool": "`true`, `false`", "str": "text", "dict": "table"}
    return " ".join([words["dict" if get_origin(kind) is dict else kinds[0]], *([", ".join(bounds)] if bounds else [])])


def value(of: Any) -> str:
    """A default as it would be typed."""
    if isinstance(of, dict):
        return "{" + ", ".join(f"{k}={value(v)}" for k, v in of.items()) + "}"
    return "" if of is None else of if isinstance(of, str) else json.dumps(of)


def page() -> str:
    """The whole page."""
    named = {name: load_pipeline(name)["stages"] for name in ("glann", "quick")}
    lines = [HEAD]
    for stage, settings in STAGES.items():
        given = {n: next(s for s in stages if s["use"] == stage) for n, stages in named.items()}
        lines += [f"## `{stage}`: stage {list(STAGES).index(stage) + 1}", ""]
        lines += ["| key | default | in `glann` | in `quick` | allowed | what it does |", "|---" * 6 + "|"]
        for key, field in settings.model_fields.items():
            default = value(field.get_default(call_default_factory=True))
            own = [value(given[name].get(key)) for name in named]
            cells = [f"`{text}`" if text else "" for text in (default, *own)]
            lines.append(f"| `{key}` | " + " | ".join([*cells, allowed(key, field), field.description or ""]) + " |")
        lines.append("")
    lines += [
        "`loss`: see [distances](distances.md); `generator`: [generators](generators.md); the rest of `imle` is what"
        " [`imle.IMLE`](imle.md) takes.",
        f"Pipelines: {', '.join(f'`{name}`' for name in pipeline_names())}, in [`pipelines/`](../pipelines).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
