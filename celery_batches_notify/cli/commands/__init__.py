"""The commands' names and options, by what they do; what they do it with is imported when one is run."""
