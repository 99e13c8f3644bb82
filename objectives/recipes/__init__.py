"""Parts of good training recipes, for any Keras model: layers, an initializer, and options of the training loop."""
