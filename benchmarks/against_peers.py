"""FedTiny's fleet beside Flower and pfl-research on one piece of work: python benchmarks/against_peers.py PEERS_PYTHON.

`make bench-fleet` makes the peers' virtual environment (Flower pins another Ray) and runs this. Every figure is the
median of five, taken in turns so that whatever else the machine does hits all three alike. The last line is JSON:
clients a second at 300 clients.
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPEATS, ROUNDS = 5, 6
FIGURES = re.compile(r"first_round_s=(?P<first>[\d.]+) .*clients_per_s=(?P<rate>[\d.]+)")


def peer(python: str, name: str, clients: int, rounds: int) -> dict[str, float]:
    """First round's seconds after imports, and clients a second, as the peer's script tells them."""
    done = subprocess.run(
        [python, str(HERE / "peers" / f"{name}_digits.py"), str(clients), str(rounds)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = FIGURES.search(done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return {"first": float(found["first"]), "rate": float(found["rate"])}


def ours(clients: int, rounds: int) -> dict[str, float]:
    """The same of our fleet with two actors, the first round from the start of the command too, and memory."""
    done = subprocess.run(
        [sys.executable, str(HERE / "fleet.py"), str(clients), str(rounds)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    actors, driver = told["actors_ms_a_client"], told["driver_ms_a_client"]
    return {
        "first": told["first_round_from_imports_s"],
        "first_from_command": told["first_round_from_command_s"],
        "rate": told["clients_per_s"],
        "memory_mb": told["memory_bytes"] / 1e6,
        "overhead_pct": 100 * (actors["put"] + driver["fold"]) * told["clients_per_s"] / 1e3,
    }


def main(python: str, repeats: int) -> None:
    """Prints a table, then a line of JSON."""
    print(f"{'clients':>8} {'who':>8} {'clients/s':>10} {'first round, s':>15}   medians of {repeats}")
    rates: dict[int, dict[str, float]] = {}
    for clients in (10, 100, 300, 1000):
        runs: dict[str, list[dict[str, float]]] = {"flower": [], "pfl": [], "fedtiny": []}
        for _ in range(repeats):
            runs["fedtiny"].append(ours(clients, ROUNDS))
            runs["pfl"].append(peer(python, "pfl", clients, ROUNDS))
            if clients < 1000:  # at 1000 Flower takes minutes, and says what it says at 300
                runs["flower"].append(peer(python, "flower", clients, ROUNDS))
        rates[clients] = {}
        for who, figures in runs.items():
            if not figures:
                continue
            middle = {key: statistics.median(run[key] for run in figures) for key in figures[0]}
            rates[clients][who] = middle["rate"]
            more = ", ".join(f"{k} {v:.4g}" for k, v in middle.items() if k not in ("rate", "first"))
            print(f"{clients:8} {who:>8} {middle['rate']:10.1f} {middle['first']:15.1f}   {more}", flush=True)
    print(json.dumps({"clients": 300, **rates[300]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else REPEATS)
