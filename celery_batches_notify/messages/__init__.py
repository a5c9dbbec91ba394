"""Task messages: their header, the blocks that collect calls, the sender, and canvas."""
