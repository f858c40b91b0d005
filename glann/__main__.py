"""``python -m glann``, also from a plain checkout."""

from glann.cli import main

main()
