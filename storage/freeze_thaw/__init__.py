"""SQL of freeze-thaw: scores at rungs, and the trials that are paused there and go on."""
