"""An oslo.messaging client or server over RabbitMQ. Reads requests as lines of JSON from standard
input and writes a line of JSON to standard output for each."""

import sys

import eventlet
import eventlet.tpool

eventlet.monkey_patch()

import json
import time

import oslo_messaging as messaging
from oslo_config import cfg

ROLE, URL, PAYLOAD = sys.argv[1], sys.argv[2], "x" * int(sys.argv[3])


class Endpoint:
    """Echoes calls and counts casts."""

    def __init__(self):
        self.notifications = 0

    def echo(self, ctxt, payload):
        return payload

    def notify(self, ctxt, payload):
        self.notifications += 1


def run(load, send):
    """Sends messages from concurrent green threads until the time is up; returns statistics."""
    latencies = []
    started = time.perf_counter()

    def worker():
        while time.perf_counter() - started < load["seconds"]:
            sent_at = time.perf_counter()
            send()
            latencies.append(time.perf_counter() - sent_at)

    pool = eventlet.GreenPool(load["concurrency"])
    for _ in range(load["concurrency"]):
        pool.spawn(worker)
    pool.waitall()
    seconds = time.perf_counter() - started
    latencies.sort()
    percentile = lambda percent: latencies[len(latencies) * percent // 100] * 1e3
    return {
        "count": len(latencies),
        "seconds": seconds,
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
    }


def main():
    transport = messaging.get_rpc_transport(cfg.CONF, url=URL)
    target = messaging.Target(topic="bench", server="guest")
    endpoint = Endpoint()
    if ROLE == "server":
        server = messaging.get_rpc_server(transport, target, [endpoint], executor="eventlet")
        server.start()
    else:
        client = messaging.get_rpc_client(transport, target, timeout=60)
        client.call({}, "echo", payload=PAYLOAD)
    while True:
        line = eventlet.tpool.execute(sys.stdin.readline)
        if not line:
            return
        request = json.loads(line)
        if request == "cpu_time":
            response = time.process_time()
        elif request == "notification_count":
            response = endpoint.notifications
        elif request["run"]["kind"] == "call":
            response = run(request["run"]["load"], lambda: client.call({}, "echo", payload=PAYLOAD))
        else:
            response = run(request["run"]["load"], lambda: client.cast({}, "notify", payload=PAYLOAD))
        print(json.dumps(response), flush=True)


main()
