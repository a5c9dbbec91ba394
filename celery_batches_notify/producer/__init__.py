"""The way of a call from a block to the store and the broker."""
