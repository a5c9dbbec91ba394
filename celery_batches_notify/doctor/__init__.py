"""Repair: find the members that a batch waits for, and settle those that have vanished."""
