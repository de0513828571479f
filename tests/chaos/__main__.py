"""Chaos runs without end: `python -m tests.chaos --minutes 5`, or one again: `--seed 17`.

Prints a line per run. The files of a run that is not green are kept, and those of one with
answers that nothing explains.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.plan import draw_plan
from tests.chaos.run import Report, Verdict, make_run
from tests.chaos.selftests import SELF_TESTS, self_test_plan
from tests.chaos.servers import Servers, running_servers

SHOWN_VIOLATIONS = 20
SHOWN_ANSWERS = 5


def main() -> int:
    """Make runs; return the exit code: 1 if a promise was broken or an oracle is blind."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, help="for how long to draw seeds")
    parser.add_argument("--seed", type=int, help="the first seed; without --minutes the only one")
    parser.add_argument(
        "--broken",
        choices=["none", "all", *SELF_TESTS],
        default="none",
        help="builds to see red first",
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stepwire-chaos-runs-"))
    code = asyncio.run(_main(options, folder))
    if any(folder.iterdir()):
        _say(f"what is to be looked at is kept in {folder}")
    else:
        folder.rmdir()
    return code


async def _main(options: argparse.Namespace, folder: Path) -> int:
    first = int(time.time()) if options.seed is None else options.seed
    begun = time.monotonic()
    verdicts: Counter[str] = Counter()
    async with running_servers() as servers:
        _say_what_is_missing(servers)
        blind = [name for name in _wanted(options.broken) if not await _turns_red(name, servers)]
        seed = first
        while seed == first or time.monotonic() - begun < options.minutes * 60:
            if options.broken != "none" and not options.minutes and options.seed is None:
                break
            verdicts[(await _run(seed, servers, folder)).verdict] += 1
            seed += 1
    _say(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "no runs")
    if blind:
        _say(f"BLIND: no violation was seen in {', '.join(blind)}")
    proven = verdicts[Verdict.GREEN] or not verdicts
    return 0 if proven and not blind and not verdicts[Verdict.RED] else 1


async def _run(seed: int, servers: Servers, folder: Path) -> Report:
    plan = draw_plan(seed, has_own_disk=servers.has_own_disk, has_clocks=servers.clocks.movable)
    place = folder / f"seed-{seed}"
    report = await make_run(plan, servers, place)
    _tell(report)
    if report.verdict == Verdict.GREEN and not report.internal:
        shutil.rmtree(place)
    else:
        _say(f"  replay: python -m tests.chaos --seed {seed}")
    return report


async def _turns_red(name: str, servers: Servers) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        report = await make_run(self_test_plan(name), servers, Path(folder) / name)
    oracle = SELF_TESTS[name].oracle
    red = [each.what for each in report.violations if each.oracle == oracle]
    seen = f"{len(red)} violations of {oracle}, such as: {red[0]}" if red else f"{oracle} is BLIND"
    _say(f"broken build {name}: {report.seconds:.1f} s, {seen}")
    return bool(red)


def _wanted(broken: str) -> list[str]:
    return {"none": [], "all": list(SELF_TESTS)}.get(broken, [broken])


def _tell(report: Report) -> None:
    _say(report.line())
    for answer in report.internal[:SHOWN_ANSWERS]:
        _say(f"  INTERNAL: {answer}")
    for violation in report.violations[:SHOWN_VIOLATIONS]:
        _say(f"  {violation.oracle}: {violation.what}")
    if (more := len(report.violations) - SHOWN_VIOLATIONS) > 0:
        _say(f"  and {more} more")


def _say_what_is_missing(servers: Servers) -> None:
    if not servers.has_own_disk:
        _say("no full disks: this user may not mount one")
    if not servers.clocks.movable:
        _say("no clock jumps: there is no C compiler, cc")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
