"""What a data function of yours may return, and the arrays that are made of it."""
