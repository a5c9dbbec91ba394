"""Task messages: the header, what collects calls, the one way out, canvas."""
