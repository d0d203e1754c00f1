"""python -m secagg --check: makes all vectors anew and compares. --write: makes and stores them."""

import argparse
import json
import sys
from pathlib import Path

from .attempt import FORMAT, Attempt, Plan, attempt_json
from .bad_cases import case_json, coordinator_cases, pairwise_cases, worker_cases
from .components import components_json
from .p256 import p256_json
from .packed import packed_json
from .pairwise import pairwise_json

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "vectors" / "v1"
ELEMENTS = 41  # no multiple of a cipher block

ONE_LOST = Plan("n4_one_lost", "Four sites, t = 3; site 3 is lost after it dealt its shares, before its vector "
                "was complete: its mask key is rebuilt.", 4, 3, 3, ELEMENTS, {3: "input"})  # fmt: skip
LATE_LOSS = Plan("n4_lost_after_upload", "Four sites, t = 3; site 2 is lost after its vector was complete, before "
                 "it could agree: its vector counts and its seed is rebuilt.", 4, 3, 3, ELEMENTS,
                 {2: "agreement"})  # fmt: skip
FULL = Plan("n5_full", "Five sites, t = 4, m = 5, nobody lost.", 5, 4, 5, ELEMENTS, {})
TWO_LOST = Plan("n7_two_lost_early", "Seven sites, t = m = 5; site 7 does not advertise, site 2 does not deal.",
                7, 5, 5, ELEMENTS, {7: "advert", 2: "shares"})  # fmt: skip
CONVICTED = Plan("n4_convicted", "Four sites, t = 3; site 3 deals shares of another mask key than it advertised, "
                 "each matching its commitment, and is lost: rebuilding convicts it.", 4, 3, 3, ELEMENTS,
                 {3: "input"}, 3)  # fmt: skip

PACKED = Plan("n4_packed_one_lost", "Four sites, t = 3, words of 24 bits: deltas of 40 numbers and a metric, rotated, "
              "rounded to the nearest integer, without noise; site 2 is lost before its vector was complete.", 4, 3, 3,
              ELEMENTS, {2: "input"}, 0, 24)  # fmt: skip
PAIRWISE = Plan("n5_pairwise_one_lost", "Five sites, t = m = 4, with pairwise keys; site 2 is lost before its vector was "
                "complete: its root is rebuilt, its mask key derived and its pair seals opened.", 5, 4, 4, ELEMENTS,
                {2: "input"}, pairwise=True)  # fmt: skip
PLANS = (ONE_LOST, LATE_LOSS, FULL, TWO_LOST, CONVICTED, PACKED, PAIRWISE)


def all_files() -> dict[str, dict]:
    attempts = {plan.name: Attempt(plan) for plan in PLANS}
    # Deliveries repeat every commitment for every site: whole where bad cases need them, else by digest.
    files = {f"attempt_{name}.json": attempt_json(a, name in (ONE_LOST.name, TWO_LOST.name, PAIRWISE.name))
             for name, a in attempts.items()}  # fmt: skip
    files["components.json"] = components_json()
    files["p256.json"] = p256_json()
    files["packed.json"] = packed_json(FORMAT)
    files["pairwise.json"] = pairwise_json(FORMAT)
    pair = attempts[ONE_LOST.name], attempts[TWO_LOST.name]
    kinds = {"worker": worker_cases(*pair), "coordinator": coordinator_cases(*pair)}
    for to, cases in pairwise_cases(attempts[PAIRWISE.name]).items():
        kinds[f"{to}_pairwise"] = cases
    for name, cases in kinds.items():
        assert len({c.name for c in cases}) == len(cases)
        files[f"bad_for_{name}.json"] = {"format": FORMAT, "cases": [case_json(c) for c in cases]}
    return files


def main() -> int:
    parser = argparse.ArgumentParser(prog="secagg", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true")
    what.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = {name: json.dumps(content, indent=1) + "\n" for name, content in all_files().items()}
    wrong = sorted({f.name for f in FOLDER.glob("*.json")} - set(made))
    for name, text in made.items():
        path = FOLDER / name
        if write:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(name)
    for name in wrong:
        print(f"not what the reference makes: {name}", file=sys.stderr)
    total = sum(len(text) for text in made.values())
    print(f"{len(made)} files, {total} bytes, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
