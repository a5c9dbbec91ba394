"""The worker's part: reporting outcomes, its heartbeat, its spool, and discarding cancelled members."""
