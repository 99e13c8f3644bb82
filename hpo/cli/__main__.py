"""`python -m hpo.cli`: the command `hpo` where the console script is not on the path."""

from hpo.cli.main import main

main()
