"""The only door to Redis: what a batch's keys hold, and the scripts that change them."""
