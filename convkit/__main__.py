"""`python -m convkit` is the command `convkit`."""

from convkit.cli.main import main

main()
