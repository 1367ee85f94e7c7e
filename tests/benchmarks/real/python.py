# Objects, dictionaries, strings, regular expressions, JSON and long integers.
import collections
import hashlib
import heapq
import json
import os
import re

SCALE = 20 // int(os.environ.get("BENCHMARK_DIVISOR", "1"))


class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        node = self
        while True:
            side = "left" if key < node.key else "right"
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(key))
                return
            node = child

    def __iter__(self):
        if self.left:
            yield from self.left
        yield self.key
        if self.right:
            yield from self.right


def numbers(count, state=12345):
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state


def tree():
    root = Node(1 << 30)
    for key in numbers(1500 * SCALE):
        root.insert(key)
    return sum(key * place for place, key in enumerate(root)) % 1000003


def words():
    text = " ".join(f"w{n % 5003}-{n % 17}" for n in numbers(4000 * SCALE))
    counts = collections.Counter(re.findall(r"w(\d+)-(?:1[0-6]|[2-8])\b", text))
    return [counts.most_common(1)[0][1], len(counts), len(re.sub(r"(\d)-(\d)", r"\2\1", text))]


def documents():
    rows = [{"id": n, "tags": [f"t{n % 7}", f"t{n % 11}"], "at": {"x": n / 7, "y": n % 13}}
            for n in numbers(500 * SCALE)]
    back = json.loads(json.dumps(rows))
    assert back == rows
    return hashlib.sha256(json.dumps(back, sort_keys=True).encode()).hexdigest()[:16]


def shortest_path(width=20):
    height = 12 * SCALE
    cost = list(numbers(width * height))
    best, queue = {0: 0}, [(0, 0)]
    while queue:
        distance, place = heapq.heappop(queue)
        if distance > best[place]:
            continue
        x, y = place % width, place // width
        for a, b in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if 0 <= a < width and 0 <= b < height:
                new = distance + cost[b * width + a] % 100
                if new < best.get(b * width + a, 1 << 60):
                    best[b * width + a] = new
                    heapq.heappush(queue, (new, b * width + a))
    return best[width * height - 1]


def long_integers():
    value = 1
    for n in range(2, 120 * SCALE):
        value *= n
    return pow(value, 3 ** 300, (1 << 607) - 1) % 1000003


for job in (tree, words, documents, shortest_path, long_integers):
    print(job.__name__, job())
