"""Words that make two questions different ones, however near their meanings. English only."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final


def _words(text: str) -> list[str]:
    return text.split()


def _forms(**groups: str) -> Mapping[str, str]:
    return {form: name for name, forms in groups.items() for form in (name, *forms.split())}


_UP_TO_TWENTY: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_ORDINALS: Final = _words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
_TENS: Final = _words("thirty forty fifty sixty seventy eighty ninety")

NUMBERS: Final = {
    **{word: str(number) for number, word in enumerate(_UP_TO_TWENTY)},
    **{word: str(number) for number, word in enumerate(_ORDINALS, start=1)},
    **{word: str(10 * number) for number, word in enumerate(_TENS, start=3)},
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "dozen": "12",
    "half": "1/2",
    "quarter": "1/4",
    "twice": "2",
    "double": "2",
    "triple": "3",
    "plus": "+",
    "minus": "-",
}
"""Words for numbers. `one` and `second` are often something else: see `reading`."""

UNITS: Final = _forms(
    second="seconds sec secs",
    minute="minutes min mins",
    hour="hours hr hrs hourly",
    day="days daily",
    week="weeks weekly",
    month="months monthly",
    year="years yearly annual annually yr yrs",
    km="kilometer kilometers kilometre kilometres kms",
    m="meter meters metre metres",
    cm="centimeter centimeters centimetre centimetres",
    mm="millimeter millimeters millimetre millimetres",
    mile="miles mi",
    yard="yards yd",
    foot="feet ft",
    inch="inches",
    kg="kilogram kilograms kilo kilos kgs",
    g="gram grams",
    mg="milligram milligrams",
    lb="pound pounds lbs",
    ounce="ounces oz",
    ton="tons tonne tonnes",
    l="liter liters litre litres",
    ml="milliliter milliliters millilitre millilitres",
    gallon="gallons gal",
    cup="cups",
    celsius="°c centigrade",
    fahrenheit="°f",
    kelvin="",
    percent="% per-cent",
    usd="$ dollar dollars",
    eur="€ euro euros",
    gbp="£",
    jpy="¥ yen",
    byte="bytes",
    kb="kilobyte kilobytes kib",
    mb="megabyte megabytes mib",
    gb="gigabyte gigabytes gib",
    tb="terabyte terabytes tib",
    bit="bits",
    hz="hertz",
    khz="kilohertz",
    mhz="megahertz",
    ghz="gigahertz",
    watt="watts",
    kw="kilowatt kilowatts",
    volt="volts",
    ampere="amperes amps",
    calorie="calories kcal",
    acre="acres",
    hectare="hectares",
    mph="",
    kmh="km/h kph",
    am="a.m",
    pm="p.m",
)
"""Units by their forms."""
AMBIGUOUS_UNITS: Final = frozenset(_words("m g l am pm mi min sec second"))
"""Units only behind a number: by themselves they are letters, verbs, or places in a row."""

DATES: Final = _forms(
    january="jan",
    february="feb",
    march="",
    april="apr",
    june="",
    july="",
    august="aug",
    september="sept sep",
    october="oct",
    november="nov",
    december="dec",
    monday="mondays",
    tuesday="tuesdays",
    wednesday="wednesdays",
    thursday="thursdays",
    friday="fridays",
    saturday="saturdays",
    sunday="sundays",
    weekend="weekends",
    weekday="weekdays",
    today="",
    tomorrow="",
    yesterday="",
    tonight="",
    morning="mornings",
    noon="midday",
    afternoon="afternoons",
    evening="evenings",
    night="nights",
    midnight="",
    spring="",
    summer="summers",
    autumn="fall",
    winter="winters",
    last="previous past",
    next="upcoming following",
    ago="",
    easter="",
    christmas="",
)
"""Words for times by their forms."""

NEGATORS: Final = frozenset(
    _words(
        "not no never none nobody nothing nowhere neither nor without cannot non except excluding "
        "unless hardly barely lack lacks lacking avoid avoids instead"
    )
)
"""Words that turn a meaning round; words that end in `n't` do as well."""

PREFIXES: Final = ("un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "a", "anti")
"""Put before a word, they turn it round."""

_OPPOSITES: Final = """
after|before; above|below; over|under; more|less fewer; most|least fewest; up|down; in|out;
on|off; increase raise|decrease reduce lower; rise|fall; high|low; higher|lower; highest|lowest;
best|worst; better|worse; good|bad; max maximum|min minimum; large big|small;
larger bigger|smaller; largest biggest|smallest; long|short; longer|shorter; longest|shortest;
fast|slow; faster|slower; fastest|slowest; cheap cheaper|dear dearer expensive; cheapest|dearest;
old|new; older|newer younger; oldest|newest youngest; early|late; earlier|later; earliest|latest;
first|last; near|far; start begin|stop end finish; open|close; opening|closing; buy|sell;
pass|fail; passed|failed; win|lose; won|lost; add|remove delete; inside|outside; import|export;
upload|download; push|pull; lock|unlock; hot|cold; warm warmer|cold colder; hottest|coldest;
true|false; accept|reject decline; allow|forbid deny block; include|exclude; with|without;
pro|con; left|right; front|back; top|bottom; nearest|farthest; arrive|leave depart; send|receive;
give|take; male|female; man|woman; men|women; strong|weak; always|never; love|hate; like|dislike;
public|private; input|output; encode|decode; encrypt|decrypt; ascending|descending;
vertical|horizontal; north|south; east|west; credit|debit; lend|borrow; teach|learn;
cause|prevent; gain|lose; heavy|light; active|passive; read|write; who|when|where|why;
everyone|nobody; husband|wife; mother|father; son|daughter
"""

FUNCTION_WORDS: Final = frozenset(
    _words("""
    a an the this that these those there here it its and or but if then than so as of at by for
    from in into on onto to with within between about via i me my mine you your yours we us our
    ours he him his she her hers they them their theirs one ones what which who whom whose when
    where why how is am are was were be been being do does did doing done have has had having
    can could may might must shall should will would what's it's i'd i'm i've i'll you're that's
    how's where's who's there's here's let's st nd rd th also too just really exactly simply
    simple actually please tell explain explained describe define give say know want would like
    need mean means meaning thing way possible using get got some any all each every both such
    out up
    """)
)
"""Words that are mere grammar, or say no more than that somebody asks."""

_SYNONYMS: Final = """
number many much count; height tall high; age old; speed fast quick; distance far; size large big;
duration long period; frequency often; remove delete erase; repair fix; begin start commence;
end finish; create make build produce; buy purchase; movie film; telephone phone; cost price;
author wrote write written writer; invent inventor inventing; discover discoverer;
difference differ different; shop store; problem issue trouble; picture image photo; child kid;
children kids; country nation; mother mom mum; father dad; choose select pick;
change modify alter; car automobile; doctor physician; sick ill; contain include; show display;
big large; effect affect; benefit advantage; summary summarise summarize; translate translation;
reason cause
"""


@lru_cache(maxsize=4_096)
def stem(word: str) -> str:
    """Returns `word` without the commonest endings of English."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word[: -len(ending)] + instead
    return word


_SHORTEST: Final = 3
_ENDINGS: Final = (
    *(("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")),
    *(("ing", ""), ("ed", ""), ("ss", "ss"), ("us", "us"), ("is", "is"), ("es", ""), ("s", "")),
    *(("e", ""), ("y", "y")),
)

SYNONYMS: Final = {
    stem(word): stem(group.split()[0]) for group in _SYNONYMS.split(";") for word in group.split()
}
"""Stems of words that mean the same here, by the stem of one of them."""


def _sides() -> dict[str, frozenset[tuple[int, int]]]:
    sides: dict[str, frozenset[tuple[int, int]]] = {}
    for group, opposites in enumerate(_OPPOSITES.split(";")):
        for side, words in enumerate(opposites.split("|")):
            for word in map(stem, words.split()):
                sides[word] = sides.get(word, frozenset()) | {(group, side)}
    return sides


SIDES: Final = _sides()
"""Stems of words that exclude those on the other sides of their groups."""
