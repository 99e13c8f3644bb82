"""A model of learning curves over the parameters of a study."""
