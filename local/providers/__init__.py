"""Small providers that stand in where the real plugins' binaries cannot be had.

Each speaks the engine's provider protocol, so a program runs unchanged on either.
"""
