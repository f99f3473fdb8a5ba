"""Prints the derived ids that news_test.go expects, from the description at
News.DerivedID alone."""
import hashlib
from datetime import datetime, timezone, timedelta

def derived(vendor, url, title, published):
    micros = (published - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
    text = "\n".join([vendor, url or title, str(micros)])
    return "~" + hashlib.sha256(text.encode()).hexdigest()[:32]

t = datetime(2020, 3, 5, 23, 2, 41, 650000, tzinfo=timezone.utc)
print(derived("ibkr", "https://www.cnbc.com/x.html", "A headline", t))
print(derived("ibkr", "", "Sequoia Capital Warns Startups of Coronavirus \u2018Black Swan\u2019 Event", t))
print(derived("ibkr", "", "A headline", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc)))
