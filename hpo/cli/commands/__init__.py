"""The commands of `hpo`: one module each, named as the command or the noun that its commands share."""
