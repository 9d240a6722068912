"""People of several accounts who submit, look, cancel, move, delete: through the server's API, seeded."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, field

from bench.soak.asking import Asking, Refusal

ACCOUNTS = 5
MEMBERS = 3
PERIOD_S = 15
"""People act so often."""
_LOOKS = (
    "/training-runs?limit=50",
    "/training-runs?state=waiting&limit=20",
    "/training-runs?tag=t7",
    "/queue?limit=50",
    "/quota",
    "/usage?by=user",
    "/usage?by=day",
    "/status",
    "/nodes",
    "/accounts",
    "/tokens",
)
_OF_RUN = ("", "/explain", "/events", "/metrics", "/metrics?points=true", "/logs")
_EXPECTED = (404, 409)
"""What people are told who are late: the run is gone, or has ended."""


@dataclass(slots=True)
class Account:
    """One account's tokens, and what it submitted lately."""

    name: str
    tokens: list[str]
    recent: deque[str] = field(default_factory=lambda: deque[str](maxlen=150))


class People:
    """Everybody. ``admin``: an administrator's token."""

    def __init__(self, asking: Asking, admin: str, chance: random.Random) -> None:
        self._asking, self._admin, self._chance = asking, admin, chance
        self._numbers = 0
        self.runs = 0
        self.refused: dict[str, int] = {}
        self._guests: deque[Account] = deque()
        self._codes: deque[tuple[str, str]] = deque(maxlen=20)
        self.accounts = [self._found(f"team{i}") for i in range(ACCOUNTS)]

    def act(self) -> None:
        """What is done in one period: about two runs are submitted."""
        chance = self._chance
        account = chance.choice(self.accounts)
        if chance.random() < 0.6:
            self._submit(account)
        if chance.random() < 0.3:
            self._look(account)
        if chance.random() < 0.15:
            self._change(account)

    def hourly(self) -> None:
        """An account comes and an older one goes; a budget, a weight, a quota and the retention of one are changed."""
        self._guests.append(self._found(f"guest{self._next()}"))
        self._submit(self._guests[-1])
        if len(self._guests) > 3:
            name = self._guests.popleft().name
            self._try("DELETE", f"/accounts/{name}")
        one = self._chance.choice(self.accounts).name
        self._try("PUT", f"/quota/{one}/budget", {"gpu_hours": 100_000 + self._next(), "per": "week"})
        self._try("PUT", f"/quota/{one}/share", {"weight": self._chance.randrange(1, 9)})
        self._try("PUT", f"/quota/{one}", {"gpus": self._chance.choice([12, 16, None])})

    def often(self) -> None:
        """Every ten minutes: a token is made and revoked, one that was never good is tried."""
        account = self._chance.choice(self.accounts)
        made = self._asking.ask(account.tokens[0], "POST", "/tokens", {"name": "short", "scope": "read"})
        self._asking.ask(made["token"], "GET", "/training-runs?limit=5")
        self._asking.ask(account.tokens[0], "DELETE", f"/tokens/{made['id']}")
        for token in (made["token"], f"ryd_wrong{self._next()}"):
            self._try("GET", "/queue", token=token)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _found(self, name: str) -> Account:
        self._asking.ask(self._admin, "POST", "/accounts", {"id": name, "plan": "unlimited"})
        tokens = [
            self._asking.ask(self._admin, "POST", f"/accounts/{name}/members", {"name": f"m{i}", "role": role})["token"]
            for i, role in zip(range(MEMBERS), ("manager", "user", "user"), strict=True)
        ]
        return Account(name, tokens)

    def _try(self, method: str, path: str, body: object = None, token: str = "") -> None:
        """Ask for what may be refused; counted by the status."""
        try:
            self._asking.ask(token or self._admin, method, path, body)
        except Refusal as refusal:
            if refusal.status not in (*_EXPECTED, 401):
                raise
            key = f"{method} {refusal.status}"
            self.refused[key] = self.refused.get(key, 0) + 1

    # runs

    def _submit(self, account: Account) -> None:
        chance = self._chance
        token = chance.choice(account.tokens)
        number = self._next()
        shape = chance.random()
        parameters = [{"seed": number * 100 + i} for i in range(chance.randrange(4, 16))] if shape < 0.3 else []
        if 0.3 <= shape < 0.45 and account.recent:
            after = f", after: [{', '.join(set(chance.choices(account.recent, k=2)))}]"
        else:
            after = ""
        body = {
            "manifest": self._manifest(number, after),
            "definition": self._code(account, token, number),
            "parameters": parameters,
            "force": True,
        }
        try:
            answer = self._asking.ask(token, "POST", "/training-runs", body)
        except Refusal as refusal:
            if not after or refusal.status >= 500:
                raise
            self.refused["after what is gone"] = self.refused.get("after what is gone", 0) + 1
            return
        account.recent.extend(answer["ids"])
        self.runs += len(answer["ids"])

    def _manifest(self, number: int, more: str) -> str:
        chance = self._chance
        size = chance.choice(["small", "small", "small", "medium", "cpu"])
        priority = chance.choice([50, 50, 50, 50, 30, 70, chance.randrange(101)])
        keys = f"priority: {priority}, tags: [t{number % 50}, n{number}], max_retries: {chance.choice([0, 0, 1])}"
        return (
            f"model_definition:\n  name: day-{number}\n  execution:\n    command: python3 train.py --number {number}\n"
            f"    compute_configuration: {{name: {size}}}\n"
            "training_results_reference:\n  type: local\n  target: {bucket: results}\n"
            f"runyard: {{{keys}{more}}}\n"
        )

    def _code(self, account: Account, token: str, number: int) -> str | None:
        """A definition: new ones mostly, some that were there before (what is made of the same is guessed ready)."""
        before = [sha for name, sha in self._codes if name == account.name]
        if before and self._chance.random() < 0.4:
            sha = self._chance.choice(before)
            try:
                self._asking.ask(token, "HEAD", f"/definitions/{sha}")
                return sha
            except Refusal:
                pass  # it went by the retention: another one
        content = f"code {number}".encode()
        sha = hashlib.sha256(content).hexdigest()
        self._asking.ask(token, "PUT", f"/definitions/{sha}", content)
        self._codes.append((account.name, sha))
        return sha

    def _look(self, account: Account) -> None:
        token = self._chance.choice(account.tokens)
        self._asking.ask(token, "GET", self._chance.choice(_LOOKS))
        if account.recent:
            run = self._chance.choice(account.recent)
            self._try("GET", f"/training-runs/{run}{self._chance.choice(_OF_RUN)}", token=token)

    def _change(self, account: Account) -> None:
        if not account.recent:
            return
        run, manager = self._chance.choice(account.recent), account.tokens[0]
        kind = self._chance.randrange(5)
        if kind == 0:
            self._try("PATCH", f"/training-runs/{run}", {"priority": self._chance.randrange(101)}, manager)
        elif kind == 1:
            self._try("POST", f"/training-runs/{run}/cancel", None, manager)
        elif kind == 2:
            self._try("DELETE", f"/training-runs/{run}", None, manager)
        elif kind == 3:
            self._try("POST", "/queue/move", {"id": run, "position": 1}, manager)
        else:
            tag = f"tag:t{self._chance.randrange(50)}"
            self._try("POST", "/training-runs/cancel", {"runs": [run, tag]}, manager)
