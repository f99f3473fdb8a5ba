"""Works out which instants wall clocks name, for zone_test.go.

Run in this folder: python3 localtimes.py > localtimes.tsv
Columns: zone, wall clock, the first instant (UTC) at which the zone's clocks show it, and whether they show it
once, twice or never. By the standard library's zoneinfo alone: a wall clock exists if converting it to UTC and
back gives it again, and is shown twice if fold=1 names another instant.
"""
import datetime as dt
import random
from zoneinfo import ZoneInfo

random.seed(20240310)
ZONES = {
    "America/New_York": ["2024-03-10 02:30:00", "2024-11-03 01:30:00", "2020-11-27 13:00:00", "1990-04-01 02:00:00"],
    "Europe/London": ["2024-03-31 01:30:00", "2024-10-27 01:59:59", "1970-01-01 00:00:00"],
    "Asia/Tokyo": ["2024-03-10 02:30:00", "1999-12-31 23:59:59"],
    "Australia/Lord_Howe": ["2024-04-07 01:45:00", "2024-10-06 02:15:00"],
    "Pacific/Apia": ["2011-12-30 12:00:00", "2011-12-31 00:00:00"],
    "America/St_Johns": ["2010-03-14 00:30:00", "2010-11-07 00:00:30"],
    "Africa/Casablanca": ["2024-03-10 02:30:00", "2024-04-14 02:30:00"],
    "UTC": ["2016-12-31 23:59:59"],
}
print("zone\twall\tutc\tshown")
for name, walls in ZONES.items():
    zone = ZoneInfo(name)
    for _ in range(40):  # and some at random, near the changes of spring and autumn too
        day = random.choice([dt.datetime(random.randint(1975, 2037), random.randint(1, 12), random.randint(1, 28)),
                             dt.datetime(random.randint(1990, 2037), random.choice([3, 4, 10, 11]), random.randint(1, 28))])
        walls.append(str(day + dt.timedelta(seconds=random.choice([random.randrange(86400), random.randrange(3600, 3 * 3600)]))))
    for wall in walls:
        naive = dt.datetime.fromisoformat(wall)
        instants = set()
        for fold in (0, 1):
            aware = naive.replace(tzinfo=zone, fold=fold)
            utc = aware.astimezone(dt.timezone.utc)
            if utc.astimezone(zone).replace(tzinfo=None) == naive:
                instants.add(utc)
        shown = ["never", "once", "twice"][len(instants)]
        print(name, wall, min(instants).strftime("%Y-%m-%dT%H:%M:%SZ") if instants else "-", shown, sep="\t")
