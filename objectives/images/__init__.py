"""Image files of your own, in class folders or a table, decoded once into a cache that a host's processes share."""
