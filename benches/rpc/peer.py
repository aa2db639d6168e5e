"""oslo.messaging over RabbitMQ, driven as the processes beside it: orders on the input, answers on the output."""

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
    def __init__(self):
        self.heard = 0

    def echo(self, ctxt, text):
        return text

    def tell(self, ctxt, text):
        self.heard += 1


def run(load, work):
    latencies = []
    started = time.perf_counter()

    def caller():
        while time.perf_counter() - started < load["seconds"]:
            since = time.perf_counter()
            work()
            latencies.append(time.perf_counter() - since)

    pool = eventlet.GreenPool(load["at_once"])
    for _ in range(load["at_once"]):
        pool.spawn(caller)
    pool.waitall()
    seconds = time.perf_counter() - started
    latencies.sort()
    at = lambda percent: latencies[len(latencies) * percent // 100] * 1e3
    return {"count": len(latencies), "seconds": seconds, "p50_ms": at(50), "p99_ms": at(99)}


def main():
    transport = messaging.get_rpc_transport(cfg.CONF, url=URL)
    target = messaging.Target(topic="bench", server="guest")
    endpoint = Endpoint()
    if ROLE == "server":
        server = messaging.get_rpc_server(transport, target, [endpoint], executor="eventlet")
        server.start()
    else:
        client = messaging.get_rpc_client(transport, target, timeout=60)
        client.call({}, "echo", text=PAYLOAD)
    while True:
        line = eventlet.tpool.execute(sys.stdin.readline)
        if not line:
            return
        order = json.loads(line)
        if order == "usage":
            answer = time.process_time()
        elif order == "heard":
            answer = endpoint.heard
        elif order["do"]["kind"] == "call":
            answer = run(order["do"]["load"], lambda: client.call({}, "echo", text=PAYLOAD))
        else:
            answer = run(order["do"]["load"], lambda: client.cast({}, "tell", text=PAYLOAD))
        print(json.dumps(answer), flush=True)


main()
