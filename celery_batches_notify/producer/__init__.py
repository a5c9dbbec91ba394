"""From a call in a block to a member in the store."""
