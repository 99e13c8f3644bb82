"""Processes that train several attempts at once, each in a lane."""
