"""What a sweep makes of each fault in each phase: the table that the tests go through and `docs/faults.md` shows.

`python tests/experiments/matrix.py` prints it for the page.
"""

from dataclasses import dataclass

from traps import Phase

from harness.errors import DEVICE_GONE, FailureClass

UNTRIED = "."
TOGETHER = " + "


@dataclass(frozen=True)
class Expected:
    """How a sweep ends to which one thing happens."""

    attempts: frozenset[FailureClass] = frozenset()
    """Classes of the attempts that failed and are kept. Empty: none failed."""
    device: frozenset[FailureClass] = frozenset()
    """Classes of the failure of the device itself. Empty: it has none."""
    is_complete: bool = True
    """Whether every place of the plan has its good row, without `--resume`."""
    is_given_back: bool = True
    """Whether the phone's settings stand as before, without another start."""

    def fits(self, attempts, device, is_complete):
        """Tell whether a sweep ended so."""
        if not set(attempts) <= self.attempts or is_complete is not self.is_complete:
            return False
        if self.device:
            return device in self.device
        return device is None and bool(attempts) is bool(self.attempts)


FULL = frozenset({FailureClass.STORAGE_FULL})
MEANING = {
    "goes on": Expected(),
    "again": Expected(attempts=DEVICE_GONE),
    "crashed": Expected(attempts=frozenset({FailureClass.CRASHED})),
    "parked": Expected(attempts=DEVICE_GONE, device=DEVICE_GONE, is_complete=False, is_given_back=False),
    "late": Expected(is_given_back=False),
    "no room": Expected(device=FULL, is_complete=False),
    "cell full": Expected(attempts=FULL, is_complete=False),
}

ONE = """
fault                | facts   | prepare | push tool | push model | pull    | gate    | run     | restore
adbd crashes         | goes on | goes on | goes on   | goes on    | again   | again   | again   | goes on
adbd hangs           | parked  | parked  | .         | parked     | parked  | parked  | parked  | late
adbd hangs briefly   | .       | .       | .         | goes on    | .       | .       | goes on | .
phone goes off       | parked  | .       | .         | .          | .       | parked  | parked  | late
phone reboots        | .       | goes on | .         | .          | .       | again   | again   | goes on
cable is out         | .       | parked  | parked    | .          | parked  | .       | parked  | .
cable is out briefly | .       | .       | goes on   | goes on    | again   | .       | again   | goes on
cable is dead        | .       | .       | parked    | .          | .       | parked  | .       | .
cable is slow        | .       | .       | .         | goes on    | goes on | .       | .       | .
storage is full      | no room | no room | no room   | cell full  | goes on | goes on | goes on | goes on
key is revoked       | parked  | .       | .         | .          | .       | .       | parked  | late
adb server is killed | goes on | goes on | .         | goes on    | again   | .       | again   | goes on
tool crashes         | .       | .       | .         | .          | .       | .       | crashed | .
"""
TWO = """
two at once                            | facts   | prepare | push tool | push model | pull   | gate  | run    | restore
storage is full + cable is out briefly | .       | .       | .         | cell full  | .      | .     | again  | .
adb server is killed + phone reboots   | .       | goes on | .         | .          | .      | .     | again  | .
adbd crashes + adb server is killed    | goes on | .       | .         | .          | .      | again | .      | goes on
cable is out + tool crashes            | .       | .       | .         | .          | .      | .     | parked | .
storage is full + key is revoked       | .       | .       | .         | .          | parked | .     | .      | .
cable is slow + adbd crashes           | .       | .       | .         | .          | again  | .     | .      | .
adb server is killed + cable is dead   | .       | .       | parked    | .          | .      | .     | .      | .
"""
BESIDE_ANOTHER = [
    ("phone goes off", Phase.RUN),
    ("phone reboots", Phase.MODEL),
    ("cable is out briefly", Phase.GATE),
    ("storage is full", Phase.PREPARE),
]


def cases(table):
    """Return what is tried of a table: faults, phase, and what is expected in a word."""
    (_, *phases), *rows = _cells(table)
    tried = [(faults, Phase(phase), word) for faults, *words in rows for phase, word in zip(phases, words, strict=True)]
    return [case for case in tried if case[-1] != UNTRIED]


def markdown(table):
    """Return a table as the page shows it."""
    head, *rows = _cells(table)
    shown = [[" " if cell == UNTRIED else cell for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *shown])


def _cells(table):
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


if __name__ == "__main__":
    print(markdown(ONE), markdown(TWO), sep="\n\n")
