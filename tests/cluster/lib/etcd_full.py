"""Has etcd refuse writes as it does when it is full, or take them again: etcd_full.py URL on|off."""

import json
import sys
import urllib.request


def call(path, body):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


if sys.argv[2] not in ("on", "off"):
    sys.exit(__doc__)
member = call("/v3/maintenance/status", {})["header"]["member_id"]
action = "ACTIVATE" if sys.argv[2] == "on" else "DEACTIVATE"
call("/v3/maintenance/alarm", {"action": action, "memberID": member, "alarm": "NOSPACE"})
