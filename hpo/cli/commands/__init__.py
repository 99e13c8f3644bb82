"""Commands of `hpo`: a package for each section of its help, a module for each command or shared noun."""
