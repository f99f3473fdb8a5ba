"""Prints, from a companyfacts body of the SEC, what the tests expect a store to
hold of it: the number of facts by span with their exact sums, the number of
records, and the figures that later filings restate.

    python3 companyfacts.py FILE
"""
import json
import math
import sys
from collections import defaultdict
from datetime import date

body = json.load(open(sys.argv[1]))
spans = defaultdict(list)
records, facts = set(), set()
values = defaultdict(dict)
for taxonomy, tags in body["facts"].items():
    for tag, about in tags.items():
        for unit, told in about["units"].items():
            for fact in told:
                span = "instant"
                if "start" in fact:
                    days = (date.fromisoformat(fact["end"]) - date.fromisoformat(fact["start"])).days + 1
                    months = round(days * 12 / 365.25)
                    assert months >= 1 and abs(days - months * 365.25 / 12) <= 8, fact
                    span = "FY" if months == 12 else f"{months}M"
                name = f"{taxonomy}:{tag}/{unit}"
                facts.add((name, span, fact["end"], fact["filed"], fact["accn"]))
                records.add((span, fact["end"], fact["filed"], fact["accn"]))
                spans[span].append(fact["val"])
                values[name, span, fact["end"]][fact["filed"]] = fact["val"]
print("facts", sum(map(len, spans.values())), "distinct", len(facts), "records", len(records))
for span in sorted(spans):
    print(span, len(spans[span]), repr(math.fsum(spans[span])))
restated = {k: v for k, v in values.items() if len(set(v.values())) > 1}
print("restated", len(restated))
for key in sorted(restated):
    print(*key, restated[key])
