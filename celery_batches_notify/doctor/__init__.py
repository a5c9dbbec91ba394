"""Repair: where the members are that a batch waits for, and what is done about those that are nowhere."""
