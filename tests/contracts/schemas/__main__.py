"""`python -m tests.contracts.schemas`."""

from tests.contracts.schemas import main

main()
