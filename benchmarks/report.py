"""What the looks at a training and the page about it cost: processor seconds and bytes.

python benchmarks/report.py IMAGES [--out RUN] [further options of `glann fit`]
"""

import argparse
import tempfile
import time
from pathlib import Path

import imle.fit
from glann import glo, pipeline, report
from glann.info import read_run
from glann.snapshots import Snapshots


def timed(fit, spent, name):
    """The same fit, which adds up the processor seconds of its previews and of all of it."""

    def run(*args, preview, **options):
        def look(*seen):
            started = time.process_time()
            preview(*seen)
            spent[name]["looks"] += time.process_time() - started

        started = time.process_time()
        result = fit(*args, preview=look, **options)
        spent[name]["all"] += time.process_time() - started
        return result

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pipeline", default="quick")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    spent = {name: {"looks": 0.0, "all": 0.0} for name in ("glo", "imle")}
    glo.fit, imle.fit.fit = timed(glo.fit, spent, "glo"), timed(imle.fit.fit, spent, "imle")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch) / "run"
        request = pipeline.Request(options.images, out, pipeline=options.pipeline, overrides=options.overrides)
        pipeline.fit(request, lambda line: None)
        for stage in read_run(out).stages:
            looks = Snapshots(out / stage.name, 1)
            size = sum(looks.path(epoch).stat().st_size for epoch in looks.epochs())
            cost, whole = spent[stage.name]["looks"], spent[stage.name]["all"]
            print(f"{stage.name}: {len(looks.epochs())} looks, {cost:.2f} s of {whole:.1f} s, {size:,} bytes")
        started = time.process_time()
        page = report.write(out)
        print(f"report: {time.process_time() - started:.1f} s, {page.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
