"""Chat services: one module each."""
