"""Repairs by any worker: lost workers and producers, unsent retries, overdue callbacks."""
