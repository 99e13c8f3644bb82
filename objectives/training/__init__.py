"""Training of a Keras model: the loop and its parts."""
