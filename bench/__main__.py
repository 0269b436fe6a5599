"""Run the bench's commands: `python -m bench`."""

from bench.cli import main

main()
