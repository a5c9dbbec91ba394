"""Each safety, how it is taken away, and the test that must then go red.

A text must stand in its file exactly once, so that this table cannot rot: `test_mutant_table.py` looks.
"""

from __future__ import annotations

from dataclasses import dataclass

LUA = "store/scripts"
SCRIPTS, LATE = "tests/store/test_scripts.py", "tests/store/test_late_members.py"
SWEEPER, REPORTER = "tests/tracking/test_sweeper.py", "tests/tracking/test_reporter.py"
ABANDONED, LISTS = "tests/tracking/test_abandoned.py", "tests/store/test_lists.py"
LEASES, RECONCILE = "tests/tracking/test_leases.py", "tests/tracking/repair/test_reconcile.py"
ATTEMPTS = "tests/delivery/test_attempt.py"
REFERENCES = "tests/notifiers/test_references.py"
DEAD = "tests/store/test_dead_members.py"
GOING_ON = "tests/tracking/test_going_on.py"
FOLLOWED, FOLLOWING = "tests/store/test_followed.py", "tests/test_following.py"
BATCH, FAMILY, PUBLISHER = "tests/test_batch.py", "tests/test_family.py", "tests/delivery/test_publisher.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A safety that is taken away: in which file of the package, what stands there, and what then."""

    safety: str
    file: str
    old: str
    new: str
    killer: str


BLOCKS, CUT_SHORT = "tests/test_blocks.py", "tests/test_cut_short.py"

MUTANTS = (
    # How people hold it
    Mutant(
        "a closed frame takes nothing",
        "block.py",
        "        if frame.is_open:\n",
        "        if frame.app is not None:\n",
        f"{BLOCKS}::test_a_copied_context_calls_at_once_after_the_block",
    ),
    Mutant(
        "a call that is too late for a closing frame is not collected",
        "block.py",
        "            if not self.is_open:\n                return False\n",
        "",
        f"{BLOCKS}::test_a_frame_that_closes_while_a_call_is_made_ready_does_not_take_it",
    ),
    Mutant(
        "a block of another app hides nothing",
        "block.py",
        "        if frame.app is app:\n            return frame\n",
        "        return frame if frame.app is app else None\n",
        f"{BLOCKS}::test_a_block_of_another_app_does_not_hide_the_outer_one",
    ),
    Mutant(
        "a call of another app is refused in a block",
        "tracking/sender.py",
        "        refuse_foreign_call(self._app, name)\n",
        "",
        f"{BLOCKS}::test_a_shared_task_of_another_current_app_is_refused_in_a_block",
    ),
    Mutant(
        "a callback is published outside all blocks",
        "delivery/publisher.py",
        "with self._lock, outside_batch():",
        "with self._lock:",
        f"{BLOCKS}::test_a_callback_that_is_published_in_a_block_is_nobodys_member",
    ),
    Mutant(
        "a callback's message is nobody's member",
        "tracking/sender.py",
        "if isinstance(read_header(message.headers.get(HEADER), task_id), DeliveryRef):",
        "if False:",
        f"{BLOCKS}::test_a_message_under_a_callbacks_own_id_is_not_collected",
    ),
    Mutant(
        "a task leaves no block behind",
        "block.py",
        "    if _current.get() is not frame:\n        _current.set(frame)\n",
        "",
        f"{BLOCKS}::test_a_task_leaves_no_block_to_the_code_that_ran_it",
    ),
    Mutant(
        "add goes to its own batch",
        "tracking/intake.py",
        "            if not self._join_block(calls):\n                self._refuse",
        "            if not next(open_frames()).collect(calls):\n                self._refuse",
        f"{BLOCKS}::test_add_goes_to_its_own_batch_whatever_block_is_innermost",
    ),
    Mutant(
        "a batch that its raising block has stored is removed",
        "tracking/intake.py",
        "                self._discard()\n",
        "                pass\n",
        f"{BLOCKS}::test_a_raising_block_leaves_its_child_and_no_parent",
    ),
    Mutant(
        "a batch whose calls were not all made is not sealed",
        "tracking/intake.py",
        "            if not self._is_whole:\n",
        "            if False:\n",
        f"{CUT_SHORT}::test_an_autoflush_block_that_the_broker_broke_stays_open_after_resume",
    ),
    Mutant(
        "an interrupted map is remembered",
        "tracking/intake.py",
        "                self._unread.append((task, items))\n",
        "",
        f"{CUT_SHORT}::test_resume_goes_on_with_the_iterable_of_a_broken_map",
    ),
    Mutant(
        "members that were enrolled before a seal are sent",
        "tracking/enrolment.py",
        "            except BatchSealed as exc:\n                refused",
        "            except BatchSealed as exc:\n                raise\n                refused",
        f"{CUT_SHORT}::test_a_seal_between_two_chunks_leaves_no_member_without_a_message",
    ),
    Mutant(
        "an eager call that was not counted keeps its batch open",
        "tracking/intake.py",
        "            with self._lock:\n                self._faults += 1\n            raise error\n",
        "            raise error\n",
        f"{CUT_SHORT}::test_an_eager_call_that_the_store_missed_is_reported_once_and_never_sealed_away",
    ),
    # Counted once
    Mutant(
        "success is final",
        f"{LUA}/record_outcome.lua",
        "if before == SUCCEEDED or reason == 'never published'",
        "if reason == 'never published'",
        f"{SCRIPTS}::test_two_reports_leave_the_same_in_either_order",
    ),
    Mutant(
        "an attempt is counted by its stamp",
        f"{LUA}/record_outcome.lua",
        "if state ~= SUCCEEDED and not fresh and not",
        "if false and state ~= SUCCEEDED and not fresh and not",
        f"{SCRIPTS}::test_a_report_counts_once_from_sixteen_threads",
    ),
    Mutant(
        "a member has one state, and leaves the one it had",
        f"{LUA}/record_outcome.lua",
        "if before ~= WAITING then redis.call('HINCRBY', BATCH, COUNTER[before], -1) end",
        "",
        f"{SCRIPTS}::test_two_reports_leave_the_same_in_either_order",
    ),
    Mutant(
        "an id must stand at its index",
        f"{LUA}/late.lua",
        "return redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) == id",
        "return true",
        f"{SCRIPTS}::test_a_stranger_changes_nothing",
    ),
    Mutant(
        "enrolling the same ids again enrols nobody",
        f"{LUA}/enrol_members.lua",
        "== ids then\n  await_producers()\n  return {'already'}\nend",
        "== ids then end",
        f"{SCRIPTS}::test_enrolling_twice_enrols_once",
    ),
    Mutant(
        "adders at the same time get places of their own",
        f"{LUA}/enrol_members.lua",
        "if total ~= first then return {'moved', total} end",
        "",
        f"{SCRIPTS}::test_sixteen_adders_at_once_get_places_of_their_own",
    ),
    Mutant(
        "a callback's mark counts only under its own id",
        "tracking/headers.py",
        " and task_id == callback_id(bid, entry)",
        "",
        "tests/tracking/test_headers.py::test_a_callbacks_mark_counts_only_under_its_own_id",
    ),
    Mutant(
        "a mark that was passed on by hand is taken off",
        "tracking/sender.py",
        "        strip_header(message.headers)\n",
        "",
        f"{BATCH}::test_a_mark_passed_on_by_hand_is_taken_off",
    ),
    Mutant(
        "a member that is sent again is dead no longer",
        f"{LUA}/claim_retries.lua",
        "    redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, FAILING)\n",
        "",
        f"{FAMILY}::test_late_reports_of_an_earlier_round_change_nothing",
    ),
    Mutant(
        "a report for a batch that is gone makes no key",
        f"{LUA}/prelude.lua",
        "if not schema then return 'gone' end",
        "if not schema then schema = 1 end",
        f"{SCRIPTS}::test_a_report_for_a_batch_that_is_gone_makes_no_key",
    ),
    Mutant(
        "no round is without stamps that grow",
        f"{LUA}/claim_retries.lua",
        " and round <= LAST_ROUND then",
        " then",
        f"{DEAD}::test_what_was_kept_of_a_member_without_rounds_is_not_claimed",
    ),
    Mutant(
        "a member in its last round is not kept for another",
        f"{LUA}/record_outcome.lua",
        "if stamp >= LAST_ROUND * ROUND then",
        "if false then",
        f"{DEAD}::test_stamps_grow_with_every_round_and_there_is_none_after_the_fifteenth",
    ),
    Mutant(
        "who succeeds counts no more as not to be sent again",
        f"{LUA}/record_outcome.lua",
        "if before == DEAD and state ~= DEAD then forget_reason(index) end",
        "",
        f"{DEAD}::test_who_succeeds_after_all_counts_no_more_as_not_to_be_sent_again",
    ),
    # Never early
    Mutant(
        "nothing fires before the seal",
        f"{LUA}/prelude.lua",
        "local complete = sealed and succeeded",
        "local complete = succeeded",
        f"{SCRIPTS}::test_nothing_fires_before_the_seal",
    ),
    Mutant(
        "complete waits for the last member",
        f"{LUA}/prelude.lua",
        "+ tonumber(b[3]) + dead == total",
        "+ tonumber(b[3]) + dead >= total - 1",
        f"{SCRIPTS}::test_complete_comes_with_the_first_run_of_all_and_success_after_the_retry",
    ),
    Mutant(
        "an event fires once",
        f"{LUA}/prelude.lua",
        "if redis.call('HSETNX', BATCH, event .. '_at', now) == 0 then return end",
        "redis.call('HSETNX', BATCH, event .. '_at', now)",
        f"{SCRIPTS}::test_success_can_come_after_a_death_and_nothing_fires_twice",
    ),
    Mutant(
        "a sealed batch takes nobody from outside",
        f"{LUA}/enrol_members.lua",
        "if not may then return {'sealed'} end",
        "",
        f"{SCRIPTS}::test_after_the_seal_only_a_member_that_has_not_ended_adds",
    ),
    Mutant(
        "successors are enrolled before their predecessor counts",
        f"{LUA}/late.lua",
        "local grows = #arrivals > 0 and may_grow()",
        "local grows = false",
        f"{LATE}::test_a_report_enrols_its_successors_before_it_counts",
    ),
    Mutant(
        "a batch that lost a key counts nothing",
        f"{LUA}/late.lua",
        "if states < total or members < total then return nil, 'corrupt' end",
        "",
        f"{SCRIPTS}::test_a_batch_that_lost_a_key_never_counts_wrong_nor_fires_early",
    ),
    Mutant(
        "what a newer version stored is left alone",
        f"{LUA}/prelude.lua",
        "if tonumber(schema) > SCHEMA then return 'newer' end",
        "",
        f"{SCRIPTS}::test_a_newer_schema_is_refused_and_left_alone",
    ),
    Mutant(
        "a member that goes on under its own id is not done",
        "tracking/sender.py",
        "            successors.note_going_on(running.request)\n",
        "",
        f"{GOING_ON}::test_a_member_that_goes_on_under_its_own_id_is_not_done",
    ),
    Mutant(
        "what reports to a member's own chord is a member",
        "tracking/successors.py",
        " or passes_on(message, request.id)",
        "",
        f"{GOING_ON}::test_what_a_member_adds_to_its_own_chord_is_counted_to_its_end",
    ),
    Mutant(
        "all of very many successors are enrolled before their predecessor counts",
        "store/store.py",
        "            word, *more = self._change(self.scripts.enrol_successors, member.bid, *args)\n",
        "            word, *more = ('enrolled',)\n",
        f"{LATE}::test_a_report_that_is_told_in_parts_comes_to_the_same_as_a_whole",
    ),
    Mutant(
        "a result that is older than the batch says nothing",
        "tracking/stored_results.py",
        "return (max if _is_random(task_id) else min)(times) >= since",
        "return True",
        f"{RECONCILE}::test_what_an_earlier_task_with_the_same_id_left_says_nothing",
    ),
    # Never lost
    Mutant(
        "the script that fires fills the outbox",
        f"{LUA}/prelude.lua",
        "write_entry(entry, 'due', version or 0, now + LEASE_MS)",
        "local _ = version",
        f"{SCRIPTS}::test_a_claim_is_given_to_one_of_sixteen_in_firing_order",
    ),
    Mutant(
        "what just fired is leased to the one who fired it",
        f"{LUA}/prelude.lua",
        "write_entry(entry, 'due', version or 0, now + LEASE_MS)",
        "write_entry(entry, 'due', version or 0, now)",
        f"{SCRIPTS}::test_what_just_fired_is_leased_to_the_one_who_fired_it",
    ),
    Mutant(
        "a claim is a lease",
        f"{LUA}/claim_deliveries.lua",
        "    write_entry(entry, 'due', attempts, now + LEASE_MS)\n",
        "",
        f"{SCRIPTS}::test_a_claim_is_given_to_one_of_sixteen_in_firing_order",
    ),
    Mutant(
        "the sweeper publishes what was left behind",
        "tracking/sweeper.py",
        "elif batch.has_due and (claims :=",
        "elif False and (claims :=",
        f"{SWEEPER}::test_what_was_left_behind_is_published_once",
    ),
    Mutant(
        "a retired batch refuses a change until it is listed again",
        f"{LUA}/record_outcome.lua",
        "if b[1] then return {'retired'} end",
        "",
        f"{SWEEPER}::test_a_batch_that_is_over_leaves_the_list_and_a_late_report_brings_it_back",
    ),
    Mutant(
        "a callback has the same id whenever it is published",
        "delivery/publisher.py",
        """return f"cb_{bid}_{entry.replace(':', '_')}\"""",
        """return f"cb_{bid}_{entry.replace(':', '_')}_{os.urandom(4).hex()}\"""",
        f"{PUBLISHER}::test_callbacks_are_published_in_the_order_in_which_they_fired",
    ),
    Mutant(
        "what the broker did not take stays due",
        "delivery/publisher.py",
        """log.warning("not published yet: %s", exc)
                return""",
        """log.warning("not published yet: %s", exc)
                happened = "published\"""",
        f"{PUBLISHER}::test_a_broker_that_is_away_leaves_callbacks_due_and_the_seal_stands",
    ),
    Mutant(
        "while a delivery is open nothing expires",
        f"{LUA}/prelude.lua",
        "if ended and tonumber(life[1] or 0) == 0 then",
        "if ended then",
        f"{SCRIPTS}::test_a_successful_batch_lingers_from_its_last_delivery_on",
    ),
    Mutant(
        "an earlier attempt told late does not send the present one again",
        f"{LUA}/settle_delivery.lua",
        "and attempt > 0 and attempt < attempts then return {'repeated'} end",
        "and false then return {'repeated'} end",
        f"{SCRIPTS}::test_what_is_said_late_of_an_earlier_attempt_does_not_send_the_present_one_again",
    ),
    # Never stuck
    Mutant(
        "a report is tried again",
        "tracking/reporter.py",
        "if time.monotonic() + pause > deadline or (self._absence.noted and not patient):",
        "if True:",
        f"{REPORTER}::test_a_store_that_comes_back_in_time_needs_no_spool",
    ),
    Mutant(
        "what the store does not take goes to the disk",
        "tracking/reporter.py",
        "self._spool.append(pack_line(said))",
        "pack_line(said)",
        f"{REPORTER}::test_what_the_store_did_not_take_is_told_once_it_is_back_and_its_callbacks_follow",
    ),
    Mutant(
        "a report that names very many others is short enough for the disk",
        "tracking/spool_lines.py",
        "return each.task_id if each == _late(member, each.task_id) else asdict(each)",
        "return asdict(each)",
        "tests/tracking/test_spool_lines.py::test_a_report_takes_no_more_than_an_id_for_each_that_it_names",
    ),
    Mutant(
        "the spool's callbacks follow",
        "tracking/reporter.py",
        "        self._absence.end()\n        self._follow_up(said, recorded)\n\n    def _tell",
        "        self._absence.end()\n\n    def _tell",
        f"{REPORTER}::test_what_the_store_did_not_take_is_told_once_it_is_back_and_its_callbacks_follow",
    ),
    Mutant(
        "a call that may have left is not taken back",
        "tracking/enrolment.py",
        "                    call.sent = None\n",
        "",
        f"{BATCH}::test_a_broker_that_refuses_leaves_the_batch_open_and_resume_finishes_it",
    ),
    Mutant(
        "a member is marked before its acknowledgement leaves",
        "tracking/leases.py",
        "                self._mark(request)\n            except Exception:",
        "                pass\n            except Exception:",
        f"{LEASES}::test_a_running_member_is_marked_before_its_acknowledgement_leaves",
    ),
    Mutant(
        "a callback is marked as it arrives",
        "tracking/leases.py",
        "            self._mark(request)\n        else:",
        "            pass\n        else:",
        f"{LEASES}::test_a_callback_is_marked_as_it_arrives",
    ),
    Mutant(
        "what a lost worker held is settled",
        "tracking/lost_workers.py",
        "if beat.seconds_ago > self._lease:",
        "if False:",
        f"{LEASES}::test_what_a_lost_worker_ran_is_dead_and_nothing_of_the_worker_is_left",
    ),
    Mutant(
        "a worker lives until its lease has ended",
        "tracking/lost_workers.py",
        "living = [beat.wid for beat in beats if beat.seconds_ago <= self._lease]\n"
        "        for beat in beats:\n            if beat.seconds_ago > self._lease:",
        "living = []\n        for beat in beats:\n            if True:",
        f"{LEASES}::test_a_worker_whose_lease_has_not_ended_lives",
    ),
    Mutant(
        "a worker that was cut off judges nobody",
        "tracking/lost_workers.py",
        "if not self._leases.steady:",
        "if False:",
        f"{LEASES}::test_a_worker_that_is_not_sure_of_itself_judges_nobody",
    ),
    Mutant(
        "what another worker runs too is left to that one",
        "tracking/lost_workers.py",
        "or held.went_on or self._store.is_marked(living, field)",
        "or held.went_on",
        f"{LEASES}::test_a_member_that_another_worker_runs_too_is_left_to_that_one",
    ),
    Mutant(
        "a member that went on is not lost",
        "tracking/lost_workers.py",
        "or held.went_on or self._store.is_marked(living, field)",
        "or self._store.is_marked(living, field)",
        f"{LEASES}::test_a_mark_of_what_went_on_or_claims_nothing_changes_nothing",
    ),
    Mutant(
        "a producer that died is given up",
        f"{LUA}/abandon_batch.lua",
        "if at == 0 or at > now then return {'awaited'} end",
        "if true then return {'awaited'} end",
        f"{ABANDONED}::test_what_was_never_published_is_dead_and_says_why",
    ),
    Mutant(
        "a batch that was cut short does not succeed",
        f"{LUA}/abandon_batch.lua",
        "redis.call('HSET', BATCH, 'cut_short', 1)",
        "local _ = b",
        f"{ABANDONED}::test_a_batch_that_was_cut_short_ends_without_success_whatever_succeeded",
    ),
    Mutant(
        "a producer that was given up enrols nobody",
        f"{LUA}/enrol_members.lua",
        "if is_given_up(adder) then return {'abandoned'} end",
        "",
        f"{ABANDONED}::test_a_producer_that_comes_back_to_enrol_is_told",
    ),
    Mutant(
        "nobody is given up who reported meanwhile",
        f"{LUA}/write_off_members.lua",
        " or last_stamp(index) ~= stamp then return end",
        " then return end",
        f"{RECONCILE}::test_a_member_that_reported_since_it_was_looked_for_is_not_written_off",
    ),
    Mutant(
        "nobody is given up in a batch that moves",
        "tracking/repair/reconcile.py",
        "if why := _may_be_on_its_way(engine, bid):",
        "if False:",
        f"{RECONCILE}::test_nobody_is_given_up_in_a_batch_that_moves_or_is_not_sealed",
    ),
    Mutant(
        "an event that is true and did not fire is fired by a repair",
        "tracking/repair/reconcile.py",
        "fired = engine.store.conclude_batch(bid)",
        "fired = []",
        f"{RECONCILE}::test_an_event_that_is_true_and_did_not_fire_fires",
    ),
    Mutant(
        "a member that fails more often than is counted keeps its batch alive",
        f"{LUA}/record_outcome.lua",
        "if moves then redis.call('HSET', BATCH, 'reported_at', now) end",
        "moves = false",
        f"{DEAD}::test_a_member_that_fails_more_often_than_is_counted_keeps_its_batch_alive",
    ),
    # Never stuck: the lists are true
    Mutant(
        "an entry whose batch may be in the making stays",
        f"{LUA}/drop_entries.lua",
        "local old = ARGV[2] == '0' or score and score <= oldest_kept",
        "local old = true",
        f"{LISTS}::test_whoever_looks_while_a_batch_is_stored_leaves_it_on_its_lists",
    ),
    Mutant(
        "a batch that was stored slowly is listed once more",
        "store/store.py",
        "if clock() - began > UNSTORED_SECONDS / 2:",
        "if False:",
        f"{LISTS}::test_a_producer_that_was_slow_to_store_its_batch_lists_it_once_more",
    ),
    Mutant(
        "a revived batch is listed after its flag is cleared",
        "store/runner.py",
        """        # Again, because a sweeper that retired it between the two still takes it off the list.
        with store_errors(self.settings):
            self.lists.add_live(bid)
""",
        "",
        f"{LISTS}::test_a_batch_that_is_revived_while_it_is_retired_is_looked_after",
    ),
    Mutant(
        "what is put anew has a higher score",
        f"{LUA}/put_on_list.lua",
        "score and score >= now and score + 1 or now",
        "score and score >= now and score or now",
        f"{LISTS}::test_an_entry_that_was_put_anew_in_the_same_millisecond_is_not_dropped",
    ),
    Mutant(
        "a walk goes back where entries were removed",
        "store/paging.py",
        "if offset and (not page or fresh[:1] == page[:1]):",
        "if False:",
        f"{LISTS}::test_what_stays_is_seen_once_whatever_is_removed_during_a_walk",
    ),
    Mutant(
        "a walk passes what was seen of one score",
        "store/paging.py",
        "offset += size - 1  # the next read begins with an entry that was seen",
        "return",
        f"{LISTS}::test_a_walk_goes_on_behind_any_place_that_is_named",
    ),
    Mutant(
        "the lists live as long as the longest of their batches",
        "store/store.py",
        "began, life_ms = clock(), longest_life_ms(fields)",
        "began, life_ms = clock(), 0",
        f"{LISTS}::test_the_lists_live_as_long_as_a_batch_whose_own_lives_are_longer",
    ),
    Mutant(
        "a sweep prolongs the lists",
        "tracking/sweeper.py",
        "self._store.prolong_lists(longest_life_ms)",
        "pass",
        f"{SWEEPER}::test_a_sweep_lets_the_lists_live_as_long_as_what_is_on_them",
    ),
    Mutant(
        "a batch that runs stays on the list of cancelled ones",
        "store/trimming.py",
        "if not isinstance(answer, Exception) and answer[1]]",
        "if not isinstance(answer, Exception)]",
        f"{LISTS}::test_a_batch_is_cancelled_for_workers_as_long_as_it_runs",
    ),
    Mutant(
        "a sweep that takes long holds its lock",
        "tracking/sweeper.py",
        "if self._every.stopping or not self._keep_lock():",
        "if self._every.stopping:",
        f"{SWEEPER}::test_a_sweep_that_takes_long_holds_its_lock_and_ends_where_it_lost_it",
    ),
    Mutant(
        "a parent that cannot be touched does not stop its child",
        "tracking/sweeper.py",
        'BatchLog(logger, bid=bid).debug("not renewed for its child: %s", exc)',
        "raise",
        f"{SWEEPER}::test_a_child_is_healed_though_this_worker_cannot_touch_its_parent",
    ),
    Mutant(
        "a child of a cancelled batch is cancelled",
        "tracking/enrolment.py",
        "if self._parent.confirm_child(index):",
        "if self._parent.confirm_child(index) and False:",
        f"{FAMILY}::test_a_cancel_reaches_a_child_that_is_just_being_stored",
    ),
    # Never in the way
    Mutant(
        "the fields of a log line are nobody else's",
        "log_lines.py",
        'PREFIX = "batches_"',
        'PREFIX = ""',
        "tests/test_log_lines.py::test_structlog_shows_why_a_delivery_failed",
    ),
    Mutant(
        "a death looks at a hundred failures, however many are kept",
        f"{LUA}/failures.lua",
        "redis.call('HRANDFIELD', FAILURES, LOOKED_AT)",
        "redis.call('HKEYS', FAILURES)",
        f"{DEAD}::test_a_death_costs_no_more_if_very_many_failures_are_kept",
    ),
    Mutant(
        "a result is made anew by an attribute that the app has",
        "tracking/results.py",
        'name="AsyncResult", reverse="AsyncResult"',
        'reverse="no_such_attribute"',
        "tests/test_results.py::test_a_result_survives_pickling_and_copying",
    ),
    Mutant(
        "a channel that is denied changes nothing",
        f"{LUA}/prelude.lua",
        "redis.pcall('PUBLISH', CHANNEL, token)",
        "redis.call('PUBLISH', CHANNEL, token)",
        f"{SCRIPTS}::test_a_channel_that_is_denied_changes_no_count",
    ),
    Mutant(
        "every key gets the life of its batch",
        f"{LUA}/prelude.lua",
        "if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, redis.call('PTTL', BATCH)) end",
        "local _ = key",
        f"{LATE}::test_late_members_share_the_life_of_their_batch",
    ),
    Mutant(
        "one batch that cannot be read does not stop the sweeper",
        "tracking/sweeper.py",
        'BatchLog(logger, bid=batch.bid).warning("not swept: %r", exc)',
        "raise",
        f"{SWEEPER}::test_the_sweeper_is_not_stopped_by_one_batch_it_cannot_read",
    ),
    Mutant(
        "who got a mail gets it no second time because others were refused for now",
        f"{LUA}/settle_delivery.lua",
        "redis.call('HSET', BATCH, 'owed:' .. entry, owed)",
        "local _ = owed",
        f"{ATTEMPTS}::test_a_mail_that_some_recipients_refuse_for_now_reaches_each_of_them_once",
    ),
    Mutant(
        "who was refused for now is tried again",
        "notifiers/email.py",
        "if owed := [refusal for refusal in receipt.refused if not refusal.is_final]:",
        "if owed := []:",
        f"{ATTEMPTS}::test_a_mail_that_some_recipients_refuse_for_now_reaches_each_of_them_once",
    ),
    # What others must not see
    Mutant(
        "a text that somebody wrote names no variable of the environment",
        "notifiers/base.py",
        "own = _mark_secrets(kind, _as_fields(own)) if stored else mark_references(_as_fields(own))",
        "own = mark_references(_as_fields(own))",
        f"{REFERENCES}::test_who_can_write_to_the_store_gets_no_variable_into_a_text",
    ),
    Mutant(
        "a value of the environment is not repeated by an error",
        "notifiers/base.py",
        "if not repeats_environment(str(exc), values.values()):",
        "if True:",
        f"{REFERENCES}::test_an_error_about_a_value_names_the_variable_and_not_the_value",
    ),
    Mutant(
        "a value of the environment reaches neither store nor log",
        "notifiers/redaction.py",
        "hidden |= dict.fromkeys((str(value), *pieces), value.reference)",
        "pass",
        f"{REFERENCES}::test_neither_store_nor_log_holds_a_value_of_the_environment",
    ),
    # A follower never misses the end
    Mutant(
        "a follower's first reading comes after its subscription",
        "store/followed.py",
        "self.stir([bid] if bid not in self._unread else [])",
        "self.stir([bid])",
        f"{FOLLOWED}::test_a_batch_is_first_read_when_its_subscription_stands",
    ),
    Mutant(
        "a followed batch is read again whatever was heard",
        "store/followed.py",
        "wanted = chain(self._fresh, self._stirred, overdue)",
        "wanted = chain(self._fresh, self._stirred)",
        f"{FOLLOWED}::test_a_batch_is_read_after_five_seconds_without_a_token",
    ),
    Mutant(
        "a new subscription has the batches of the one that was cut",
        "store/inbox.py",
        "self._subscription.subscribe(batches)",
        "self._subscription.subscribe(new)",
        f"{FOLLOWING}::test_a_subscription_that_is_cut_misses_nothing",
    ),
    Mutant(
        "a subscription that is silent is left",
        "store/subscription.py",
        "if self._asked_at > self._heard_at:",
        "if False:",
        f"{FOLLOWING}::test_a_server_that_is_silent_is_asked_and_one_that_does_not_answer_is_left",
    ),
    Mutant(
        "a follower outlives a short absence of the store",
        "store/followed.py",
        "now < self.read_at + AWAY_SECONDS",
        "False",
        f"{FOLLOWING}::test_followers_outlive_a_restart_of_the_store",
    ),
    Mutant(
        "a fork's child has a listener of its own",
        "store/runner.py",
        'for name in ("client", "listener")',
        'for name in ("client",)',
        f"{FOLLOWING}::test_a_forks_child_follows_on_with_a_subscription_of_its_own",
    ),
    Mutant(
        "a listener does not leave as a follower comes",
        "store/listener.py",
        "            if self._orders:\n                return False\n",
        "",
        f"{FOLLOWING}::test_a_follower_that_comes_as_the_listener_leaves_is_served",
    ),
    Mutant(
        "a follower that is dropped leaves",
        "store/follow.py",
        "    def __del__(self) -> None:\n        self._close()",
        "    def __del__(self) -> None:\n        pass",
        f"{FOLLOWING}::test_followers_that_are_dropped_half_way_are_unsubscribed",
    ),
)
