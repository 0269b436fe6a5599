"""`python -m orbital` is the command `orbital`."""

from orbital.cli import main

main()
