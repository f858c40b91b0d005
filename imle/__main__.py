"""``python -m imle``."""

from imle.cli import main

if __name__ == "__main__":
    main()
