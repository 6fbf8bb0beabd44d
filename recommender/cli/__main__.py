"""`python -m recommender.cli`: the `coldstart` command."""

from __future__ import annotations

from recommender.cli import main

if __name__ == "__main__":
    main()
