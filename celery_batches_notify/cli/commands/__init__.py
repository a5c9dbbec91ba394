"""The names and options of all commands, each of which runs a function of a module beside this folder."""
