"""The only door to Redis: what a batch's keys hold, and the scripts that change them.

`store` has the class that others use. Most scripts in `scripts/` have a method of their name, in the module
of their noun. `keys` names all keys, `packing` packs arguments, and `parsing` reads what the keys hold.
"""
