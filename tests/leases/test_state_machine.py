"""The lease against a model of it, under every order of events that Hypothesis can think of."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from leases import mutex
from leases.models import Hold, Lease
from tests.leases.clock import let_pass

LLM = "lightweight-llm"
TTL, IDLE = 30.0, 300.0
SLACK = 2.0  # seconds by which a run may be slower than the model thinks


@dataclass
class Session:
    grant: mutex.Grant
    expires_in: float
    idle_for: float = 0.0
    outcome: str | None = None


class LeaseMachine(RuleBasedStateMachine):
    """`held` is the session that the model believes to be current; `sessions` are all that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Session] = []
        self.held: Session | None = None

    @initialize()
    def begin(self) -> None:
        Lease.objects.filter(service=LLM).update(session_id=None)
        Hold.objects.all().delete()

    def lapse(self, session: Session) -> None:
        idle_at_expiry = session.idle_for + session.expires_in
        session.outcome = "expired" if idle_at_expiry > IDLE - SLACK else "lost"
        self.held = None

    @rule(owner=st.sampled_from(["ann", "bob", "cid"]))
    def acquire(self, owner: str) -> None:
        grant = mutex.try_acquire(LLM, owner)
        assert (grant is None) == (self.held is not None)
        if grant is not None:
            assert all(grant.fencing_token > earlier.grant.fencing_token for earlier in self.sessions)
            self.held = Session(grant, expires_in=min(TTL, IDLE))
            self.sessions.append(self.held)

    @rule(data=st.data(), active=st.booleans())
    def renew(self, data: st.DataObject, active: bool) -> None:
        session = self.any_session(data)
        if session is None:
            return
        idle_for = 0.0 if active else session.idle_for
        if abs(IDLE - idle_for - TTL) < 2 * SLACK:
            return  # both deadlines at once: either name for the end would be right
        remaining = mutex.renew(session.grant, idle_for=idle_for)
        assert (remaining is not None) == (session is self.held)
        if remaining is not None:
            session.idle_for = idle_for
            session.expires_in = min(TTL, IDLE - idle_for)
            assert remaining == pytest.approx(session.expires_in, abs=SLACK)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        session = self.any_session(data)
        if session is None:
            return
        assert mutex.release(session.grant) == (session is self.held)
        if session is self.held:
            session.outcome, self.held = "released", None

    @rule(data=st.data())
    def force(self, data: st.DataObject) -> None:
        session = self.any_session(data)
        if session is None:
            return
        ended = mutex.force_release(LLM, session.grant.session_id, by="ops", reason="why not")
        assert ended == (session is self.held)
        if session is self.held:
            session.outcome, self.held = "forced", None

    @rule(
        data=st.data(),
        stranger=st.sampled_from([{"owner": "eve"}, {"fencing_token": -1}, {"session_id": "x"}]),
    )
    def forge(self, data: st.DataObject, stranger: dict[str, object]) -> None:
        session = self.any_session(data)
        if session is None:
            return
        forged = replace(session.grant, **stranger)  # type: ignore[arg-type]
        assert mutex.renew(forged) is None
        assert not mutex.release(forged)
        assert not mutex.confirm(forged)

    @rule(seconds=st.sampled_from([5.0, 12.0, 20.0, 40.0, 400.0]))
    def wait(self, seconds: float) -> None:
        let_pass(seconds)
        if self.held is not None:
            # Steps of this size keep clear of a deadline by more than SLACK, or the model could not tell.
            self.held.idle_for += seconds
            self.held.expires_in -= seconds
            if abs(self.held.expires_in) < SLACK:
                let_pass(2 * SLACK)
                self.held.idle_for += 2 * SLACK
                self.held.expires_in -= 2 * SLACK
            if self.held.expires_in < 0:
                self.lapse(self.held)

    @invariant()
    def one_holder_and_a_true_history(self) -> None:
        live = [lease.session_id for lease in Lease.objects.filter(service=LLM).live()]
        assert live == ([self.held.grant.session_id] if self.held else [])
        for session in self.sessions:
            assert mutex.confirm(session.grant) == (session is self.held)
        written = dict(Hold.objects.values_list("session_id", "outcome"))
        ended = {s.grant.session_id: s.outcome for s in self.sessions if s.outcome}
        assert written.items() <= ended.items()
        # At most the last one lapsed without anybody having come since to write it down.
        assert len(ended) - len(written) <= 1

    def any_session(self, data: st.DataObject) -> Session | None:
        if not self.sessions:
            return None
        return data.draw(st.sampled_from(self.sessions[-4:]))


@pytest.mark.usefixtures("leases")
def test_the_lease_behaves_like_its_model() -> None:
    run_state_machine_as_test(
        LeaseMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
