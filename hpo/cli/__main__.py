"""`python -m hpo.cli`: the command `hpo`, if the console script is not on the path."""

from hpo.cli.main import main

main()
