"""Diagnosis and repair: find the members that a batch waits for, and end or resend those that vanished.

`reasons` says why one batch is not done, from the store alone. `diagnosis` looks over all live batches;
`examination` looks into one, and asks broker, workers and result backend (`locate`). `reconcile` repairs,
and `still_batches` lets workers do that by themselves.
"""
