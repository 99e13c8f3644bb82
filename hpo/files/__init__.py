"""Files that survive a crash: atomic writes, an exclusive lock, a bounded log."""
