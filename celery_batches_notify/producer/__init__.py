"""The way of a call from a block to the store and the broker.

`intake` takes calls from blocks, `add` and `map`. `enrolment` makes them members, and publishes them chunk
by chunk. `ways` chooses how: stamped for Redis (`stamping`), prepared for any broker (`preparing`), or by
Celery.
"""
