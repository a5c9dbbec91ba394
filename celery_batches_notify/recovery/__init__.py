"""Repairs by any worker: lost workers and producers, unsent retries, overdue callbacks.

`sweeper` calls the other modules, again and again, in one worker at a time.
"""
