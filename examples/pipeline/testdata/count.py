"""Counts the trades and bars that the recordings hold, for the literals of recording_test.go.

python3 count.py DIR    prints, of each file: messages, trades, symbols, bars of 1s, bars of 1m,
volume
"""
import datetime, decimal, json, pathlib, sys

for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    messages, trades, volume = 0, 0, decimal.Decimal(0)
    bars = {1: set(), 60: set()}
    for line in path.read_text().splitlines():
        head, _, body = line.partition(": ")
        if not head.replace(".", "", 1).isdigit():
            continue  # sent, or about the connection
        messages += 1
        m = json.loads(body)
        if isinstance(m, dict) and m.get("type") == "match":
            symbol, size = m["product_id"], m["size"]
            seconds = datetime.datetime.fromisoformat(m["time"].replace("Z", "+00:00")).timestamp()
        elif isinstance(m, dict) and m.get("data", {}).get("e") == "aggTrade":
            m = m["data"]
            symbol, size, seconds = m["s"], m["q"], m["T"] / 1000
        else:
            continue
        trades += 1
        volume += decimal.Decimal(size)
        for span, keys in bars.items():
            keys.add((symbol, seconds // span))
    print(path.name, messages, trades, len({s for s, _ in bars[60]}), len(bars[1]), len(bars[60]), volume)
