"""``python -m equirl`` is the command ``equirl``."""

from equirl.commands import main

main()
