"""Prints what the tests expect a store to hold of the real option and news
files.

    python3 realkinds.py DATA
"""
import csv
import html
import json
import math
import sys

data = sys.argv[1]
rows = list(csv.DictReader(open(data + "/options/options_backtester/options_data.csv")))
print("options", len(rows), "zero bids", sum(float(r["bid"]) == 0 for r in rows),
      "positive theta", sum(float(r["theta"]) > 0 for r in rows),
      "days", len({r["quotedate"] for r in rows}),
      "contracts", len({(r["underlying"], r["expiration"], r["type"], r["strike"]) for r in rows}))
for name in ["underlying_last", "last", "bid", "ask", "volume", "openinterest", "impliedvol", "delta", "gamma", "theta", "vega"]:
    print(name, repr(math.fsum(float(r[name]) for r in rows)))
items = json.load(open(data + "/news/interactive-broker-python-api/news-data.json"))["news"]["content"]
print("items", len(items), "headlines", len({i["headlineContent"] for i in items}))
print(repr(html.unescape(items[0]["headlineContent"])))
articles = json.load(open(data + "/news/interactive-broker-python-api/widgets-news.json"))["articles"]
print("articles", len(articles), "with fractions", sum("." in a["date"] for a in articles),
      "beyond ASCII", sum(not a["title"].isascii() for a in articles), "characters", sum(len(a["title"]) for a in articles))
