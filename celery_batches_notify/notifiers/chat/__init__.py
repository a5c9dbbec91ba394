"""Chat services: one module each. Those with incoming webhooks share `base`."""
