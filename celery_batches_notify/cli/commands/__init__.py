"""The commands' names and options; a command imports its implementation when it runs."""
