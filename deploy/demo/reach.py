"""Runs in a pod: which of the URLs on the standard input (one a line) answer within argv[1] seconds?

Prints a JSON list of "" (answered, with whatever status) or why not. All at once, for a dropped packet is only
known by waiting."""

import json
import sys
import threading
import urllib.error
import urllib.request

TIMEOUT = float(sys.argv[1])
urls = sys.stdin.read().split()
answers = ["no answer"] * len(urls)


def reach(number, url):
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT).close()
        answers[number] = ""
    except urllib.error.HTTPError:
        answers[number] = ""  # an answer, if not the wished one
    except OSError as error:
        answers[number] = str(getattr(error, "reason", error))


threads = [threading.Thread(target=reach, args=each, daemon=True) for each in enumerate(urls)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(2 * TIMEOUT)
print(json.dumps(answers))
