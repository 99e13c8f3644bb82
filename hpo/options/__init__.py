"""Requests of a user as values, and the command-line option of each of their fields.

Nothing heavy is imported here, so that help texts stay fast.
"""
