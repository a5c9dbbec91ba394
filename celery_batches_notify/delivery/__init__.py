"""Callbacks, from their declaration to their delivery.

`callbacks` checks what `on()` declares. `publisher` publishes what is due, `outgoing` does so in the
background. `attempt` sends a notification, and `addresses` lets others wait while its receiver fails.
`settling` says what the end of a callback's task means for its delivery. `parents` reports a child batch to
its parent.
"""
