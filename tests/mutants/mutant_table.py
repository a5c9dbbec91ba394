"""Each safety, how it is taken away, and the test that must then go red.

The source names a safety by a comment at the end of its line, `# safety: NAME` (`-- safety: NAME` in Lua), so
the table survives a rewording and a move. If the line has no room, the comment has a line to itself above it.
A mutant says what stands in the place of that line; the line's block goes with it, unless the new line opens
a block as well. `GONE` removes the line. Two mutants of one line share its name.

To add a safety: mark its line, add a `Mutant`, and run `python tests/mutants/run.py NAME`.
`test_mutant_table.py` checks that each name stands exactly once in the package, and has a mutant.
"""

from __future__ import annotations

from dataclasses import dataclass

SCRIPTS, LATE = "tests/store/test_scripts.py", "tests/store/test_late_members.py"
SWEEPER, REPORTER = "tests/recovery/test_sweeper.py", "tests/worker/test_reporter.py"
ABANDONED, LISTS = "tests/recovery/test_lost_producers.py", "tests/store/test_lists.py"
LEASES, RECONCILE = "tests/worker/test_heartbeat.py", "tests/doctor/test_reconcile.py"
ATTEMPTS, ADDRESSES = "tests/delivery/test_attempt.py", "tests/delivery/test_addresses.py"
ENDS, END_TO_END = "tests/delivery/test_every_delivery_ends.py", "tests/delivery/test_end_to_end.py"
EMAIL_OPTIONS = "tests/notifiers/test_email_options.py"
REFERENCES = "tests/notifiers/test_references.py"
DEAD = "tests/store/test_dead_members.py"
NO_TEMPORARY = "tests/worker/test_no_temporary_directory.py"
GOING_ON = "tests/worker/test_going_on.py"
FOLLOWED, FOLLOWING = "tests/store/test_followed.py", "tests/test_following.py"
SETTLING, CALLBACK_TASKS = "tests/store/test_settling.py", "tests/delivery/test_callback_tasks.py"
DOCTOR = "tests/cli/test_doctor_callbacks.py"
BATCH, FAMILY, PUBLISHER = "tests/test_batch.py", "tests/test_family.py", "tests/delivery/test_publisher.py"

WEB_MAPS = "tests/web/test_maps.py"
WEB_ACCESS, WEB_SHARING = "tests/web/test_access.py", "tests/web/test_sharing.py"

GONE = ""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A safety that is taken away: its name in the source, the code that replaces its line, and its test."""

    safety: str
    name: str
    new: str
    killer: str


STILL, PLAIN = "tests/doctor/test_still_batches.py", "tests/store/test_plain_success.py"
SHARED = "tests/worker/test_shared_replay.py"
WATCH, SHOW, CHANGE = "tests/cli/test_watch.py", "tests/cli/test_show.py", "tests/cli/test_change.py"
BLOCKS, CUT_SHORT = "tests/test_blocks.py", "tests/test_cut_short.py"
SOFT_LIMITS = "tests/producer/test_soft_limits.py"
OTHER_APPS = "tests/messages/test_other_apps.py"

COUNTING = "tests/metrics/test_counting.py"
WAYS = "tests/producer/test_ways.py"

OTHERS = "tests/messages/test_other_packages.py"

MUTANTS = (
    # Beside other packages
    Mutant(
        "a task of celery-batches is no member",
        "buffered-call",
        GONE,
        f"{OTHERS}::test_a_task_of_celery_batches_is_no_member",
    ),
    Mutant(
        "a task of celery-batches is no callback",
        "buffered-callback",
        "if False:",
        f"{OTHERS}::test_a_task_of_celery_batches_is_no_callback",
    ),
    Mutant(
        "a lock does not outlive a call that was dropped",
        "dropped-lock",
        "pass",
        f"{OTHERS}::test_a_block_that_raises_releases_the_locks_of_its_calls",
    ),
    Mutant(
        "callbacks carry the trace of a member whose run is over",
        "carried-trace",
        "request = {}",
        "tests/messages/test_traces.py::test_a_callback_carries_the_trace_headers_of_the_member_that_made_it_due",
    ),
    Mutant(
        "callbacks are published in the trace of the report that made them due",
        "outgoing-context",
        "self._publisher.publish(bid, recorded)",
        "tests/delivery/test_outgoing.py::test_each_delivery_is_published_in_the_context_of_its_report",
    ),
    # Faster ways to the broker
    Mutant(
        "results that somebody holds are watched before their calls leave",
        "held-results-watched",
        "pass",
        "tests/messages/test_watched_results.py::test_held_results_are_watched_before_their_calls_leave",
    ),
    Mutant(
        "a repr that is cut short is Celery's",
        "long-repr",
        "if True:",
        "tests/messages/test_plain_repr.py::test_what_is_too_long_is_cut_as_celery_cuts_it",
    ),
    Mutant(
        "a text with quotes is shown as Celery shows it",
        "escaped-repr",
        "if False:",
        "tests/messages/test_plain_repr.py::test_a_text_is_shown_with_its_own_quotes_and_escapes",
    ),
    Mutant(
        "a template is made anew after a fork",
        "template-origin",
        GONE,
        f"{WAYS}::test_a_forked_process_is_the_origin_of_its_messages",
    ),
    Mutant(
        "messages whose reply was lost may have arrived",
        "unknown-not-unsent-pushed",
        GONE,
        f"{WAYS}::test_what_a_lost_connection_leaves_open_is_unknown_and_resume_sends_it_again",
    ),
    Mutant(
        "messages that left together may have arrived if their reply was lost",
        "unknown-not-unsent-at-once",
        GONE,
        f"{WAYS}::test_calls_that_left_together_are_unknown_if_their_reply_is_lost",
    ),
    Mutant(
        "a prepared message whose connection was lost may have arrived",
        "unknown-not-unsent-prepared",
        GONE,
        "tests/producer/test_confirms.py::test_what_a_lost_connection_leaves_open_is_unknown",
    ),
    Mutant(
        "properties that differ from py-amqp's are written by py-amqp",
        "properties-proven",
        "return found",
        "tests/producer/test_confirms.py::test_properties_that_differ_from_py_amqps_are_not_sent",
    ),
    Mutant(
        "what was gathered is written before its calls count as sent",
        "gathered-written",
        "pass",
        "tests/producer/test_writing.py::test_gathered_messages_are_written_as_each_would_be",
    ),
    Mutant(
        "py-amqp writes for itself when the messages have left",
        "writer-restored",
        "pass",
        "tests/producer/test_writing.py::test_after_a_block_each_message_is_written_at_once",
    ),
    Mutant(
        "a message that was not confirmed may have arrived",
        "unknown-not-unsent-confirmed",
        GONE,
        "tests/producer/test_confirms.py::test_what_a_lost_connection_leaves_open_is_unknown",
    ),
    Mutant(
        "messages go where the producer's present connection goes",
        "line-of-channel",
        "if self._channel is None:",
        f"{WAYS}::test_after_a_failover_messages_go_to_the_next_broker",
    ),
    Mutant(
        "a refusal says nothing about an earlier attempt",
        "refused-or-unknown",
        "if True:",
        f"{WAYS}::test_what_was_unknown_stays_so_if_the_next_attempt_is_refused",
    ),
    # The store's own timeouts
    Mutant(
        "a report waits no longer than it may, whatever socket_timeout says",
        "report-budget",
        "self._prompt = store",
        f"{REPORTER}::test_a_report_gives_up_in_time_though_the_stores_own_timeouts_are_long",
    ),
    Mutant(
        "a report waits no longer for the sentinels either",
        "sentinel-budget",
        'capped["sentinel_kwargs"] = theirs',
        "tests/test_store_url.py::test_sentinels_are_waited_for_no_longer_than_the_store",
    ),
    Mutant(
        "bytes are read whatever the URL's query says",
        "bytes-replies",
        "return hosts, {**_patience(), **given}",
        "tests/test_store_url.py::test_bytes_are_read_though_the_query_asks_for_text",
    ),
    Mutant(
        "a retry from before the clock was set back is sent at once",
        "retry-clock-set-back",
        'resend_due=0 < n["resend_at"] <= now,',
        f"{LISTS}::test_a_retry_that_was_claimed_before_the_clock_was_set_back_is_sent_at_once",
    ),
    Mutant(
        "a master with too few replicas may be one no longer",
        "demoted-master",
        'if isinstance(exc, ReadOnlyError) or any(word in str(exc) for word in ("READONLY",)):',
        "tests/store/test_refusals.py::test_a_connection_to_what_was_the_master_is_not_used_again",
    ),
    # Plain successes
    Mutant(
        "a success that ends a batch is decided by the long way",
        "plain-not-last",
        GONE,
        f"{PLAIN}::test_a_success_changes_the_same_by_the_short_way",
    ),
    Mutant(
        "a batch that lost its members' states counts nothing by the short way either",
        "plain-lost-key",
        "local state = math.floor((four or 0) / unit) % 4",
        f"{PLAIN}::test_a_success_changes_the_same_by_the_short_way",
    ),
    Mutant(
        "a batch whose life has to be renewed takes the long way",
        "plain-renewed",
        GONE,
        f"{PLAIN}::test_a_success_changes_the_same_by_the_short_way",
    ),
    Mutant(
        "of a group the success that ends the batch is left to the long way",
        "group-not-last",
        "elseif stands_there and state == WAITING then",
        f"{PLAIN}::test_only_what_ends_a_batch_is_left_apart",
    ),
    Mutant(
        "a group counts only members whose ids stand at their indexes",
        "group-id",
        "local stands_there = index < total",
        f"{PLAIN}::test_a_group_counts_nobody_whose_id_stands_elsewhere",
    ),
    Mutant(
        "a batch that lost its members' states counts no group either",
        "group-lost-key",
        GONE,
        f"{PLAIN}::test_a_success_changes_the_same_by_the_short_way",
    ),
    Mutant(
        "members that have succeeded in a group are not kept",
        "group-not-kept",
        GONE,
        f"{PLAIN}::test_a_success_changes_the_same_by_the_short_way",
    ),
    Mutant(
        "what a shared call leaves apart is reported by itself",
        "replay-apart",
        "shared |= {line for (line, _), word in answered}",
        f"{SHARED}::test_successes_of_a_batch_share_calls_and_send_a_token_each",
    ),
    Mutant(
        "a damaged batch keeps no other from being counted together",
        "replay-each-batch",
        "raise",
        f"{SHARED}::test_a_damaged_batch_keeps_no_other_batch_of_the_spool_from_being_counted",
    ),
    # Kept calls and vanished members
    Mutant(
        "a member that never ran and is sent again still waits",
        "resent-waits",
        "local waits = false",
        "tests/test_keep_calls.py::"
        "test_whatever_way_a_batch_is_filled_an_emptied_broker_gets_all_of_it_again",
    ),
    Mutant(
        "a member that has plainly succeeded is not kept",
        "plain-not-kept",
        GONE,
        "tests/test_keep_calls.py::test_a_call_is_kept_until_its_member_has_succeeded",
    ),
    Mutant(
        "a member that has succeeded is not kept",
        "succeeded-not-kept",
        GONE,
        "tests/test_keep_calls.py::test_a_call_is_kept_until_its_member_has_succeeded",
    ),
    Mutant(
        "whatever a worker kept, a kept call can be sent again",
        "kept-call-resent",
        GONE,
        "tests/test_keep_calls.py::test_retry_sends_a_dead_member_whose_call_no_worker_kept",
    ),
    Mutant(
        "one worker looks into a batch that stands still",
        "one-examination",
        GONE,
        f"{STILL}::test_of_many_workers_one_looks_and_not_again_for_a_while",
    ),
    Mutant(
        "a cancelled member that vanished is not sent again",
        "cancelled-not-resent",
        'over += [member] if word in ("exhausted",) else []',
        "tests/test_keep_calls.py::test_a_cancelled_batchs_members_are_not_sent_again",
    ),
    Mutant(
        "a full store refuses kept calls before anything is enrolled",
        "full-store-refuses",
        'if info.get("maxmemory_policy") == "noeviction" and False:',
        "tests/test_keep_calls.py::test_a_store_that_is_nearly_full_refuses_before_anything_is_enrolled",
    ),
    # A Cluster
    Mutant(
        "a worker's records follow its key to another node",
        "node-moved",
        "if False:",
        "tests/test_topologies.py::test_a_worker_marks_what_it_begins_where_its_key_has_moved_to",
    ),
    Mutant(
        "a note that no beat repeats is written for sure",
        "sure-note",
        GONE,
        "tests/test_topologies.py::test_a_worker_marks_what_it_begins_where_its_key_has_moved_to",
    ),
    # Cancelling
    Mutant(
        "a cancelled member does not enter Celery's own revoked set",
        "own-revoked",
        "request.revoked = revoked; worker_state.revoked.add(request.id)",
        "tests/worker/test_cancellation.py::"
        "test_a_cancelled_member_does_not_run_and_celerys_revoked_set_stays_the_users",
    ),
    Mutant(
        "a cancelled member that was delivered twice runs neither time",
        "earlier-request",
        GONE,
        "tests/worker/test_cancellation.py::test_a_member_that_was_delivered_twice_runs_neither_time",
    ),
    # How people hold it
    Mutant(
        "a closed frame takes nothing",
        "closed-frame",
        "if frame.app is not None:",
        f"{BLOCKS}::test_a_copied_context_calls_at_once_after_the_block",
    ),
    Mutant(
        "a fork's child does not collect calls, which would be lost with it",
        "forked-frame",
        "return self._is_open",
        f"{BLOCKS}::test_a_forks_child_calls_at_once_and_leaves_the_block_to_its_parent",
    ),
    Mutant(
        "a fork's child that exits inside the block leaves the batch alone",
        "forks-block",
        GONE,
        f"{BLOCKS}::test_a_forks_child_that_exits_in_the_block_drops_nothing_of_its_parents",
    ),
    Mutant(
        "a fork's child does not add to a block that ends in its parent",
        "forks-batch",
        GONE,
        f"{BLOCKS}::test_a_forks_child_calls_at_once_and_leaves_the_block_to_its_parent",
    ),
    Mutant(
        "a soft limit at the end of a block is no refusal of the broker",
        "soft-limit-is-the-tasks",
        GONE,
        f"{SOFT_LIMITS}::test_a_soft_limit_that_strikes_as_calls_leave_is_raised_once",
    ),
    Mutant(
        "a soft limit is not swallowed while a hundred messages leave",
        "soft-limit-at-once",
        GONE,
        f"{SOFT_LIMITS}::test_a_soft_limit_that_strikes_as_calls_leave_is_raised_once",
    ),
    Mutant(
        "a soft limit is not swallowed while a call is made",
        "soft-limit-in-call",
        GONE,
        f"{SOFT_LIMITS}::test_a_soft_limit_that_strikes_while_a_call_is_made_drops_the_block",
    ),
    Mutant(
        "a soft limit is not swallowed while map makes calls",
        "soft-limit-in-map",
        GONE,
        f"{SOFT_LIMITS}::test_a_soft_limit_that_strikes_in_a_map_leaves_it",
    ),
    Mutant(
        "each call of a canvas that is mapped has ids of its own",
        "mapped-canvas-copied",
        "task.apply_async(arguments)",
        f"{BATCH}::test_each_call_of_a_mapped_canvas_has_ids_of_its_own",
    ),
    Mutant(
        "a call for another broker is refused, because the block sends to the app's",
        "other-broker",
        "pass",
        f"{BLOCKS}::test_a_call_over_a_connection_to_another_broker_is_refused_in_a_block",
    ),
    Mutant(
        "a call with an id that is no text is refused before the block ends",
        "id-is-text",
        "if not (task_id := message.headers['id']):",
        f"{BLOCKS}::test_an_id_that_is_no_text_is_refused_at_the_call",
    ),
    Mutant(
        "a parent of another app is refused, because its store gets no report",
        "parents-app",
        GONE,
        f"{FAMILY}::test_a_parent_of_another_app_is_refused",
    ),
    Mutant(
        "a callback whose class gives it an id is not waited for",
        "id-of-its-class",
        "is_watched = True",
        f"{PUBLISHER}::test_a_callback_with_an_id_of_its_class_is_delivered_when_it_is_published",
    ),
    Mutant(
        "a second block of one transaction is refused before the commit",
        "sealing-at-commit",
        "if self._enrolment.is_sealed:",
        "tests/test_on_commit.py::test_a_second_go_in_one_transaction_is_refused_before_the_commit",
    ),
    Mutant(
        "a member that raises Retry without a retry is dead",
        "retry-left",
        GONE,
        f"{GOING_ON}::test_a_member_is_dead_if_it_raises_retry_and_none_has_left",
    ),
    Mutant(
        "an eager member whose failure reaches its caller is dead",
        "eager-propagates",
        GONE,
        f"{BATCH}::test_an_eager_failure_that_propagates_counts_as_dead",
    ),
    Mutant(
        "a callback that is retried under another id is not waited for",
        "callbacks-other-id",
        "pass",
        f"{GOING_ON}::test_a_callback_that_is_retried_under_another_id_is_delivered_then",
    ),
    Mutant(
        "a send_task that somebody has wrapped stays wrapped",
        "wrapped-send-task",
        "self._wrapped = None",
        f"{OTHERS}::test_what_somebody_wrapped_before_is_called_as_ever",
    ),
    Mutant(
        "a sender that somebody has wrapped stays wrapped",
        "wrapped-sender",
        "return None",
        f"{OTHERS}::test_what_somebody_wrapped_before_is_called_as_ever",
    ),
    Mutant(
        "a chain is not called twice with one id for its last link",
        "chain-called-twice",
        GONE,
        f"{BATCH}::test_a_second_call_of_a_chain_with_the_same_ids_is_refused",
    ),
    Mutant(
        "a call that is too late for a closing frame is not collected",
        "closing-frame",
        GONE,
        f"{BLOCKS}::test_a_frame_that_closes_while_a_call_is_made_ready_does_not_take_it",
    ),
    Mutant(
        "a block of another app hides nothing",
        "other-app-block",
        "return frame if frame.app is app else None",
        f"{BLOCKS}::test_a_block_of_another_app_does_not_hide_the_outer_one",
    ),
    Mutant(
        "a call of another app is refused in a block",
        "foreign-call",
        GONE,
        f"{BLOCKS}::test_a_shared_task_of_another_current_app_is_refused_in_a_block",
    ),
    Mutant(
        "a call of an app without batches is refused in a block",
        "plain-app-call",
        "pass",
        f"{OTHER_APPS}::test_a_call_of_an_app_without_batches_is_refused_in_a_block",
    ),
    Mutant(
        "a task of an app without batches may retry in a block",
        "foreign-retry",
        "if True:",
        f"{OTHER_APPS}::test_a_task_of_an_app_without_batches_may_retry_in_a_block",
    ),
    Mutant(
        "an app that sent calls before the first Batches is refused too",
        "early-plain-app",
        "if False:",
        f"{OTHER_APPS}::test_an_app_that_sent_calls_before_is_refused_too",
    ),
    Mutant(
        "batch stream looks for the end once all subscriptions are confirmed",
        "all-subscribed",
        "if True:",
        "tests/cli/test_stream.py::test_batches_that_end_while_their_subscriptions_are_confirmed_lose_no_token",
    ),
    Mutant(
        "a callback is published outside all blocks",
        "outside-blocks",
        "with self._lock:",
        f"{BLOCKS}::test_a_callback_that_is_published_in_a_block_is_nobodys_member",
    ),
    Mutant(
        "a callback's message is nobody's member",
        "callback-no-member",
        "if False:",
        f"{BLOCKS}::test_a_message_under_a_callbacks_own_id_is_not_collected",
    ),
    Mutant(
        "a task leaves no block behind",
        "task-leaves-block",
        GONE,
        f"{BLOCKS}::test_a_task_leaves_no_block_to_the_code_that_ran_it",
    ),
    Mutant(
        "add goes to its own batch",
        "add-own-batch",
        "if not next(open_frames()).collect(calls):",
        f"{BLOCKS}::test_add_goes_to_its_own_batch_whatever_block_is_innermost",
    ),
    Mutant(
        "a batch that its raising block has stored is removed",
        "raised-block-discarded",
        GONE,
        f"{BLOCKS}::test_a_raising_block_leaves_its_child_and_no_parent",
    ),
    Mutant(
        "a batch whose calls were not all made is not sealed",
        "whole-seal",
        "if False:",
        f"{CUT_SHORT}::test_an_autoflush_block_that_the_broker_broke_stays_open_after_resume",
    ),
    Mutant(
        "an interrupted map is remembered",
        "unread-map",
        GONE,
        f"{CUT_SHORT}::test_resume_goes_on_with_the_iterable_of_a_broken_map",
    ),
    Mutant(
        "no batch is sealed while an iterable is read",
        "reading-open",
        GONE,
        f"{CUT_SHORT}::test_only_its_end_seals_a_batch_while_an_iterable_is_read",
    ),
    Mutant(
        "calls that an interrupted map has not made are missed by the sweeper too",
        "unread-not-last",
        "is_last = True or not self._reading and self._faults <= forgiven",
        f"{ABANDONED}::test_a_broken_map_is_missed_though_calls_were_added_behind_it",
    ),
    Mutant(
        "resume seals nothing where nothing was begun",
        "resume-nothing",
        GONE,
        f"{CUT_SHORT}::test_after_a_block_that_raised_resume_has_nothing_to_seal",
    ),
    Mutant(
        "calls that a seal refused are named though the broker fails first",
        "refusal-kept",
        "self._refusal = self._enrol_all(leaving)",
        f"{CUT_SHORT}::test_a_map_that_comes_after_the_seal_says_so_though_the_broker_fails_first",
    ),
    Mutant(
        "members that were enrolled before a seal are sent",
        "enrolled-then-sealed",
        "raise",
        f"{CUT_SHORT}::test_a_seal_between_two_chunks_leaves_no_member_without_a_message",
    ),
    Mutant(
        "an eager call that was not counted keeps its batch open",
        "eager-fault-counted",
        GONE,
        f"{CUT_SHORT}::test_an_eager_call_that_the_store_missed_keeps_a_batch_open_that_has_begun",
    ),
    # Counted once
    Mutant(
        "success is final",
        "success-final",
        "if reason == 'never published' and before ~= WAITING then return false end",
        f"{SCRIPTS}::test_two_reports_leave_the_same_in_either_order",
    ),
    Mutant(
        "an attempt is counted by its stamp",
        "stamp-counts-once",
        "return true",
        f"{SCRIPTS}::test_a_report_counts_once_from_sixteen_threads",
    ),
    Mutant(
        "a member has one state, and leaves the one it had",
        "leaves-old-state",
        GONE,
        f"{SCRIPTS}::test_two_reports_leave_the_same_in_either_order",
    ),
    Mutant(
        "an id must stand at its index",
        "id-at-index",
        "return true",
        f"{SCRIPTS}::test_a_stranger_changes_nothing",
    ),
    Mutant(
        "enrolling the same ids again enrols nobody",
        "enrol-repeat",
        GONE,
        f"{SCRIPTS}::test_enrolling_twice_enrols_once",
    ),
    Mutant(
        "adders at the same time get places of their own",
        "place-moved",
        GONE,
        f"{SCRIPTS}::test_sixteen_adders_at_once_get_places_of_their_own",
    ),
    Mutant(
        "a callback's header counts only under its own id",
        "callback-own-id",
        "if isinstance(entry, str) and ENTRY.fullmatch(entry):",
        "tests/messages/test_headers.py::test_a_callbacks_header_counts_only_under_its_own_id",
    ),
    Mutant(
        "a header that was passed on by hand is removed",
        "strip-header",
        GONE,
        f"{BATCH}::test_a_mark_passed_on_by_hand_is_taken_off",
    ),
    Mutant(
        "a member that is sent again is dead no longer",
        "dead-no-longer",
        GONE,
        f"{FAMILY}::test_late_reports_of_an_earlier_round_change_nothing",
    ),
    Mutant(
        "a report for a batch that is gone makes no key",
        "gone-no-key",
        "if not schema then schema = 1 end",
        f"{SCRIPTS}::test_a_report_for_a_batch_that_is_gone_makes_no_key",
    ),
    Mutant(
        "versions of Celery that lack what is patched",
        "versions-fit",
        GONE,
        "tests/test_versions.py::test_batches_refuses_an_app_before_it_changes_it",
    ),
    Mutant(
        "two apps that share a prefix",
        "own-prefix",
        "if before:",
        "tests/test_bad_setups.py::test_a_worker_warns_of_another_app_with_its_prefix",
    ),
    Mutant(
        "callbacks of a batch of schema 1",
        "old-callbacks",
        'callbacks=callbacks or b"[]",',
        "tests/upgrade/test_upgrade.py::test_callbacks_that_schema_1_has_in_the_hash_are_found",
    ),
    Mutant(
        "no round is without stamps that grow",
        "last-round",
        "if call and state_of(index) == DEAD then",
        f"{DEAD}::test_what_was_kept_of_a_member_without_rounds_is_not_claimed",
    ),
    Mutant(
        "a death in the last round voids the call that was kept before",
        "call-voided",
        "local voided = false",
        f"{DEAD}::test_a_death_in_the_last_round_voids_the_call_that_was_kept_before",
    ),
    Mutant(
        "a member in its last round is not kept for another",
        "last-round-unkept",
        "if false then call, unsendable = '', 'it was sent again 15 times' end",
        f"{DEAD}::test_stamps_grow_with_every_round_and_there_is_none_after_the_fifteenth",
    ),
    Mutant(
        "who succeeds counts no more as not to be sent again",
        "reason-forgotten",
        GONE,
        f"{DEAD}::test_who_succeeds_after_all_counts_no_more_as_not_to_be_sent_again",
    ),
    Mutant(
        "a retry sends no arguments that JSON changed",
        "unchanged-by-json",
        "return bool(json.dumps(value))",
        "tests/worker/test_kept_calls.py::test_what_json_would_change_is_not_sent_again",
    ),
    Mutant(
        "a retry sends the arguments as they came",
        "arguments-noted",
        GONE,
        "tests/worker/test_kept_calls.py::test_what_a_member_does_to_its_arguments_does_not_go_into_its_retry",
    ),
    Mutant(
        "a retry sends the user's headers",
        "retry-headers",
        GONE,
        "tests/worker/test_kept_calls.py::test_a_retry_bears_the_headers_of_the_user",
    ),
    Mutant(
        "tokens that were sent as the end was looked for are printed",
        "last-tokens",
        "if ended or bids and _have_ended(engine, bids):",
        "tests/cli/test_stream.py::test_tokens_that_are_sent_as_the_end_is_looked_for_are_printed",
    ),
    Mutant(
        "an open batch has no curve",
        "mark-of-sealed",
        GONE,
        "tests/store/test_curve.py::test_an_open_batch_has_no_curve_because_its_total_grows",
    ),
    # Never early
    Mutant(
        "nothing fires before the seal",
        "complete",
        "local complete = succeeded + failing + dead == total",
        f"{SCRIPTS}::test_nothing_fires_before_the_seal",
    ),
    Mutant(
        "complete waits for the last member",
        "complete",
        "local complete = is_sealed and succeeded + failing + dead >= total - 1",
        f"{SCRIPTS}::test_complete_comes_with_the_first_run_of_all_and_success_after_the_retry",
    ),
    Mutant(
        "an event fires once",
        "event-once",
        "redis.call('HSETNX', BATCH, event .. '_at', now)",
        f"{SCRIPTS}::test_success_can_come_after_a_death_and_nothing_fires_twice",
    ),
    Mutant(
        "a sealed batch takes nobody from outside",
        "sealed-refuses",
        GONE,
        f"{SCRIPTS}::test_after_the_seal_only_a_member_that_has_not_ended_adds",
    ),
    Mutant(
        "successors are enrolled before their predecessor counts",
        "successors-first",
        "local grows = false",
        f"{LATE}::test_a_report_enrols_its_successors_before_it_counts",
    ),
    Mutant(
        "a batch that lost a key counts nothing",
        "lost-key",
        GONE,
        f"{SCRIPTS}::test_a_batch_that_lost_a_key_never_counts_wrong_nor_fires_early",
    ),
    Mutant(
        "what a newer version stored is left alone",
        "newer-schema",
        GONE,
        f"{SCRIPTS}::test_a_newer_schema_is_refused_and_left_alone",
    ),
    Mutant(
        "a member that goes on under its own id is not done",
        "going-on-noted",
        GONE,
        f"{GOING_ON}::test_a_member_that_goes_on_under_its_own_id_is_not_done",
    ),
    Mutant(
        "what reports to a member's own chord is a member",
        "own-chord-member",
        "if running.name in CALLS_PARTS:",
        f"{GOING_ON}::test_what_a_member_adds_to_its_own_chord_is_counted_to_its_end",
    ),
    Mutant(
        "all of very many successors are enrolled before their predecessor counts",
        "all-successors",
        "word, *more = ('enrolled',)",
        f"{LATE}::test_a_report_that_is_told_in_parts_comes_to_the_same_as_a_whole",
    ),
    Mutant(
        "a dead part of a chord is not sent again",
        "chord-part-dead",
        "if False:",
        "tests/worker/test_kept_calls.py::test_a_dead_part_of_a_chord_is_not_resent_because_celery_gave_the_chord_up",
    ),
    Mutant(
        "a batch whose chord was given up does not succeed",
        "chord-cut-short",
        GONE,
        f"{LATE}::test_a_header_that_failed_once_awaits_no_body_and_its_batch_is_cut_short",
    ),
    Mutant(
        "a result that is older than the batch says nothing",
        "old-result",
        "return True",
        f"{RECONCILE}::test_what_an_earlier_task_with_the_same_id_left_says_nothing",
    ),
    # Never lost
    Mutant(
        "the script that fires fills the outbox",
        "outbox-filled",
        GONE,
        f"{SCRIPTS}::test_a_claim_is_given_to_one_of_sixteen_in_firing_order",
    ),
    Mutant(
        "what just fired is leased to the one who fired it",
        "outbox-filled",
        "write_entry(entry, 'due', version or 0, now, "
        "(number or 0) + 1, version and 0 or now + limit_of(entry))",
        f"{SCRIPTS}::test_what_just_fired_is_leased_to_the_one_who_fired_it",
    ),
    Mutant(
        "a claim is a lease",
        "claim-lease",
        GONE,
        f"{SCRIPTS}::test_a_claim_is_given_to_one_of_sixteen_in_firing_order",
    ),
    Mutant(
        "the sweeper publishes what was left behind",
        "sweeper-publishes",
        "elif False and (due := self._store.claim_deliveries(batch.bid)).due:",
        f"{SWEEPER}::test_what_was_left_behind_is_published_once",
    ),
    Mutant(
        "a retired batch refuses a change until it is listed again",
        "retired-refuses",
        GONE,
        f"{SWEEPER}::test_a_batch_that_is_over_leaves_the_list_and_a_late_report_brings_it_back",
    ),
    Mutant(
        "a callback has the same id whenever it is published",
        "callback-same-id",
        "return f\"cb_{bid}_{entry.replace(':', '_')}_{id(object())}\"",
        f"{PUBLISHER}::test_callbacks_are_published_in_the_order_in_which_they_fired",
    ),
    Mutant(
        "what the broker did not take stays due",
        "broker-refused",
        "if False:",
        f"{PUBLISHER}::test_a_broker_that_is_away_leaves_callbacks_due_and_the_seal_stands",
    ),
    Mutant(
        "while a delivery is open nothing expires",
        "open-delivery",
        "if ended then",
        f"{SCRIPTS}::test_a_successful_batch_lingers_from_its_last_delivery_on",
    ),
    Mutant(
        "an earlier attempt told late does not send the present one again",
        "late-attempt",
        "if happened == 'due' then return open end",
        f"{SCRIPTS}::test_what_is_said_late_of_an_earlier_attempt_does_not_send_the_present_one_again",
    ),
    Mutant(
        "what keeps a callback from being published is tried again",
        "unpublished-retried",
        'happened, delay = ("given_up", 0.0)',
        f"{PUBLISHER}::test_what_keeps_a_callback_from_being_published_is_tried_again_for_a_good_day",
    ),
    Mutant(
        "a callback is published without asking the result backend",
        "unwatched",
        "return self._ask(producer, task_id)",
        f"{PUBLISHER}::test_a_callback_is_published_while_the_result_backend_is_away",
    ),
    Mutant(
        "a chord is called by a task",
        "chord-by-task",
        "if False:",
        f"{PUBLISHER}::test_a_chord_is_called_by_a_task_for_it_may_wait_for_the_result_backend",
    ),
    Mutant(
        "a callback is published by its name with its task's options",
        "task-options",
        "if False:",
        f"{PUBLISHER}::test_a_process_without_the_task_publishes_it_by_its_name_to_its_queue",
    ),
    Mutant(
        "a callback that met a worker without its task is sent again",
        "not-registered",
        "if False:",
        f"{PUBLISHER}::test_a_callback_taken_by_a_worker_without_its_task_is_resent_and_given_up",
    ),
    Mutant(
        "a retry of a callback keeps its delivery",
        "retry-keeps-delivery",
        "if identity := member:",
        f"{PUBLISHER}::test_a_tracer_that_adds_headers_as_a_callback_leaves_does_not_cost_its_delivery",
    ),
    Mutant(
        "what publishes a callback may publish others on its way",
        "reentrant-publish",
        "self._lock = threading.Lock()",
        f"{PUBLISHER}::test_what_publishes_a_callback_may_end_another_batch_on_its_way",
    ),
    Mutant(
        "what ended was tried once at least",
        "tried-once",
        "local outcome, tried = BECOMES[happened] or happened, math.max(attempt, attempts)",
        f"{SETTLING}::test_what_ended_before_its_publisher_said_so_was_tried_once",
    ),
    Mutant(
        "only the present claim moves a delivery",
        "present-claim",
        GONE,
        f"{SETTLING}::test_only_the_present_claim_moves_a_delivery",
    ),
    Mutant(
        "what was put off before its publisher said so stays due",
        "put-off-number",
        "if outcome == 'due' then next_at = now + delay end",
        f"{SETTLING}::test_what_was_put_off_before_its_publisher_said_so_is_not_published_for_ever",
    ),
    Mutant(
        "a callback that is lost before its publisher said that it left is sent again",
        "lost-before-published",
        "",
        f"{SETTLING}::test_a_callback_lost_before_its_publisher_said_that_it_left_is_sent_again",
    ),
    Mutant(
        "a callback's message bears its claim",
        "claim-in-message",
        "ref = DeliveryRef(bid=bid, entry=claim.entry)",
        f"{PUBLISHER}::test_the_signatures_own_queue_wins_then_the_batchs_then_the_settings",
    ),
    Mutant(
        "the loss of a message that was overtaken is no news",
        "overtaken-number",
        "return DeliveryRef(bid=bid, entry=entry)",
        "tests/messages/test_headers.py::test_a_notifications_header_names_the_claim_that_published_it",
    ),
    Mutant(
        "a message that was overtaken sends nothing",
        "overtaken-silent",
        "if False:",
        f"{ATTEMPTS}::test_redeliver_takes_what_was_published_for_minutes_and_never_ran",
    ),
    Mutant(
        "what was published for minutes and never ran is stuck",
        "stuck-minutes",
        "if state == 'published' then return false end",
        f"{ATTEMPTS}::test_redeliver_takes_what_was_published_for_minutes_and_never_ran",
    ),
    Mutant(
        "a task of the users is stuck later than a notification",
        "stuck-users-task",
        "local patient = redis.call('HEXISTS', BATCH, 'notifies:' .. entry) == 0 and 1 or 1",
        f"{SETTLING}::test_a_task_of_the_users_is_stuck_after_an_hour",
    ),
    Mutant(
        "what was delivered is sent again on request only",
        "delivered-on-request",
        "return state == 'given_up' and at >= since or state == 'delivered'",
        f"{ATTEMPTS}::test_redeliver_takes_one_by_its_number_and_all_on_request",
    ),
    # One careless answer does not end a delivery, nor send it again
    Mutant(
        "a wish to wait that is no number costs an attempt only",
        "pause-number",
        GONE,
        f"{ATTEMPTS}::test_a_wish_to_wait_that_is_no_number_costs_an_attempt_and_not_the_delivery",
    ),
    Mutant(
        "a notifier whose work was cancelled has failed once",
        "notifier-cancelled",
        "except Exception as exc:",
        f"{ATTEMPTS}::test_a_notifier_with_a_bug_is_tried_again_and_harms_nothing",
    ),
    Mutant(
        "an interim answer is not the answer",
        "interim-answer",
        "return version, status, reason",
        "tests/notifiers/test_transport.py::test_the_answer_is_the_one_that_follows_interim_ones",
    ),
    Mutant(
        "a chunk of any size does not hide the status",
        "odd-chunk",
        "except (requests.RequestException, HTTPError, OSError, UnicodeError) as exc:",
        "tests/notifiers/test_transport.py::test_chunks_that_cannot_be_read_do_not_hide_the_status",
    ),
    Mutant(
        "a notifier may answer with anything",
        "any-reply",
        'return Reply(hide_environment(notifier, said), getattr(said, "status_code", None))',
        f"{REFERENCES}::test_a_notifier_that_answers_with_no_text_has_sent_all_the_same",
    ),
    Mutant(
        "a sendmail that leaves a process behind has taken the mail",
        "sendmail-children",
        "stdout=subprocess.PIPE,",
        "tests/notifiers/test_mailer_sendmail.py"
        "::test_what_a_program_leaves_running_does_not_make_its_mail_a_failure",
    ),
    Mutant(
        "a mail that was taken stays taken if the goodbye is slow",
        "slow-goodbye",
        GONE,
        "tests/notifiers/test_mailer_smtp.py"
        "::test_a_goodbye_that_outlasts_the_total_time_does_not_undo_it_either",
    ),
    Mutant(
        "a mail goes to no look-alike of its domain",
        "own-domain",
        'host = host if host.isascii() else host.encode("idna").decode()',
        "tests/notifiers/test_mailer.py::test_a_mail_goes_to_the_domain_that_is_written_and_to_no_look_alike",
    ),
    # A receiver suffers for nobody else
    Mutant(
        "the pause belongs to an address",
        "address-key",
        'key = blake2b(f"{channel}".encode("utf-8", "replace"), digest_size=16).hexdigest()',
        f"{ADDRESSES}::test_only_what_fails_together_has_one_address",
    ),
    Mutant(
        "a profile's failure is no other's",
        "address-key",
        'key = blake2b(f"{text}".encode("utf-8", "replace"), digest_size=16).hexdigest()',
        f"{ADDRESSES}::test_only_what_fails_together_has_one_address",
    ),
    Mutant(
        "what is about one notification closes no address",
        "one-notification",
        "if exc.permanent:",
        f"{ATTEMPTS}::test_what_is_about_one_notification_keeps_no_other_waiting",
    ),
    Mutant(
        "a mailbox that is full is about one mail",
        "mailbox-full",
        GONE,
        f"{ADDRESSES}::test_a_mailbox_that_is_full_closes_no_other",
    ),
    Mutant(
        "many that fail at once close their address once",
        "one-closing",
        "if false then",
        f"{ATTEMPTS}::test_many_that_fail_at_once_close_their_address_once",
    ),
    Mutant(
        "a clock that steps back prolongs no pause",
        "pause-clock",
        "if false then",
        f"{ATTEMPTS}::test_a_clock_that_steps_back_leaves_no_address_alone_for_longer_than_its_pause",
    ),
    Mutant(
        "a busy receiver costs no attempt",
        "busy-free",
        "if False:",
        f"{ADDRESSES}::test_a_busy_receiver_costs_no_attempt_and_keeps_its_pace",
    ),
    Mutant(
        "after an outage all go once one has arrived",
        "outage-over",
        "woken += 1",
        f"{END_TO_END}::test_after_an_outage_all_go_once_one_has_arrived",
    ),
    Mutant(
        "what waits for an address sends no message",
        "put-off",
        "elif False:",
        f"{ENDS}::test_deliveries_to_a_host_that_is_gone_cost_few_messages_and_all_end_in_time",
    ),
    # Every delivery ends
    Mutant(
        "what is due has a last attempt",
        "due-ends",
        "if state == 'due' then return at end",
        f"{SETTLING}::test_what_is_due_gets_its_last_attempt_27_hours_after_its_event",
    ),
    Mutant(
        "the last attempt is the last",
        "last-attempt",
        GONE,
        f"{SETTLING}::test_after_its_last_attempt_nothing_is_due_again",
    ),
    Mutant(
        "a notification whose message is lost ends too",
        "notification-ends",
        GONE,
        f"{SETTLING}::test_a_notification_that_stays_silent_is_published_once_more_and_given_up",
    ),
    Mutant(
        "a time limit is a failed attempt",
        "time-limit",
        "if task == DELIVER_TASK and False:",
        f"{ADDRESSES}::test_a_time_limit_that_strikes_is_a_failed_attempt",
    ),
    Mutant(
        "the task that delivers has time limits of its own",
        "deliver-limits",
        GONE,
        f"{ADDRESSES}::test_the_task_has_limits_of_its_own_above_any_notifiers",
    ),
    # Never stuck
    Mutant(
        "a report is tried again",
        "report-again",
        "if True:",
        f"{REPORTER}::test_a_store_that_comes_back_in_time_needs_no_spool",
    ),
    Mutant(
        "what the store does not take goes to the disk",
        "report-to-disk",
        "pack_line(message)",
        f"{REPORTER}::test_spooled_reports_and_their_callbacks_follow_once_the_store_is_back",
    ),
    Mutant(
        "without a directory for temporary files batches count",
        "no-temporary-directory",
        "except ZeroDivisionError:",
        f"{NO_TEMPORARY}::test_batches_count_without_a_temporary_directory",
    ),
    Mutant(
        "sendmail needs no directory for temporary files",
        "output-in-memory",
        "pass",
        "tests/notifiers/test_mailer_sendmail.py::test_it_needs_no_directory_for_temporary_files",
    ),
    Mutant(
        "a spool that cannot be used is an error once, not every two seconds",
        "unusable-said-once",
        "if True:",
        f"{NO_TEMPORARY}::test_a_worker_without_a_temporary_directory_logs_once_which_setting_helps",
    ),
    Mutant(
        "a report that names very many others is short enough for the disk",
        "short-record",
        "return asdict(each)",
        "tests/worker/test_spool_records.py::test_a_report_takes_no_more_than_an_id_for_each_that_it_names",
    ),
    Mutant(
        "the spool's callbacks follow",
        "spool-follow-up",
        GONE,
        f"{REPORTER}::test_spooled_reports_and_their_callbacks_follow_once_the_store_is_back",
    ),
    Mutant(
        "a call that may have left is not taken back",
        "unknown-not-unsent",
        GONE,
        f"{BATCH}::test_a_broker_that_refuses_leaves_the_batch_open_and_resume_finishes_it",
    ),
    Mutant(
        "a member is recorded before its acknowledgement leaves",
        "in-flight-first",
        GONE,
        f"{LEASES}::test_a_running_member_is_recorded_before_its_acknowledgement_leaves",
    ),
    Mutant(
        "a callback is recorded as it arrives",
        "callback-in-flight",
        GONE,
        f"{LEASES}::test_a_callback_is_recorded_as_it_arrives",
    ),
    Mutant(
        "what a lost worker held is settled",
        "lost-settled",
        "for beat in ():",
        f"{LEASES}::test_a_lost_workers_members_are_dead_and_its_records_are_removed",
    ),
    Mutant(
        "a worker lives until its lease has ended",
        "lease-ended",
        "add('-inf', string.format('(%.0f', now))",
        f"{LEASES}::test_a_worker_whose_lease_has_not_ended_lives",
    ),
    Mutant(
        "a worker that was cut off judges nobody",
        "cut-off-judges-nobody",
        "if not silent:",
        f"{LEASES}::test_a_worker_that_is_not_sure_of_itself_judges_no_other",
    ),
    Mutant(
        "a clock that was set since the last beat buries nobody",
        "clock-jumped",
        GONE,
        f"{LEASES}::test_a_clock_that_was_set_since_the_last_beat_makes_no_worker_lost",
    ),
    Mutant(
        "a lost worker's beat that lies ahead does not keep it alive",
        "beat-ahead",
        GONE,
        f"{LEASES}::test_a_beat_from_the_future_is_a_lost_workers_once_it_is_not_renewed",
    ),
    Mutant(
        "a lock from before the clock was set back is nobody's",
        "lock-clock",
        "local is_left = life and false",
        f"{SWEEPER}::test_a_lock_that_would_live_longer_than_anybody_takes_it_for_is_nobodys",
    ),
    Mutant(
        "what another worker runs too is left to that one",
        "lost-or-running",
        "if held is None or held.went_on:",
        f"{LEASES}::test_a_member_that_another_worker_runs_too_is_left_to_that_one",
    ),
    Mutant(
        "a member that is acknowledged late has no record, and no note of what it sent",
        "late-unnoted",
        "return self.heartbeat() if self.heartbeat else None",
        "tests/test_worker_leases.py::test_a_member_that_is_acknowledged_late_leaves_no_record",
    ),
    Mutant(
        "a member that went on is not lost",
        "lost-or-running",
        "if held is None or self._store.is_tagged(living, field):",
        f"{LEASES}::test_a_record_of_a_task_that_went_on_or_is_invalid_changes_nothing",
    ),
    Mutant(
        "what is lost over and over is given up",
        "lost-attempts",
        GONE,
        f"{SETTLING}::test_a_lost_delivery_waits_twice_as_long_each_time_and_is_given_up_the_eighth",
    ),
    Mutant(
        "a callback that was lost with its process counts an attempt",
        "lost-counts",
        'return Ending(happened="due", delay_seconds=PROCESS_LOST_SECONDS, note=note)',
        f"{CALLBACK_TASKS}::test_a_callback_that_kills_its_process_is_tried_eight_times",
    ),
    Mutant(
        "the broker sends no callback again that killed its process",
        "process-killer",
        "if False:",
        f"{CALLBACK_TASKS}::test_a_callback_that_kills_its_process_is_tried_eight_times",
    ),
    Mutant(
        "a callback of which nothing is heard is given up",
        "silent-given-up",
        GONE,
        f"{SETTLING}::test_nothing_heard_for_a_week_of_what_was_published_is_named_to_the_sweeper",
    ),
    Mutant(
        "a callback is silent only after its time",
        "silent-in-time",
        "if happened == 'silent' then return published and present end",
        f"{SETTLING}::test_a_retry_is_news_of_a_callback",
    ),
    Mutant(
        "a worker without batches keeps members from being written off",
        "bare-worker",
        "if not broker.readable or workers.why or workers.silent:",
        f"{DOCTOR}::test_a_worker_without_batches_is_named_and_keeps_members_from_being_written_off",
    ),
    Mutant(
        "what was given up is named as long as its batch is there",
        "given-up-named",
        "if unlisted:",
        f"{DOCTOR}::test_a_callback_that_was_given_up_is_named_as_long_as_its_batch_is_there",
    ),
    Mutant(
        "reconcile finds what the sweepers' list has lost",
        "off-live-found",
        "if self.client.zscore(self.keys.index, bid) is None:",
        f"{DOCTOR}::test_a_batch_that_the_sweepers_list_has_lost_is_named_and_put_back",
    ),
    Mutant(
        "a producer that died is given up",
        "awaited-producer",
        "if true then return {'awaited'} end",
        f"{ABANDONED}::test_what_was_never_published_is_dead_and_says_why",
    ),
    Mutant(
        "a batch that was cut short does not succeed",
        "cut-short",
        "if b[3] ~= '1' then end",
        f"{ABANDONED}::test_a_batch_that_was_cut_short_ends_without_success_whatever_succeeded",
    ),
    Mutant(
        "a producer that was given up enrols nobody",
        "given-up-adder",
        GONE,
        f"{ABANDONED}::test_a_producer_that_comes_back_to_enrol_is_told",
    ),
    Mutant(
        "nobody is given up who reported meanwhile",
        "reported-meanwhile",
        "if before >= DEAD or not stands_at(index, id) then return end",
        f"{RECONCILE}::test_a_member_that_reported_since_it_was_looked_for_is_not_written_off",
    ),
    Mutant(
        "nobody is given up in a batch that moves",
        "on-its-way",
        "if False:",
        f"{RECONCILE}::test_nobody_is_given_up_in_a_batch_that_moves_or_is_not_sealed",
    ),
    Mutant(
        "an event that is true and did not fire is fired by a repair",
        "conclude-repair",
        "fired = []",
        f"{RECONCILE}::test_an_event_that_is_true_and_did_not_fire_fires",
    ),
    Mutant(
        "a member that fails more often than is counted keeps its batch alive",
        "moves-keep-alive",
        "moves = false",
        f"{DEAD}::test_a_member_that_fails_more_often_than_is_counted_keeps_its_batch_alive",
    ),
    # Never stuck: the lists are true
    Mutant(
        "an entry whose batch may be in the making stays",
        "in-the-making",
        "local old = true",
        f"{LISTS}::test_whoever_looks_while_a_batch_is_stored_leaves_it_on_its_lists",
    ),
    Mutant(
        "a batch that was stored slowly is listed once more",
        "slow-store",
        "if False:",
        f"{LISTS}::test_a_producer_that_was_slow_to_store_its_batch_lists_it_once_more",
    ),
    Mutant(
        "a revived batch is listed after its flag is cleared",
        "revived-listed",
        GONE,
        f"{LISTS}::test_a_batch_that_is_revived_while_it_is_retired_is_looked_after",
    ),
    Mutant(
        "what is put anew has a higher score",
        "score-grows",
        "redis.call('ZADD', KEYS[1], score and score >= now and score or now, ARGV[2])",
        f"{LISTS}::test_an_entry_that_was_put_anew_in_the_same_millisecond_is_not_dropped",
    ),
    Mutant(
        "a walk goes back where entries were removed",
        "page-again",
        "if False:",
        f"{LISTS}::test_what_stays_is_seen_once_whatever_is_removed_during_a_walk",
    ),
    Mutant(
        "a walk passes what was seen of one score",
        "page-overlap",
        "return",
        f"{LISTS}::test_a_walk_goes_on_behind_any_place_that_is_named",
    ),
    Mutant(
        "the lists live as long as the longest of their batches",
        "longest-life",
        "began, life_ms = clock(), 0",
        f"{LISTS}::test_the_lists_live_as_long_as_a_batch_whose_own_lives_are_longer",
    ),
    Mutant(
        "a sweep prolongs the lists",
        "sweep-prolongs",
        GONE,
        f"{SWEEPER}::test_a_sweep_lets_the_lists_live_as_long_as_what_is_on_them",
    ),
    Mutant(
        "a batch that runs stays on the list of cancelled ones",
        "running-stays",
        "over = [position for position, answer in found if not isinstance(answer, Exception)]",
        f"{LISTS}::test_a_batch_is_cancelled_for_workers_as_long_as_it_runs",
    ),
    Mutant(
        "a sweep that takes long holds its lock",
        "lock-kept",
        "if self._every.stopping:",
        f"{SWEEPER}::test_a_sweep_that_takes_long_holds_its_lock_and_ends_where_it_lost_it",
    ),
    Mutant(
        "a parent that cannot be touched does not stop its child",
        "parent-untouched",
        "raise",
        f"{SWEEPER}::test_a_child_is_healed_though_this_worker_cannot_touch_its_parent",
    ),
    Mutant(
        "a child of a cancelled batch is cancelled",
        "cancelled-child",
        "if self._parent.confirm_child(index) and False:",
        f"{FAMILY}::test_a_cancel_reaches_a_child_that_is_just_being_stored",
    ),
    # Never in the way
    Mutant(
        "a store that is away is a warning a minute",
        "away-minute",
        GONE,
        "tests/worker/test_away_log.py"
        "::test_an_hour_without_the_store_is_a_warning_a_minute_and_one_line_at_its_end",
    ),
    Mutant(
        "the fields of a log line are nobody else's",
        "log-prefix",
        'PREFIX = ""',
        "tests/test_log_lines.py::test_structlog_shows_why_a_delivery_failed",
    ),
    Mutant(
        "a death looks at a hundred failures, however many are kept",
        "failures-looked-at",
        "for _, other in ipairs(redis.call('HKEYS', FAILURES)) do",
        f"{DEAD}::test_a_death_costs_no_more_if_very_many_failures_are_kept",
    ),
    Mutant(
        "a result is made anew by an attribute that the app has",
        "result-attribute",
        'result = app.subclass_with_self(BlockAwareResult, reverse="no_such_attribute")',
        "tests/test_results.py::test_a_result_survives_pickling_and_copying",
    ),
    Mutant(
        "a channel that is denied changes nothing",
        "channel-denied",
        "for _, token in ipairs(tokens) do redis.call('PUBLISH', CHANNEL, token) end",
        f"{SCRIPTS}::test_a_channel_that_is_denied_changes_no_count",
    ),
    Mutant(
        "every key gets the life of its batch",
        "key-life",
        GONE,
        f"{LATE}::test_late_members_share_the_life_of_their_batch",
    ),
    Mutant(
        "one batch that cannot be read does not stop the sweeper",
        "unreadable-batch",
        "raise",
        f"{SWEEPER}::test_the_sweeper_is_not_stopped_by_one_batch_it_cannot_read",
    ),
    Mutant(
        "who got a mail gets it no second time because others were refused for now",
        "owed-kept",
        GONE,
        f"{ATTEMPTS}::test_a_mail_that_some_recipients_refuse_for_now_reaches_each_of_them_once",
    ),
    Mutant(
        "who was refused for now is tried again",
        "refused-for-now",
        "if owed := []:",
        f"{ATTEMPTS}::test_a_mail_that_some_recipients_refuse_for_now_reaches_each_of_them_once",
    ),
    # What others must not see
    Mutant(
        "a text that somebody wrote names no variable of the environment",
        "stored-text",
        "own = mark_references(_as_fields(own))",
        f"{REFERENCES}::test_a_writer_to_the_store_gets_no_variable_into_a_text",
    ),
    Mutant(
        "a value of the environment is not repeated by an error",
        "environment-error",
        "if True:",
        f"{REFERENCES}::test_an_error_about_a_value_names_the_variable_and_not_the_value",
    ),
    Mutant(
        "a value of the environment reaches neither store nor log",
        "environment-hidden",
        GONE,
        f"{REFERENCES}::test_neither_store_nor_log_holds_a_value_of_the_environment",
    ),
    # A follower never misses the end
    Mutant(
        "a follower's first reading comes after its subscription",
        "subscribed-first",
        "self.stir([bid])",
        f"{FOLLOWED}::test_a_batch_is_first_read_when_its_subscription_stands",
    ),
    Mutant(
        "a followed batch is read again whatever was heard",
        "overdue-read",
        "wanted = chain(self._fresh, self._stirred)",
        f"{FOLLOWED}::test_a_batch_is_read_after_five_seconds_without_a_token",
    ),
    Mutant(
        "a new subscription has the batches of the one that was cut",
        "resubscribed",
        "self._subscription.subscribe(new)",
        f"{FOLLOWING}::test_a_subscription_that_is_cut_misses_nothing",
    ),
    Mutant(
        "a subscription that is silent is left",
        "silent-subscription",
        "if False:",
        f"{FOLLOWING}::test_a_server_that_is_silent_is_asked_and_one_that_does_not_answer_is_left",
    ),
    Mutant(
        "a follower outlives a short absence of the store",
        "away-follower",
        "survives = isinstance(answer, StoreUnavailable) and False",
        f"{FOLLOWING}::test_followers_outlive_a_restart_of_the_store",
    ),
    Mutant(
        "a fork's child has a listener of its own",
        "fork-listener",
        'self._inherited = [self.__dict__.pop(name, None) for name in ("client",)]',
        f"{FOLLOWING}::test_a_forks_child_follows_on_with_a_subscription_of_its_own",
    ),
    Mutant(
        "a listener does not leave as a follower comes",
        "orders-first",
        GONE,
        f"{FOLLOWING}::test_a_follower_that_comes_as_the_listener_leaves_is_served",
    ),
    Mutant(
        "a follower that is dropped leaves",
        "dropped-follower",
        GONE,
        f"{FOLLOWING}::test_followers_that_are_dropped_half_way_are_unsubscribed",
    ),
    # What others see
    Mutant(
        "a receiver sees no more of the failures than it may",
        "failures-level",
        "if True:",
        "tests/notifiers/test_contract.py::test_a_receiver_sees_no_more_of_the_failures_than_it_may",
    ),
    Mutant(
        "on() does not choose what only the configuration decides",
        "configured-only",
        "for path in sorted(()):",
        f"{EMAIL_OPTIONS}::test_on_refuses_options_that_only_the_configuration_may_set",
    ),
    Mutant(
        "what a field of a batch holds is text in HTML",
        "html-field",
        "return _fill(text, fields, str)",
        f"{EMAIL_OPTIONS}::test_no_field_brings_a_line_into_a_header_or_a_tag_into_html",
    ),
    Mutant(
        "what a field of a batch holds stays on a header's line",
        "header-field",
        "return _fill(text, fields, str)",
        f"{EMAIL_OPTIONS}::test_no_field_brings_a_line_into_a_header_or_a_tag_into_html",
    ),
    Mutant(
        "no text rings for all",
        "no-mention",
        "return text",
        "tests/notifiers/test_contract.py::test_hostile_text_is_delivered_and_harmless",
    ),
    Mutant(
        "a keyring is asked for what it holds, and nobody else",
        "keyring-text",
        "if False:",
        "tests/notifiers/test_mailer_login.py::test_a_password_that_is_not_there_is_an_error_and_no_question",
    ),
    # The status page
    Mutant(
        "a password is compared",
        "password",
        'if scheme.lower() == "basic":',
        f"{WEB_ACCESS}::test_a_password_is_asked_for",
    ),
    Mutant(
        "who may not read sees nothing",
        "no-read-no-page",
        "if False:",
        f"{WEB_ACCESS}::test_who_may_not_read_sees_nothing",
    ),
    Mutant(
        "flags that say no grant nothing",
        "grants-set",
        "is_set = not isinstance(grants, str)",
        f"{WEB_ACCESS}::test_a_grant_that_is_none_is_an_error",
    ),
    Mutant(
        "a right is checked at the deed, not only at the button",
        "grant-checked",
        "if False:",
        f"{WEB_ACCESS}::test_nothing_can_be_changed_unless_it_is_granted",
    ),
    Mutant(
        "another site cannot act for somebody",
        "forged-request",
        'if why := "":',
        f"{WEB_ACCESS}::test_an_action_comes_from_the_page_itself",
    ),
    Mutant(
        "a form is good for one action of one batch and person",
        "form-token",
        'if not form.get("token"):',
        f"{WEB_ACCESS}::test_a_form_is_good_for_one_action_of_one_batch_and_person",
    ),
    Mutant(
        "an action on very many asks for its name",
        "typed-word",
        "if False:",
        f"{WEB_ACCESS}::test_an_action_on_very_many_asks_for_its_name",
    ),
    Mutant(
        "a shared link cannot be made by others",
        "share-signed",
        "if not mac:",
        f"{WEB_SHARING}::test_a_link_is_good_for_one_batch_until_it_expires",
    ),
    Mutant(
        "a shared link expires",
        "share-expires",
        "return bid",
        f"{WEB_SHARING}::test_a_link_is_good_for_one_batch_until_it_expires",
    ),
    Mutant(
        "only named sites read what is shared",
        "widget-origin",
        "if origin:",
        f"{WEB_SHARING}::test_only_the_sites_that_are_named_may_read_what_is_shared",
    ),
    Mutant(
        "there are no more streams than may be",
        "streams-capped",
        "if False:",
        "tests/web/test_hub.py::test_the_one_after_the_last_is_turned_away",
    ),
    Mutant(
        "many batches that move are drawn in turn",
        "drawings-spread",
        "await asyncio.sleep(PAUSE_SECONDS)",
        "tests/web/test_hub.py::test_a_batch_that_moves_waits_for_its_turn",
    ),
    Mutant(
        "nobody follows a batch that nobody watches",
        "topic-ends",
        "if False:",
        "tests/web/test_hub.py::test_a_batch_is_drawn_once_for_all_who_watch_it",
    ),
    Mutant(
        "streams end when their server stops",
        "streams-end",
        "while True:",
        "tests/cli/test_web.py::test_the_page_is_served_until_a_signal_ends_it_with_its_streams",
    ),
    Mutant(
        "streams that begin while their server stops end, too",
        "late-streams-end",
        "return",
        "tests/web/test_serving.py::test_a_stream_that_begins_while_the_server_stops_does_not_keep_it",
    ),
    Mutant(
        "who may not read any more gets no stream any more",
        "streams-end",
        "while not self._is_stopping:",
        "tests/web/test_hub.py::test_a_stream_ends_in_time_though_nothing_moves",
    ),
    Mutant(
        "those who wait for a look leave threads for all others",
        "examinations-capped",
        "if False:",
        "tests/web/test_examining.py::test_who_waits_for_a_look_leaves_threads_for_all_others",
    ),
    Mutant(
        "a scan of the list is bounded",
        "scan-bounded",
        "part = page",
        "tests/web/test_listing.py::test_expired_batches_are_looked_at_too_so_a_scan_of_them_ends",
    ),
    Mutant(
        "members' states are read again if the batch has moved",
        "clusters-moved",
        "if kept is not None:",
        f"{WEB_MAPS}::test_members_states_are_read_again_only_if_the_batch_has_moved",
    ),
    Mutant(
        "a map is drawn once for all who watch its batch",
        "map-kept",
        "if False:",
        f"{WEB_MAPS}::test_a_map_is_not_drawn_again_for_a_batch_that_stands_still",
    ),
    Mutant(
        "the last map of a batch is exact",
        "last-map",
        "return self.clock() < found.at + DRAWN_SECONDS",
        f"{WEB_MAPS}::test_the_last_map_is_exact",
    ),
    Mutant(
        "broker and workers are asked once in ten seconds",
        "examination-kept",
        "if True:",
        "tests/web/test_examining.py::test_several_who_look_at_once_ask_once",
    ),
    Mutant(
        "a page that others reach has a password",
        "open-page-refused",
        "if False:",
        "tests/cli/test_web.py::test_an_open_address_without_a_password_is_refused",
    ),
    # Commands
    Mutant(
        "nothing is destroyed without a question or --yes",
        "ask-or-yes",
        "if False:",
        f"{CHANGE}::test_without_a_terminal_nothing_is_done_unless_somebody_says_yes",
    ),
    Mutant(
        "a terminal obeys nothing that a batch holds",
        "terminal-line",
        "return answer",
        f"{SHOW}::test_no_field_of_a_batch_reaches_the_terminal_as_it_is",
    ),
    Mutant(
        "a batch whose dead members run again is waited for",
        "retried-is-not-over",
        "return of.finished",
        f"{WATCH}::test_dead_members_that_run_again_are_waited_for",
    ),
    Mutant(
        "a watcher outlives any absence of the store",
        "follow-again",
        GONE,
        f"{WATCH}::test_a_store_that_goes_away_is_said_once_and_waited_for",
    ),
    Mutant(
        "a batch that waits for a commit does not leave before",
        "after-commit",
        "do()",
        "tests/test_on_commit.py::test_a_rollback_leaves_no_batch",
    ),
    # Metrics
    Mutant(
        "a batch counts once, however often it is counted",
        "counted-once",
        "local more = n",
        f"{COUNTING}::test_every_sweeper_may_count_a_batch_and_it_counts_once",
    ),
    Mutant(
        "a late reading of a batch that may be forgotten counts nothing",
        "counted-in-time",
        GONE,
        f"{COUNTING}::test_a_reading_that_is_too_old_counts_nothing",
    ),
    Mutant(
        "what is counted is remembered longer than a reading may take",
        "counted-remembered",
        "elseif line then",
        f"{COUNTING}::test_what_was_counted_is_forgotten_an_hour_after_its_batch_is_gone",
    ),
    Mutant(
        "a batch that ends between two sweeps is counted before it leaves the list",
        "retired-counted",
        GONE,
        f"{COUNTING}::test_a_sweeper_that_dies_before_it_counts_leaves_the_batch_for_the_next",
    ),
    Mutant(
        "counters that cannot be written stop no sweep",
        "uncounted-swept",
        "raise",
        f"{COUNTING}::test_counters_that_something_else_overwrote_stop_no_sweep",
    ),
    Mutant(
        "bars do not erase what the shell printed while the watch was stopped",
        "lines-of-the-shell",
        "pass",
        f"{WATCH}::test_what_the_shell_printed_while_the_watch_was_stopped_is_not_erased",
    ),
    Mutant(
        "an empty part of a path leads to no other host",
        "no-empty-part",
        'if path.endswith("/"):',
        "tests/web/test_mounts.py::test_a_slash_at_the_end_leads_to_the_page_and_an_extra_one_nowhere",
    ),
    Mutant(
        "a file of metrics is replaced in one step",
        "metrics-at-once",
        "path.write_text(text)",
        "tests/metrics/test_command.py::test_a_file_is_replaced_in_one_step_and_everybody_may_read_it",
    ),
    Mutant(
        "a broken tracer costs no report",
        "broken-tracer",
        "except ZeroDivisionError as exc:",
        "tests/traces/test_traces.py::test_a_broken_tracer_costs_no_batch_and_no_callback",
    ),
    Mutant(
        "the span of a batch whose process died is recorded",
        "trace-left-behind",
        GONE,
        "tests/traces/test_traces.py::test_a_span_whose_process_died_is_recorded_by_the_next_sweep",
    ),
    Mutant(
        "a tag of Sentry's does not stay for the next task",
        "own-scope",
        "return sentry is not None",
        "tests/traces/test_traces.py::test_sentry_gets_no_tag_if_it_gives_a_run_no_scope_of_its_own",
    ),
)
