"""The forms of data that a data function may return, as arrays."""
