"""Exclusive periodic entries: this process among the nodes that share them. One thread claims, fires and steps down.

An incarnation writes its claims, and its firings with the messages of their tasks, in transactions of one transactional id,
which only that incarnation uses. A beat that takes over from it fences that id first. So an incarnation that was taken for
dead can write nothing more: it notices, and goes on as another one that holds nothing.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from kafka_exec.core.beat.agenda import Agenda, Plan, Proposal
from kafka_exec.core.beat.claim import ClaimState, Do
from kafka_exec.core.beat.claimant import Act, Claimant, Terms
from kafka_exec.core.beat.claimlog import RecordKind, Signal
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import nodes_topic, sync_topic
from kafka_exec.errors import ConnectionFailed, NotConfirmed
from kafka_exec.kafka.beat.host import EntryHost
from kafka_exec.kafka.beat.synclog import SyncLog
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import Complaints, Setback
from kafka_exec.kafka.client.loop import Loop, run_once
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost, Refused, Transactor

logger = logging.getLogger("kafka_exec")

#: The role of a node that shares the entries, of :class:`~kafka_exec.core.nodes.heartbeat.Heartbeat`.
ROLE = "beat"

#: The longest poll, seconds: bounds the wait of a change of the schedule, of a fence and of the end.
_POLL = 0.1

#: The time between two looks for lost beats, seconds.
_LOOK = 0.1

#: An entry that cannot be fired because Kafka does not answer is tried again after this time, seconds.
_PAUSE = 1.0

#: The most firings of one transaction.
_MOST = 500

#: A node writes a checkpoint when so many records came since the last one.
_CHECKPOINT_EVERY = 1000

_TRANSIENT = (ConnectionFailed, NotConfirmed)


class _SteppedDown(Setback):
    """Another node has taken this incarnation for dead."""


class Exclusive:
    """This process's part in the entries, from :meth:`start` to :meth:`stop`.

    Args:
        name: the node's name.
        host: knows the entries, and fires them.
    """

    def __init__(self, cluster: Cluster, topics: Topics, name: str, host: EntryHost) -> None:
        self._cluster = cluster
        self._topics = topics
        self._name = name
        self._host = host
        self._sync = sync_topic(topics)
        self._log: SyncLog | None = None
        self._node = self._new_node()
        self._transactor = self._transactor_of(self._node.incarnation)
        self._opened = False
        self._is_stepping_down = False
        self._claimant: Claimant | None = None
        self._agenda = Agenda(self._complain)
        self._plans: Mapping[str, Plan] = {}
        self._outbox: list[Signal] = []
        self._fenced: deque[str] = deque()
        self._next_look = 0.0
        self._since_checkpoint = 0
        self._complaints = Complaints("beat")
        self._loop = Loop("beat", self._live, end=self._close, complaints=self._complaints)
        #: The time of the last turn, seconds of the monotonic clock: a watcher sees by it that the thread goes on.
        self.turned = time.monotonic()

    def start(self) -> None:
        """Begins; a second call changes nothing."""
        self._loop.start()

    def stop(self, timeout: float) -> bool:
        """Releases the claims, and leaves. Returns False if it takes longer than ``timeout`` seconds."""
        self._loop.stop()
        return self._loop.join(timeout)

    def states(self) -> Mapping[ClaimState, int]:
        """The number of entries in each state."""
        return {} if self._claimant is None else self._claimant.states()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Runs one incarnation, until it is stopped or has stepped down."""
        self.turned = time.monotonic()
        if self._is_stepping_down:
            self._step_down()  # an error has ended it before
        try:
            self._begin()
            while not self._loop.is_stopping:
                self._turn()
            self._leave()
        except _SteppedDown as news:
            self._complaints.tell(news)
            self._step_down()
        except BaseException:
            self._step_down()
            raise

    def _close(self) -> None:
        self._close_log()
        self._transactor.close()
        self._node.stop()

    def _new_node(self) -> Node:
        return Node(self._name, self._cluster, nodes_topic(self._topics), kind="beat")

    def _transactor_of(self, incarnation: str) -> Transactor:
        return Transactor(self._cluster, f"{self._topics.prefix}.beat.{incarnation}")

    def _begin(self) -> None:
        """Makes all that an incarnation needs."""
        self._node.start()
        self._node.announce(ROLE, True)
        self._transactor.open()
        self._opened = True
        if self._log is None:
            self._log = SyncLog(self._cluster, self._sync)
            former = () if self._claimant is None else self._claimant.former
            self._claimant = Claimant(self._node.incarnation, self._name, self._log.state, former=former)
            self._claimant.want(self._terms(), 0.0)

    def _leave(self) -> None:
        """Releases all claims; others need not wait until they notice that this node is gone."""
        if self._claimant is not None and (now := self._node.log_time()) is not None:
            self._host.stop(self._claimant.held, "its node is shut down")
            self._handle(self._claimant.want({}, now))
            self._write(())

    def _step_down(self) -> None:
        """Goes on as another incarnation, which holds nothing: it is not known if the last writes of this one succeeded."""
        self._is_stepping_down = True
        self._outbox.clear()
        self._fenced.clear()
        if self._claimant is not None:
            self._host.stop(self._claimant.held, "its node has lost the claim")
        self._close_log()
        self._transactor.close()
        former = self._node
        if self._opened:  # otherwise this incarnation has never written
            node = self._new_node()
            if self._claimant is not None:
                self._handle(self._claimant.renew(node.incarnation, 0.0))
            self._agenda.clear()
            self._node, self._transactor, self._opened = node, self._transactor_of(node.incarnation), False
        self._is_stepping_down = False
        if former is not self._node:
            former.stop()  # says goodbye, on which others take over: all is released by now

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()

    # -- one turn ------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self.turned = time.monotonic()
        log, claimant = self._log, self._claimant
        if log is None or claimant is None:
            raise Lost("the log of claims is not open")
        self._look_at_lease(claimant)
        now = self._node.log_time()
        if now is None:
            native.sleep(0.01)
            return
        records = log.read(self._time_to_read(now, claimant))
        now = self._node.log_time() or now
        for record, signal in records:
            self._handle(claimant.take(signal, record.offset(), record.timestamp()[1] / 1000, now))
            self._since_checkpoint = 0 if signal.kind is RecordKind.CHECKPOINT else self._since_checkpoint + 1
        if not claimant.ready and log.is_read:
            self._handle(claimant.begin(now))
        self._look_at_plans(claimant, now)
        self._look_for_the_lost(claimant, now)
        self._handle(claimant.turn(now))
        self._look_at_runs(claimant, now)
        self._fire(claimant, now)
        self._write_checkpoint(log, claimant)

    def _time_to_read(self, now: float, claimant: Claimant) -> float:
        times = [when for when in (self._agenda.next_due, claimant.next_timer) if when is not None]
        return 0.0 if self._outbox else max(0.0, min([_POLL, *(when - now for when in times)]))

    def _handle(self, acts: Iterable[Act]) -> None:
        for act in acts:
            if act.do is Do.STEP_DOWN:
                raise _SteppedDown(f"{self._name} was taken for dead, and goes on as another incarnation")
            if act.signal is not None:
                self._outbox.append(act.signal)
            elif act.do is Do.ACQUIRED and self._claimant is not None:
                self._agenda.acquired(act.entry, self._claimant.log.standing(act.entry))
                self._host.acquired(act.entry)
            elif act.do is Do.STOP_RUN:
                self._host.stop([act.entry], "its node has lost the claim, or lets it go")
            elif act.do is Do.RELEASED:
                self._agenda.released(act.entry)
                self._host.released(act.entry)

    def _look_at_plans(self, claimant: Claimant, now: float) -> None:
        if (plans := self._host.plans()) is not None:
            self._plans = plans
            self._agenda.plan(plans)
            self._handle(claimant.want(self._terms(), now))

    def _terms(self) -> dict[str, Terms]:
        heartbeat = self._cluster.settings.beat_claim_heartbeat
        return {entry: plan.terms(heartbeat) for entry, plan in self._plans.items()}

    def _look_at_lease(self, claimant: Claimant) -> None:
        """Steps down if runs on this node have lost their lease: they are over, and another node may hold their entries."""
        self._host.lease(self._node.leased_until)
        plans = (self._plans.get(entry) for entry in claimant.held)
        if self._node.lease.lost and any(plan is not None and plan.policy.on_node for plan in plans):
            raise _SteppedDown(f"{self._name} was not heard for too long, and goes on as another incarnation")

    def _look_at_runs(self, claimant: Claimant, now: float) -> None:
        """Stops runs on this node that take too long, and notes those that are over."""
        if overdue := self._agenda.overdue(now):
            logger.warning("periodic-overrun: runs take longer than their max_duration: %s", ", ".join(overdue))
            self._host.stop(overdue, "it takes longer than its max_duration")
        for entry in self._host.ended():
            self._end_run(claimant, entry, now)

    def _end_run(self, claimant: Claimant, entry: str, now: float) -> None:
        self._handle(claimant.ended(entry, now))
        self._agenda.ended(entry, now)
        if self._agenda.is_used_up(entry):
            self._handle(claimant.give_up(entry, now))

    def _look_for_the_lost(self, claimant: Claimant, now: float) -> None:
        while self._fenced:
            self._handle(claimant.fenced(self._fenced.popleft(), now))
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        for incarnation in claimant.to_fence(self._node.is_gone, self._node.others(ROLE), now):
            run_once("fence", partial(self._fence, incarnation))

    def _fence(self, incarnation: str) -> None:
        """Takes a lost incarnation's transactional id, which aborts its open transaction; in a thread of its own."""
        transactor = self._transactor_of(incarnation)
        try:
            transactor.open()
            self._fenced.append(incarnation)
        except Exception as error:
            logger.debug("%s could not be fenced: %s", incarnation, error)
        finally:
            transactor.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def _fire(self, claimant: Claimant, now: float) -> None:
        proposals: list[Proposal] = []
        own: list[Proposal] = []
        for each in self._agenda.due(now):
            if claimant.holds(each.entry):
                (own if self._plans[each.entry].policy.on_node else proposals).append(each)
        if own:
            self._begin_runs(claimant, own, now)
        while proposals:
            batch, size = [], 0
            while proposals and size < _MOST:
                batch.append(proposals.pop(0))
                size += len(batch[-1].firings)
            self._fire_together(claimant, batch, now)
        self._write(())

    def _begin_runs(self, claimant: Claimant, proposals: Sequence[Proposal], now: float) -> None:
        """Begins runs on this node when their firings are in the log, each in place of the run that is under way."""
        self._host.stop([each.entry for each in proposals if each.firings], "the next one replaces it")
        for entry in self._host.ended():
            self._end_run(claimant, entry, now)
        held = [each for each in proposals if claimant.holds(each.entry)]
        for each in held:
            for firing in each.firings:
                self._handle(claimant.fire(each.entry, firing, now, held=True))
        self._write(())
        now = self._node.log_time() or now
        for each in held:
            self._agenda.done(each)
            for firing in each.firings:
                self._agenda.begun(each.entry, now)
                self._host.begin(each.entry, firing, claimant.log.standing(each.entry).epoch)

    def _fire_together(self, claimant: Claimant, proposals: Sequence[Proposal], now: float) -> None:
        performed = [(each, self._perform(each, now)) for each in proposals]
        ready = [(each, records) for each, records in performed if records is not None]
        try:
            self._write_firings(claimant, ready, now)
        except Refused as refused:
            # Each firing is written alone, to find the refused one; topics that are gone are made again by then.
            logger.warning("firing together is refused: %s", refused)
            for each, _ in ready:
                self._fire_alone(claimant, each, now)

    def _fire_alone(self, claimant: Claimant, proposal: Proposal, now: float) -> None:
        records = self._perform(proposal, now)
        if records is None:
            return
        try:
            self._write_firings(claimant, [(proposal, records)], now)
        except Refused as refused:
            self._complain(proposal.entry, refused)
            self._agenda.given_up(proposal)

    def _perform(self, proposal: Proposal, now: float) -> list[Outgoing] | None:
        """The messages of the firings of an entry; None if they cannot be made now, or ever."""
        try:
            return [
                record
                for firing, runs in zip(proposal.firings, proposal.runs, strict=True)
                for record in self._host.perform(proposal.entry, firing, runs)
            ]
        except Exception as error:
            if isinstance(error, _TRANSIENT) or isinstance(error.__cause__ or error.__context__, _TRANSIENT):
                self._complaints.tell(error)
                self._agenda.later(proposal, now + _PAUSE)
            else:
                self._complain(proposal.entry, error)
                self._agenda.given_up(proposal)
            return None

    def _write_firings(
        self, claimant: Claimant, firings: Sequence[tuple[Proposal, Sequence[Outgoing]]], now: float
    ) -> None:
        self._write(())  # signals that are no firings must not be refused together with one
        for proposal, _ in firings:
            for firing in proposal.firings:
                self._handle(claimant.fire(proposal.entry, firing, now))
        try:
            self._write([record for _, records in firings for record in records])
        finally:
            self._outbox.clear()
        for proposal, _ in firings:
            self._agenda.done(proposal)
            if self._agenda.is_used_up(proposal.entry):
                self._handle(claimant.give_up(proposal.entry, now))

    def _write(self, records: Sequence[Outgoing]) -> None:
        """Writes the signals that wait to be sent, and these records, in one transaction, if there are any.

        Raises:
            Refused: some records can never be written; none was.
            Lost: this incarnation can write no more, or it is not known if the records were written.
        """
        signals, self._outbox = self._outbox, []
        own = [Outgoing(self._sync.name, each.encode(), each.entry or None, partition=0) for each in signals]
        if own or records:
            self._transactor.begin([*own, *records])
            self._transactor.commit()

    def _write_checkpoint(self, log: SyncLog, claimant: Claimant) -> None:
        if self._since_checkpoint >= _CHECKPOINT_EVERY and claimant.ready and claimant.held:
            self._since_checkpoint = 0
            self._outbox += claimant.log.checkpoint(self._node.incarnation)
            self._write(())
            log.trim()

    # -- telling -------------------------------------------------------------------------------------------------------

    def _complain(self, entry: str, error: Exception) -> None:
        logger.error("the periodic entry %s is not fired: %s", entry, error)
