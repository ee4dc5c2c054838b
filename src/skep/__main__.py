"""`python -m skep`."""

from skep.cli import command

command()
