"""``python -m cmcd_core.cli``: what torchrun starts."""

from . import main

main()
