"""Healing, which any worker does."""
