"""The definition of a study: its spec, identity, data and versions, which launches create and check."""
