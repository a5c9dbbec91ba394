"""Callbacks: their declaration, their publishing, and their delivery."""
