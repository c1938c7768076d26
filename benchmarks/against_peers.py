"""FedTiny beside Flower and pfl-research: python benchmarks/against_peers.py PEERS_PYTHON [REPEATS [CLIENTS ...]].

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

from memory import Peak

HERE = Path(__file__).parent
REPEATS, ROUNDS, ACTORS = 5, 6, 2
FIGURES = re.compile(r"first_round_s=(?P<first>[\d.]+) .*clients_per_s=(?P<rate>[\d.]+)")


def watched(*words: str) -> tuple[str, int]:
    """What a command printed, and the peak memory of all its processes."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = Peak(process)
    peak.start()
    told, _ = process.communicate()
    peak.join()
    assert process.returncode == 0, told[-500:]
    return told, peak.bytes


def peer(python: str, name: str, clients: int, rounds: int) -> dict[str, float]:
    """First round's seconds after imports, clients a second, as the peer's script tells them, and memory."""
    told, memory = watched(python, str(HERE / "peers" / f"{name}_digits.py"), str(clients), str(rounds))
    found = FIGURES.search(told)
    assert found, told[-500:]
    return {"first": float(found["first"]), "rate": float(found["rate"]), "memory_mb": memory / 1e6}


def ours(clients: int, rounds: int) -> dict[str, float]:
    """The same of our fleet with two actors, the first round from the start of the command too, and overheads.

    `folding_pct` is what the driver spends on handing out orders and on reading, checking and summing uploads, of all
    time; `waiting_pct` the share of actors' time in which they do nothing for a client: dispatch cannot cost more.
    """
    printed, memory = watched(sys.executable, str(HERE / "fleet.py"), str(clients), str(rounds))
    told = json.loads(printed.splitlines()[-1])
    actors, driver, rate = told["actors_ms_a_client"], told["driver_ms_a_client"], told["clients_per_s"]
    return {
        "first": told["first_round_from_imports_s"],
        "first_from_command": told["first_round_from_command_s"],
        "rate": rate,
        "memory_mb": memory / 1e6,
        "folding_pct": 100 * (actors["put"] + driver["fold"]) * rate / 1e3,
        "waiting_pct": 100 * (actors["queue"] + actors["idle"]) * rate / 1e3 / ACTORS,
    }


def main(python: str, repeats: int, sizes: tuple[int, ...]) -> None:
    """Prints a table, then a line of JSON."""
    print(f"{'clients':>8} {'who':>8} {'clients/s':>10} {'first round, s':>15}   medians of {repeats}")
    rates: dict[int, dict[str, float]] = {}
    for clients in sizes:
        runs: dict[str, list[dict[str, float]]] = {"flower": [], "pfl": [], "fedtiny": []}
        for _ in range(repeats):
            runs["fedtiny"].append(ours(clients, ROUNDS))
            runs["pfl"].append(peer(python, "pfl", clients, ROUNDS))
            if clients < 1000:
                runs["flower"].append(peer(python, "flower", clients, ROUNDS))
            elif not runs["flower"]:  # once, with two rounds: five times six take a quarter of an hour
                runs["flower"].append(peer(python, "flower", clients, 2))
        rates[clients] = {}
        for who, figures in runs.items():
            if not figures:
                continue
            middle = {key: statistics.median(run[key] for run in figures) for key in figures[0]}
            rates[clients][who] = middle["rate"]
            more = ", ".join(f"{k} {v:.4g}" for k, v in middle.items() if k not in ("rate", "first"))
            print(f"{clients:8} {who:>8} {middle['rate']:10.1f} {middle['first']:15.1f}   {more}", flush=True)
    last = 300 if 300 in sizes else sizes[-1]
    print(json.dumps({"clients": last, **rates[last]}))


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else REPEATS,
        tuple(map(int, sys.argv[3:])) or (10, 100, 300, 1000),
    )
