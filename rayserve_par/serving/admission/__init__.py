"""Who may ask an instance for what, how often and when: keys, limits, load, deadlines, shapes.

A request's way, cheapest refusal first (`middleware`): path -> draining -> key -> body within size
and time -> JSON and its limits -> the key's own limits -> the instance's concurrency limit -> the
application, whose answer is watched to its end (`response`).
"""
