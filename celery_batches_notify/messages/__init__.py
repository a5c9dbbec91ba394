"""Task messages: their header, the blocks that collect calls, the sender, and canvas.

Every message passes `sender`: into an open block (`block`), or to the broker, perhaps as a successor in a
canvas (`successors`, `canvas`). `task_sender` makes calls in a block from `templates`, which is faster.
"""
