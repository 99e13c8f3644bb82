"""Files that survive a crash: atomic writes, a lock, a bounded log."""
