"""Following members: enrolling calls on the producer's side, reporting outcomes on the worker's."""
