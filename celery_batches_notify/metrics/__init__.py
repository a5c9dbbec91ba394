"""Metrics: what all batches of an app have come to, as Prometheus reads it."""
