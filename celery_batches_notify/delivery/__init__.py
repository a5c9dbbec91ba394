"""Callbacks, from their declaration to their delivery.

`callbacks` checks what `on()` declares. `publisher` publishes what is due, unless its `rules` do not hold or
it is `waiting` for its address; `outgoing` does so in the background. `attempt` sends a notification,
`backoff` says when it is tried again, and `addresses` lets others wait while its receiver fails. `settling`
says what the end of a callback's task means for its delivery. `parents` reports a child batch to its parent.
"""
