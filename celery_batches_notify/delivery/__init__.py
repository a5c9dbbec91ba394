"""Callbacks on their way: what was declared, how it is published, and what became of it."""
