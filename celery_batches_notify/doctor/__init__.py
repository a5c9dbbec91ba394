"""Diagnosis and repair: find the members that a batch waits for, and end or resend those that vanished."""
