"""All figures that decide what the detector says of a cell: each with its unit and its reason.

They hold for everybody and cannot be configured: docs/detector.md says how they were found in simulation, for 2 to 30
cells and 2 to 300 events a second and cell. Whoever changes one runs `script/bench detector` before and after.
`cellrouter explain` shows them under the names that they have here.
"""

from __future__ import annotations

from math import log
from typing import Final

# Time
WINDOW_S: Final = 15.0
"""Seconds. Samples and canaries of this time are judged together; in 5 s with 10 events, chance looks like sickness."""
CONFIRM_S: Final = 5.0
"""Seconds for which a cell must be over a limit before it counts as slow: a short stall needs no treatment."""
MEMORY_S: Final = 600.0
"""Seconds over which all baselines forget. A creep of a minute can't hide in them."""
MIN_LEARNED_S: Final = 60.0
"""Seconds. Nothing is measured by a baseline that has been learned for less."""
MAX_PAUSE_S: Final = 1800.0
"""Seconds for which learning pauses while a cell is sick. What lasts longer becomes the baseline: nothing pauses for
ever."""
CANARY_MEMORY_S: Final = 4 * 3600.0
"""Seconds over which the baseline of a canary grows. It falls over MEMORY_S: so it is what was usual while all was
well, and no creep of an hour hides in it."""
SETTLED_S: Final = 60.0
"""Seconds after cells have come or gone, for which a single one beside it is too few to call a cell slow."""
SAMPLE_FRESH_S: Final = 2.5
"""Seconds for which a router's latest sample tells the present state: two intervals, and the way to the leader."""
SUCCESS_FRESH_S: Final = 1.5
"""Seconds for which a success is of just now: one interval, and the way to the leader."""
GLANCE_S: Final = 0.9
"""Seconds that are enough to send a cell less at once that looks slow in them: the last report of every router."""
LONG_GLANCE_S: Final = 1.9
"""Seconds that are looked at too, where there are few events; and for which a canary counts in a glance."""

# Slow by what its tenants see
MAX_RATIO: Final = 2.0
"""Times the baseline and times the other cells, of latencies and canaries. Less is not worth a replacement."""
MIN_OWN_RATIO: Final = 1.4
"""Times the cell's own baseline, at least: that the other cells have got faster does not make it slow."""
MIN_EXCESS_S: Final = 0.05
"""Seconds that an event must take longer than it should, whatever the ratio: less is not worth a replacement."""
MIN_TENANTS: Final = 5
"""Tenants. Fewer say nothing about their cell, since any of them may have changed its ways."""
MIN_PEERS: Final = 2
"""Other cells whose deviation is known. With fewer, a cell is compared with its own baseline too."""
MIN_SIGMA: Final = 6.0
"""Standard errors that a shift must be worth, unless the canary says the same: every cell is judged once a second."""
MIN_EVENT_SPREAD: Final = 0.6
"""Standard deviation of one tenant's log latencies, at least. Few events that agree by chance are no proof."""
MAX_COUNTED_EVENTS: Final = 10
"""Events of one tenant. More don't make its mean surer: what varies from then on is what the tenant sends."""
MAX_DEVIATION: Final = log(8.0)
"""Natural logarithm. No second of a tenant counts for more, so that a short stall does not look like a slow cell."""
RECOVERED_SIGMA: Final = 2.0
"""Standard errors by which the last CONFIRM_S must be below the limit before the cell counts as recovered."""
MIN_LATENCY_S: Final = 0.0005
"""Seconds. A shorter latency counts as this one: its logarithm would be noise."""

# Slow for a part of what it does, where its handler rehearses: another instance shows in a trial whether it is so
MIN_PART_RATIO: Final = 1.4
"""Times the baseline and the other cells. A fifth of the events at ten times their latency is 1.6; two fifths of the
tenants, twice."""
MIN_PART_EXCESS_S: Final = 0.01
"""Seconds that an event must take longer, by the mean of the logarithms: what is felt is far more, of a few."""
MIN_PART_SIGMA: Final = 4.0
"""Standard errors that a shift must be worth then: a trial in vain costs little, and replaces nobody."""
MIN_PART_TENANT: Final = log(3.0)
"""Natural logarithm, by which a tenant must deviate more than other cells do, to be one of those that are slow."""

# Slow by its canaries
MIN_CANARIES: Final = 3
"""Canaries of one vantage point that are kept for longer than WINDOW_S, where it sends few."""
CANARY_FRESH_S: Final = 60.0
"""Seconds for which they are kept: a router of a thousand cells sends each a canary every 20 s."""
MIN_POINTS: Final = 2
"""Vantage points that must find the canary slow, and more than half of all: what one alone finds is its path."""
MIN_CANARY_EXCESS_S: Final = 0.025
"""Seconds that a canary must take longer than it should, whatever the ratio: less is noise."""

# Workload: slow because of what the cell has to do
WORKLOAD_SHARE: Final = 0.25
"""Share of the time that used to be the others', taken by one tenant now; or share of all, taken by new tenants. So
much makes the other tenants slow, in another instance too."""
MAX_RATE_RATIO: Final = 2.0
"""Times the baseline number of events. A hold queue that is emptied makes a healthy cell slow."""
MAX_WORK_RATIO: Final = 1.15
"""Times the baseline work, counting only what is certain. At the edge of a cell's capacity, so much makes it slow."""
WORK_VARIATION: Final = 1.3
"""Coefficient of variation of what an event costs: how unsure the work of few events is."""
WORK_SIGMA: Final = 2.5
"""Standard errors that are taken off the work: what is left is certain."""
MIN_COST_INCREASE: Final = log(2.0)
"""Natural logarithm. A tenant that deviates by so much more than its cell sends events that cost more."""
MIN_COST_EVENTS: Final = 10
"""Events of one tenant. Fewer may cost more by chance."""
MIN_BUSY_PLACES: Final = 0.7
"""Places in its worker that work must occupy on average before it can be in the way of other work."""
NEW_TENANT_RATIO: Final = 5.0
"""Times its baseline share of the cell's time. A tenant that has more came at most two minutes ago: it is new."""

# Failing or hung
MAX_FAILURES: Final = 5
"""Failures in a row, of events at one router or of canaries. Fewer may be a passing fault."""
MIN_FAILING_TENANTS: Final = 3
"""Tenants whose events fail or wait. What only one or two suffer is their own, and a matter for the quarantine."""
HANG_S: Final = 5.0
"""Seconds without an answer to the canary, and without a success of any event: a slow cell still answers by then."""
MAX_SILENCE_S: Final = 8.0
"""Seconds in which no event in flight was answered. Longer than HANG_S, since events may rightly take their time."""
MAX_SILENCE_RATIO: Final = 3.0
"""Times the longest latency of late, which silence must be too: where events take minutes, silence is no sign."""

# What an instance says of itself: for words, and for a guard where many say the same
BUSY_SHARE: Final = 0.9
"""Share of its CPU, or of one core, from which on an instance is busy: there is hardly more to be had."""
STARVED_SHARE: Final = 0.2
"""Share of the time without a core though ready to run: so much makes what the instance does at least a quarter slower,
and what it does seldom far more."""
THROTTLED_SHARE: Final = 0.1
"""Share of the time that a CPU quota stops an instance. It does so for tens of ms at once, which events feel."""
SLOW_WRITE_S: Final = 0.05
"""Seconds that a store takes to write, on average: as much as makes an event too slow."""
STUCK_WRITE_S: Final = 1.0
"""Seconds that a single write takes, from which on it is told, though the others are quick or there are none."""
LATE_S: Final = 0.1
"""Seconds that an event loop is late at most, from which on it is told."""
GC_SHARE: Final = 0.1
"""Share of the time that garbage collection stops an instance, from which on it is told."""

# What comes and goes, over minutes
OBSERVED_S: Final = 300.0
"""Seconds that observations are of: what comes every minute comes five times in it."""
MIN_OBSERVED_S: Final = 60.0
"""Seconds that an instance was watched before anything is said of its minutes: it may be cold for as long."""
MIN_SPELLS: Final = 3
"""Slow spells of which it is said that they come and go: two may be chance."""
SPELL_GAP_S: Final = 2.5
"""Seconds between two spells: one good look in between ends none."""
MAX_SPELL_S: Final = 75.0
"""Seconds of a spell. A longer one gets a verdict, and no observation."""
MIN_STALL_S: Final = 0.5
"""Seconds that a canary must take for a stall, and half of the spell: nothing else is done in that time."""
MIN_STALL_RATIO: Final = 10.0
"""Times what a canary usually takes, for a stall: less is slow, and does not stand still."""
LATE_CANARY_S: Final = 0.15
"""Seconds that a single canary must take too long to be late. TCP sends a lost packet again after 200 ms at least."""
MIN_LATE_SHARE: Final = 0.03
"""Share of a vantage point's canaries that are late or lost, from which that is said."""
MIN_LATE: Final = 5
"""Canaries of a vantage point that are late or lost: fewer are chance."""
MIN_LATE_ALIKE: Final = 10
"""Canaries of the other vantage points that would be late if they were as lossy as one path; a tenth of them may be, or
it is not that path alone."""
MIN_LATE_OF: Final = 30
"""Canaries of a vantage point within OBSERVED_S: fewer don't tell how many are late."""
MIN_GROWTH: Final = log(1.3)
"""Natural logarithm of the growth of canaries' latencies beside the other cells' that is said, if it is steady."""
