"""The only door to Redis: what a batch's keys hold, and the scripts that change them.

`store` has the class that others use. Each script in `scripts/` has a method of its name, in the module of
its noun. `keys` names all keys, `packing` packs arguments, and `parsing` reads what the keys hold.
"""
