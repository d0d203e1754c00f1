"""Transcripts with one thing wrong, the step that must refuse it, and the refusal."""

from dataclasses import dataclass, replace

import numpy as np

from . import messages as m
from . import primitives as p
from .attempt import Attempt, signed_json
from .coordinator import STEPS, Coordinator
from .worker import Refused, Worker

WORKER_STEPS = ["offer", "keys", "delivery", "survivors", "bundle", "result"]
LOW_ORDER = bytes(32)  # the point u = 0


@dataclass(frozen=True)
class Case:
    """`message` comes to `to` (a site, 0: the coordinator), whose next right message would be one of `state`.

    after: the right message of `step` has been taken before. upload: the vector that an input header goes with.
    refused: the code; else `complaint` is what the site answers, as (accused, code).
    """

    name: str
    attempt: Attempt
    to: int
    state: str
    step: str
    message: m.Signed
    refused: str = ""
    complaint: tuple[int, int] = (0, 0)
    after: bool = False
    upload: np.ndarray | None = None


def right_message(attempt: Attempt, step: str, site: int) -> m.Signed:
    single = {"offer": attempt.offer, "keys": attempt.keys, "survivors": attempt.survivors,
              "bundle": attempt.bundle, "result": attempt.result}  # fmt: skip
    many = {"delivery": attempt.deliveries, "advert": attempt.adverts, "shares": attempt.shares,
            "agreement": attempt.agreements, "unmask": attempt.unmasks}  # fmt: skip
    if step == "input":
        return attempt.inputs[site][1]
    return single[step] if step in single else many[step][site]


def give(worker: Worker, step: str, message: m.Signed):
    return getattr(worker, "on_" + step)(message)


def worker_at(attempt: Attempt, site: int, state: str) -> Worker:
    worker = attempt.world.worker(site)
    for step in WORKER_STEPS[: WORKER_STEPS.index(state)]:
        give(worker, step, right_message(attempt, step, site))
        if step == "delivery":
            worker.input(attempt.world.x(site))
    return worker


def hear(coordinator: Coordinator, step: str, message: m.Signed, upload) -> None:
    if step == "input":
        coordinator.on_upload(upload, message)
    else:
        getattr(coordinator, "on_" + step)(message)


def coordinator_at(attempt: Attempt, state: str) -> Coordinator:
    coordinator = attempt.world.coordinator()
    close = {"advert": coordinator.close_adverts, "shares": coordinator.close_shares,
             "input": coordinator.close_inputs, "agreement": coordinator.close_agreements}  # fmt: skip
    answers = {"advert": attempt.adverts, "shares": attempt.shares, "input": attempt.inputs,
               "agreement": attempt.agreements}  # fmt: skip
    for step in STEPS[: STEPS.index(state)]:
        for site in answers[step]:
            upload = attempt.inputs[site][0] if step == "input" else None
            hear(coordinator, step, right_message(attempt, step, site), upload)
        close[step]()
    return coordinator


def verify(case: Case) -> m.Signed | None:
    """Plays the case against this reference; the complaint, if that is the answer."""
    a = case.attempt
    try:
        if case.to == 0:
            site = case.message.what.dealer if case.step == "shares" else case.message.what.site
            coordinator = coordinator_at(a, case.state)
            if case.after:
                upload = a.inputs[site][0] if case.step == "input" else None
                hear(coordinator, case.step, right_message(a, case.step, site), upload)
            hear(coordinator, case.step, case.message, case.upload)
            raise AssertionError(f"{case.name}: not refused")
        worker = worker_at(a, case.to, case.state)
        if case.after:
            give(worker, case.step, right_message(a, case.step, case.to))
        answer = give(worker, case.step, case.message)
    except Refused as refused:
        assert refused.code == case.refused, f"{case.name}: {refused}"
        return None
    assert not case.refused, f"{case.name}: not refused"
    complaint = answer.what
    assert isinstance(complaint, m.Complaint), case.name
    assert (complaint.accused, complaint.code) == case.complaint, f"{case.name}: {complaint}"
    return answer


def case_json(case: Case) -> dict:
    complaint = verify(case)
    record = {
        "name": case.name,
        "attempt": case.attempt.world.plan.name,
        "to": case.to,
        "state": case.state,
        "step": case.step,
        "after_right_message": case.after,
        "message": signed_json(case.message),
    }
    if case.upload is not None:
        record["upload"] = {
            "elements": len(case.upload),
            "sha256": p.sha256(case.upload.astype("<u4").tobytes()).hex(),
        }
    if complaint is None:
        record["refused"] = case.refused
    else:
        record["complaint"] = signed_json(complaint)
    return record


class Liar:
    """Makes cases of one attempt: what a lying coordinator or site would sign."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        self.cases: list[Case] = []
        self.c = attempt.coordinator
        self.w = attempt.world
        self.other_id = replace(self.w.id, attempt=0)

    def to_site(self, name: str, site: int, step: str, what, refused: str = "", **more) -> None:
        message = what if isinstance(what, m.Signed) else self.c.sign(what)
        more.setdefault("state", step)
        self.cases.append(Case(name, self.attempt, site, step=step, message=message, refused=refused, **more))

    def to_coordinator(self, name: str, site: int, step: str, what, refused: str, **more) -> None:
        message = what if isinstance(what, m.Signed) else self.by_site(site, what)
        more.setdefault("state", step)
        if step == "input":
            more.setdefault("upload", self.attempt.inputs[site][0] if site in self.attempt.inputs else self.w.x(site))
        self.cases.append(Case(name, self.attempt, 0, step=step, message=message, refused=refused, **more))

    def by_site(self, site: int, what) -> m.Signed:
        return m.sign(self.w.identities[site], what)

    def altered(self, signed: m.Signed, **changes) -> m.Signed:
        """Another body under the old signature."""
        return m.Signed(replace(signed.what, **changes), signed.signature)


def changed(items: tuple, index: int, value) -> tuple:
    return items[:index] + (value,) + items[index + 1 :]


def every_step_to_sites(liar: Liar) -> None:
    a = liar.attempt
    for step in WORKER_STEPS:
        right = right_message(a, step, 1)
        liar.to_site(f"{step}: not signed by the coordinator", 1, step, liar.by_site(2, right.what), "bad-signature")
        other = replace(right.what, id=liar.other_id)
        liar.to_site(f"{step}: of another attempt", 1, step, other, "wrong-attempt")
    for state, step in (("offer", "keys"), ("keys", "delivery"), ("survivors", "bundle"), ("keys", "bundle")):
        right = right_message(a, step, 1)
        liar.to_site(f"{step}: while {state} is awaited", 1, step, right, "wrong-phase", state=state)
    rename = {"offer": {"attempts": 4}, "keys": {"chains": ("x",) * 4}, "delivery": {"t1": liar.w.secret("x")},
              "survivors": {"headers": a.survivors.what.headers[:2]}, "bundle": {"signatures": ()},
              "result": {"sum_sha256": liar.w.secret("x")}}  # fmt: skip
    for step, changes in rename.items():
        second = replace(right_message(a, step, 1).what, **changes)
        liar.to_site(f"{step}: a second one that differs", 1, step, second, "repeat-differs", after=True)


def offers(liar: Liar) -> None:
    right, x = liar.c.offer, liar.w.secret("x")
    roster = right.roster

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"offer: {name}", 1, "offer", replace(right, **changes), refused)

    bad("another charter", "charter", charter=x)
    bad("another base model", "model", base_model=x)
    bad("another adapter", "model", adapter=x)
    bad("another length", "elements", elements=right.elements + 1)
    bad("another key for the receiver", "roster", roster=changed(roster, 0, (roster[0][0], x)))
    bad("without the receiver", "roster", roster=changed(roster, 0, ("spiffe://law1.example/worker/other", x)))
    bad("a site twice", "roster", roster=changed(roster, 3, (roster[2][0], x)))
    bad("a key twice", "roster", roster=changed(roster, 3, (roster[3][0], roster[2][1])))
    bad("a jurisdiction that the charter lacks", "roster",
        roster=changed(roster, 3, ("spiffe://sybil.example/worker/site-4", roster[3][1])))  # fmt: skip
    bad("two sites", "cohort-too-small", roster=roster[:2], threshold=2, min_survivors=2)
    two = tuple((f"spiffe://law{1 + i % 2}.example/worker/site-{i + 1}", k) for i, (_, k) in enumerate(roster))
    bad("four sites of two jurisdictions", "cohort-too-small", roster=two)
    three = changed(roster, 3, ("spiffe://law3.example/worker/site-4", roster[3][1]))
    bad("four sites of three jurisdictions at t = 3", "threshold", roster=three)
    bad("t below its bound", "threshold", threshold=2)
    bad("t above n", "threshold", threshold=5, min_survivors=5)
    bad("2t = n + nC", "threshold", colluding=2)
    bad("m below t", "survivor-minimum", min_survivors=2)
    bad("m above n", "survivor-minimum", min_survivors=5)
    bad("nobody assumed to collude", "colluding", colluding=0)
    bad("one honest survivor", "honest-minimum", threshold=4, min_survivors=4, colluding=3)
    for k, step in enumerate(("advert", "shares", "input", "agreement", "unmask")):
        short = changed(right.deadlines, k, 999)
        bad(f"a deadline for {step} below the region's", "deadlines", deadlines=short)
    bad("a deadline above the region's", "deadlines", deadlines=changed(right.deadlines, 0, 600_001))
    bad("more attempts than the region allows", "attempts", attempts=9)
    bad("attempt 1 of one that is allowed", "attempts", attempts=1)


def adverts(liar: Liar) -> None:
    right, x = liar.attempt.keys.what, liar.w.secret("x")
    stranger = p.Identity(x)

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"keys: {name}", 1, "keys", replace(right, **changes), refused)

    def with_advert(index: int, signed: m.Signed) -> dict:
        return {"adverts": changed(right.adverts, index, signed)}

    def signed_by_its_site(index: int, **changes) -> dict:
        return with_advert(index, liar.by_site(index + 1, replace(right.adverts[index].what, **changes)))

    second, third = right.adverts[1], right.adverts[2].what
    other_key = p.x25519_public(x)
    bad("a swapped channel key", "bad-signature", **with_advert(1, liar.altered(second, channel_key=other_key)))
    bad("a swapped mask key", "bad-signature", **with_advert(1, liar.altered(second, mask_key=other_key)))
    resigned = m.sign(stranger, replace(second.what, mask_key=other_key))
    bad("an advert re-signed by a stranger", "bad-signature", **with_advert(1, resigned))
    by_coordinator = liar.c.sign(replace(second.what, mask_key=other_key))
    bad("an advert re-signed by the coordinator", "bad-signature", **with_advert(1, by_coordinator))
    bad("two sites' signatures changed places", "bad-signature",
        **with_advert(1, m.Signed(second.what, right.adverts[2].signature)))  # fmt: skip
    bad("the receiver's advert with another key", "own-message-changed",
        **with_advert(0, liar.altered(right.adverts[0], mask_key=other_key)))  # fmt: skip
    bad("the receiver's advert left out", "self-missing", adverts=right.adverts[1:], chains=right.chains[1:])
    bad("fewer than m adverts", "too-few-adverts", adverts=right.adverts[:2], chains=right.chains[:2])
    bad("an advert under another T0", "transcript", **signed_by_its_site(1, t0=x))
    bad("an advert of another attempt", "wrong-attempt", **signed_by_its_site(1, id=liar.other_id))
    chains = right.chains
    bad("the chain of another site", "untrusted-peer", chains=changed(chains, 1, chains[2]))
    bad("a chain that no root vouches for", "untrusted-peer", chains=changed(chains, 1, "unknown\n"))
    bad("a mask key that another site has", "duplicate-key", **signed_by_its_site(1, mask_key=third.mask_key))
    bad("a channel key that another site has", "duplicate-key", **signed_by_its_site(1, channel_key=third.channel_key))
    bad("a seed hash that another site has", "duplicate-key", **signed_by_its_site(1, seed_hash=third.seed_hash))
    bad("one key for both uses", "duplicate-key", **signed_by_its_site(1, mask_key=second.what.channel_key))
    bad("a mask key of low order", "duplicate-key", **signed_by_its_site(1, mask_key=LOW_ORDER))
    bad("a channel key of low order", "duplicate-key", **signed_by_its_site(1, channel_key=LOW_ORDER))
    bad("not sorted", "malformed", adverts=right.adverts[::-1], chains=chains[::-1])
    bad("an advert twice", "malformed", **with_advert(2, second))
    bad("a chain too few", "malformed", chains=chains[:3])
    bad("a site beyond the roster", "malformed", **signed_by_its_site(3, site=5))


def deliveries(liar: Liar) -> None:
    a, x = liar.attempt, liar.w.secret("x")
    right = a.deliveries[1].what
    second = right.rows[1]

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"delivery: {name}", 1, "delivery", replace(right, **changes), refused)

    def complains(name: str, row: m.Row, code: int) -> None:
        what = replace(right, rows=changed(right.rows, 1, row))
        liar.to_site(f"delivery: {name}", 1, "delivery", what, complaint=(2, code))

    def dealt(commitments) -> m.Row:
        what = m.Shares(liar.w.id, 2, right.t1, commitments)
        return m.Row(2, commitments, liar.by_site(2, what).signature, second.ciphertext)

    bad("for another site", "malformed", to=2)
    liar.to_site("delivery: another site's, whole", 1, "delivery", a.deliveries[2], "malformed")
    bad("under another T1", "transcript", t1=x)
    bad("without the receiver's row", "self-missing", rows=right.rows[1:])
    bad("fewer than m rows", "too-few-dealers", rows=right.rows[:2])
    bad("not sorted", "malformed", rows=right.rows[::-1])
    bad("a row twice", "malformed", rows=changed(right.rows, 2, second))
    own = right.rows[0]
    altered = changed(own.commitments, 2, replace(own.commitments[2], seed_share=x))
    bad("the receiver's own commitments altered", "own-message-changed",
        rows=changed(right.rows, 0, replace(own, commitments=altered)))  # fmt: skip
    bad("the receiver's own ciphertext altered", "own-message-changed",
        rows=changed(right.rows, 0, replace(own, ciphertext=second.ciphertext)))  # fmt: skip
    bad("a dealer without a commitment for each site", "malformed",
        rows=changed(right.rows, 1, dealt(second.commitments[:3])))  # fmt: skip
    others = a.shares[2].what.ciphertexts[2]
    complains("a ciphertext for another recipient", replace(second, ciphertext=others), 1)
    from_third = right.rows[2].ciphertext
    complains("a ciphertext of another dealer", replace(second, ciphertext=from_third), 1)
    flipped = bytes([second.ciphertext[0] ^ 1]) + second.ciphertext[1:]
    complains("a ciphertext with one bit turned", replace(second, ciphertext=flipped), 1)
    for name, change in (("mask key", {"mask_key_share": x}), ("seed", {"seed_share": x})):
        commitments = changed(second.commitments, 0, replace(second.commitments[0], **change))
        complains(f"a {name} share that does not match its commitment", dealt(commitments), 2)
    unsigned = changed(second.commitments, 3, replace(second.commitments[3], seed_share=x))
    complains("commitments that their dealer did not sign", replace(second, commitments=unsigned), 3)


def survivor_sets(liar: Liar) -> None:
    a, x = liar.attempt, liar.w.secret("x")
    right = a.survivors.what

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"survivors: {name}", 1, "survivors", replace(right, **changes), refused)

    def with_header(index: int, signed: m.Signed) -> dict:
        return {"headers": changed(right.headers, index, signed)}

    def signed_by_its_site(index: int, **changes) -> dict:
        what = right.headers[index].what
        return with_header(index, liar.by_site(what.site, replace(what, **changes)))

    third = liar.by_site(3, replace(right.headers[1].what, site=3))  # the lost site's header, had it sent one
    bad("without the receiver", "self-missing", headers=(right.headers[1], third, right.headers[2]))
    bad("fewer than m", "too-few-survivors", headers=right.headers[:2])
    bad("not sorted", "malformed", headers=right.headers[::-1])
    bad("a site twice", "malformed", **with_header(2, right.headers[1]))
    bad("under another T2", "transcript", t2=x)
    bad("a header under another T2", "transcript", **signed_by_its_site(1, t2=x))
    bad("a header of another attempt", "wrong-attempt", **signed_by_its_site(1, id=liar.other_id))
    bad("a header of another length", "elements", **signed_by_its_site(1, elements=right.headers[1].what.elements + 1))
    bad("a header altered", "bad-signature", **with_header(1, liar.altered(right.headers[1], sha256=x)))
    by_coordinator = liar.c.sign(third.what)
    bad("the lost site's header made up", "bad-signature",
        headers=(*right.headers[:2], by_coordinator, right.headers[2]))  # fmt: skip
    another = liar.by_site(1, replace(right.headers[0].what, sha256=x))
    bad("the receiver's header of another vector", "own-message-changed", **with_header(0, another))
    wider = replace(right, headers=(*right.headers[:2], third, right.headers[2]))
    liar.to_site("survivors: a second, wider set", 1, "survivors", wider, "repeat-differs", after=True)


def bundles(liar: Liar) -> None:
    a, x = liar.attempt, liar.w.secret("x")
    right = a.bundle.what

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"bundle: {name}", 1, "bundle", replace(right, **changes), refused)

    bad("too few signatures", "too-few-agreements", signatures=right.signatures[:2])
    bad("a signer twice", "malformed", signatures=changed(right.signatures, 2, right.signatures[1]))
    bad("not sorted", "malformed", signatures=right.signatures[::-1])
    bad("under another T2", "transcript", t2=x)
    swapped = changed(right.signatures, 2, (4, right.signatures[1][1]))
    bad("one site's signature for another's", "bad-signature", signatures=swapped)
    outside = liar.by_site(3, m.Agreement(liar.w.id, 3, right.t2, right.survivors)).signature
    bad("a signer outside U3", "outside-set",
        signatures=(*right.signatures[:2], (3, outside), right.signatures[2]))  # fmt: skip
    everyone = (1, 2, 3, 4)

    def agreed(sites) -> tuple:
        made = [(s, liar.by_site(s, m.Agreement(liar.w.id, s, right.t2, everyone))) for s in sites]
        return tuple((s, signed.signature) for s, signed in made)

    bad("on another U3", "transcript", survivors=everyone, signatures=agreed((2, 3, 4)))
    mixed = (right.signatures[0], *agreed((2,)), right.signatures[2])
    bad("one signature on another U3", "bad-signature", signatures=mixed)


def results(liar: Liar) -> None:
    right = liar.attempt.result.what

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_site(f"result: {name}", 1, "result", replace(right, **changes), refused)

    bad("under another T2", "transcript", t2=liar.w.secret("x"))
    bad("of another U3", "transcript", survivors=(1, 2, 3, 4))


def outside_sets(liar: Liar) -> None:
    """Of an attempt whose site 7 did not advertise and whose site 2 did not deal."""
    a = liar.attempt
    delivery, survivors = a.deliveries[1].what, a.survivors.what
    row = replace(delivery.rows[-1], dealer=7)
    what = replace(delivery, rows=(*delivery.rows, row))
    liar.to_site("delivery: a dealer outside U1", 1, "delivery", what, "outside-set")
    first = survivors.headers[0].what
    for site, where in ((2, "U2"), (7, "U1")):
        extra = liar.by_site(site, replace(first, site=site))
        headers = tuple(sorted((*survivors.headers, extra), key=lambda h: h.what.site))
        what = replace(survivors, headers=headers)
        liar.to_site(f"survivors: a site outside {where}", 1, "survivors", what, "outside-set")
    shares = replace(a.shares[1].what, dealer=7)
    liar.to_coordinator("shares: of a site outside U1", 7, "shares", shares, "outside-set")
    header = replace(first, site=2)
    liar.to_coordinator("input: of a site outside U2", 2, "input", header, "outside-set")


def from_sites(liar: Liar) -> None:
    """What a lying site says to the coordinator. Site 3 is lost before its input."""
    a, x = liar.attempt, liar.w.secret("x")
    second = {"advert": {"ledger_head": x}, "shares": {"commitments": a.shares[1].what.commitments},
              "input": {"sha256": x}, "agreement": {"survivors": (1, 2, 3, 4)},
              "unmask": {"mask_key_shares": ()}}  # fmt: skip
    for step, changes in second.items():
        right = right_message(a, step, 2)
        liar.to_coordinator(f"{step}: not signed by its site", 1, step, m.sign(liar.w.identities[1], right.what),
                            "bad-signature")  # fmt: skip
        liar.to_coordinator(f"{step}: of another attempt", 2, step, replace(right.what, id=liar.other_id),
                            "wrong-attempt")  # fmt: skip
        hashed = "t0" if step == "advert" else "t1" if step == "shares" else "t2"
        liar.to_coordinator(f"{step}: under another {hashed.upper()}", 2, step, replace(right.what, **{hashed: x}),
                            "transcript")  # fmt: skip
        liar.to_coordinator(f"{step}: a second one that differs", 2, step, replace(right.what, **changes),
                            "repeat-differs", after=True)  # fmt: skip
    advert = a.adverts[2].what
    liar.to_coordinator("advert: one key for both uses", 2, "advert", replace(advert, mask_key=advert.channel_key),
                        "duplicate-key")  # fmt: skip
    liar.to_coordinator("advert: a key of low order", 2, "advert", replace(advert, mask_key=LOW_ORDER), "duplicate-key")
    shares = a.shares[2].what
    short = replace(shares, commitments=shares.commitments[:3], ciphertexts=shares.ciphertexts[:3])
    liar.to_coordinator("shares: not for each site of U1", 2, "shares", short, "malformed")
    short = replace(shares, ciphertexts=shares.ciphertexts[:3])
    liar.to_coordinator("shares: a ciphertext too few", 2, "shares", short, "malformed")
    header = a.inputs[2][1].what
    longer = replace(header, elements=header.elements + 1)
    liar.to_coordinator("input: another length than the offer's", 2, "input", longer, "elements")
    y = a.inputs[2][0]
    sent = a.inputs[2][1]
    liar.to_coordinator("input: a header of another vector", 2, "input", sent, "digest", upload=y + np.uint32(1))
    liar.to_coordinator("input: an upload cut short", 2, "input", sent, "digest", upload=y[:-1])
    lost = replace(header, site=3)
    liar.to_coordinator("input: after U3 was fixed", 3, "input", lost, "late", state="agreement")
    agreement = replace(a.agreements[2].what, survivors=(1, 2, 3, 4))
    liar.to_coordinator("agreement: on another U3", 2, "agreement", agreement, "transcript")
    outside = replace(a.agreements[2].what, site=3)
    liar.to_coordinator("agreement: of a site outside U3", 3, "agreement", outside, "outside-set")
    unmasks(liar)


def unmasks(liar: Liar) -> None:
    a = liar.attempt
    held, right = a.workers[2].held, a.unmasks[2].what

    def bad(name: str, refused: str, **changes) -> None:
        liar.to_coordinator(f"unmask: {name}", 2, "unmask", replace(right, **changes), refused)

    seeds = right.seed_shares
    bad("both kinds for the lost site", "both-kinds", seed_shares=(*seeds[:2], held[3][1], seeds[2]))
    bad("both kinds for a survivor", "both-kinds", mask_key_shares=(held[1][0], held[3][0]))
    bad("no share of the lost site", "both-kinds", mask_key_shares=())
    bad("a survivor's share missing", "both-kinds", seed_shares=seeds[:2])
    wrong = replace(seeds[0], share=bytes([seeds[0].share[0] ^ 1]) + seeds[0].share[1:])
    bad("a share that does not match its commitment", "bad-share", seed_shares=changed(seeds, 0, wrong))
    bad("the mask key share in place of the seed share", "bad-share", seed_shares=changed(seeds, 0, held[1][0]))
    salted = replace(right.mask_key_shares[0], salt=liar.w.secret("x"))
    bad("another salt", "bad-share", mask_key_shares=(salted,))


def worker_cases(one_lost: Attempt, two_lost: Attempt) -> list[Case]:
    liar = Liar(one_lost)
    for part in (every_step_to_sites, offers, adverts, deliveries, survivor_sets, bundles, results):
        part(liar)
    outside = Liar(two_lost)
    outside_sets(outside)
    return liar.cases + [c for c in outside.cases if c.to != 0]


def coordinator_cases(one_lost: Attempt, two_lost: Attempt) -> list[Case]:
    liar, outside = Liar(one_lost), Liar(two_lost)
    from_sites(liar)
    outside_sets(outside)
    return liar.cases + [c for c in outside.cases if c.to == 0]


def pairwise_cases(attempt: Attempt) -> dict[str, list[Case]]:
    """Of an attempt with pairwise keys: what a worker, and what the coordinator, must refuse."""
    sites, centre = Liar(attempt), Liar(attempt)
    right, x = attempt.deliveries[1].what, attempt.world.secret("x")
    tags = right.pair_tags

    def bad(name: str, refused: str = "", **changes) -> None:
        complaint = changes.pop("complaint", (0, 0))
        sites.to_site(f"delivery: {name}", 1, "delivery", replace(right, **changes), refused, complaint=complaint)

    bad("without pair tags", "malformed", pair_tags=())
    bad("a pair tag too few", "malformed", pair_tags=tags[:-1])
    bad("another pair tag in the receiver's own row", "own-message-changed", pair_tags=changed(tags, 0, x))
    bad("another pair tag of site 3", pair_tags=changed(tags, 2, x), complaint=(3, 4))
    bad("two pair tags exchanged", pair_tags=changed(changed(tags, 3, tags[4]), 4, tags[3]), complaint=(4, 4))
    dealt = attempt.shares[3]
    for name, seals in (("without pair seals", ()), ("a pair seal too few", dealt.what.pair_seals[:-1])):
        shares = m.Signed(replace(dealt.what, pair_seals=seals), dealt.signature)
        centre.to_coordinator(f"shares: {name}", 3, "shares", shares, "malformed")
    return {"worker": sites.cases, "coordinator": centre.cases}
