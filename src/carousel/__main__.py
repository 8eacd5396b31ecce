"""`python -m carousel` is the command line."""

from carousel.cli import main

main()
