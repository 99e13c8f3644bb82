"""The number of lanes that `--lanes auto` chooses for an objective on this host."""
