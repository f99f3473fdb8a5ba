#!/usr/bin/env python3
"""Works out what minute bars make up, for resample_test.go and cmd/mds/resample_test.go.

    testdata/resample.py FILE ZONE    FILE is a CSV of minute bars with columns that end in
                                      date/time, open, high, low, close, volume (in that order)

prints, for 1h and 1d: bars, sum of opens, highs, lows, closes, volumes, first and last
label (UTC). Naive times are of ZONE, days are ZONE's.
"""
import csv, datetime, sys, zoneinfo
from fractions import Fraction

def main(path, zone):
    zone = zoneinfo.ZoneInfo(zone)
    utc = datetime.timezone.utc
    rows = []
    for r in csv.reader(open(path, newline="")):
        try:
            t = datetime.datetime.fromisoformat(r[0])
        except ValueError:
            continue
        if t.tzinfo is None:
            t = t.replace(tzinfo=zone)
        rows.append((t.astimezone(utc), *map(Fraction, r[1:6])))
    rows = sorted({r[0]: r for r in rows}.values())
    for every in ("1h", "1d"):
        spans = {}
        for t, o, h, l, c, v in rows:
            if every == "1h":
                at = t.replace(minute=0, second=0, microsecond=0)
            else:
                d = t.astimezone(zone).date()
                at = datetime.datetime(d.year, d.month, d.day, tzinfo=utc)
            if at not in spans:
                spans[at] = [o, h, l, c, v]
            else:
                s = spans[at]
                s[1], s[2], s[3], s[4] = max(s[1], h), min(s[2], l), c, s[4] + v
        sums = [float(sum(s[i] for s in spans.values())) for i in range(5)]
        print(every, len(spans), *sums, min(spans).isoformat(), max(spans).isoformat())

main(*sys.argv[1:])
