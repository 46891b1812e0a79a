"""``python -m cmcd_core``: the command line."""

from .cli import main

main()
