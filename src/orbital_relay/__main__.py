"""`python -m orbital_relay` is the command `orbital`."""

from orbital_relay.cli import main

main()
