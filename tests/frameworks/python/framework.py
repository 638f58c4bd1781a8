#!/usr/bin/env python3
"""A framework written from the .proto files alone: a third client of the scheduler, besides the two of the runner.

It subscribes, declines the first offer, accepts the next one, launches a command on it, acknowledges every update and
ends with exit code 0 when the command has finished. Exit code 1 and a line on standard error say what went wrong.

    pip install -r requirements.txt
    ./framework.py --master 127.0.0.1:5050 -- /bin/sh -c 'echo hello'
"""

import argparse
import importlib
import pathlib
import queue
import sys
import tempfile
import uuid

import grpc
from grpc_tools import protoc

PROTOCOL_VERSION = 1
PROTO_DIR = pathlib.Path(__file__).resolve().parents[3] / "scheduler" / "wire" / "proto"
CPUS_MILLI = 100
MEM_MILLI = 32_000  # 32 MiB


def generate(proto_dir: pathlib.Path, out: str):
    """Compiles the .proto files into `out`; returns the modules of types, messages and calls."""
    files = ["smack/v1/types.proto", "smack/v1/master.proto"]
    if protoc.main(["protoc", f"-I{proto_dir}", f"--python_out={out}", f"--grpc_python_out={out}", *files]) != 0:
        sys.exit(f"failed to compile the .proto files in {proto_dir}")
    sys.path.insert(0, out)
    modules = ["types_pb2", "master_pb2", "master_pb2_grpc"]
    return [importlib.import_module(f"smack.v1.{module}") for module in modules]


class Framework:
    """Reads events, answers with calls, and knows which task of ours is where."""

    def __init__(self, types, master, role: str, argv: list[str]):
        self.types, self.master, self.argv = types, master, argv
        self.outgoing = queue.SimpleQueue()
        self.framework_id = ""
        self.declined_one = False
        self.task_id = ""
        self.states: list[str] = []
        self.send(subscribe=master.Subscribe(name="python", role=role), version=PROTOCOL_VERSION)

    def send(self, version: int = 0, **call):
        calls = [self.master.FrameworkCall(**call)]
        self.outgoing.put(self.master.FrameworkCalls(protocol_version=version, calls=calls))

    def requests(self):
        """What gRPC sends: everything put into the queue, until None ends our side of the stream."""
        while (message := self.outgoing.get()) is not None:
            yield message

    def run(self, stub, timeout_s: float, metadata) -> str:
        """Returns the state in which the task ended."""
        ended = None
        for message in stub.Framework(self.requests(), timeout=timeout_s, metadata=metadata):
            for event in message.events:
                kind = event.WhichOneof("event")
                if kind == "subscribed":
                    self.framework_id = event.subscribed.framework_id
                    print(f"subscribed as {self.framework_id}", flush=True)
                elif kind == "offer" and not ended:
                    self.on_offer(event.offer)
                elif kind == "rescind":
                    print(f"offer {event.rescind.offer_id} was taken back", flush=True)
                elif kind == "update":
                    ended = self.on_update(event.update) or ended
                    if ended:
                        # Our side of the stream ends behind the acknowledgement; the master then ends its side.
                        self.send(teardown=self.master.Teardown())
                        self.outgoing.put(None)
                elif kind == "error" and not ended:
                    raise RuntimeError(f"the master ended the stream: {event.error.message}")
        if not ended:
            raise RuntimeError("the master closed the stream before the task had ended")
        return ended

    def on_offer(self, offer):
        amounts = {scalar.name: scalar.milli for scalar in offer.resources.scalars}
        print(f"offer {offer.offer_id} of {offer.agent_id}: {amounts}", flush=True)
        fits = amounts.get("cpus", 0) >= CPUS_MILLI and amounts.get("mem", 0) >= MEM_MILLI
        if not self.declined_one or not fits or self.task_id:
            # The first one as any polite framework may; afterwards whatever is of no use to us.
            refuse_ms = 5_000 if self.declined_one else 0
            self.declined_one = True
            print(f"declining {offer.offer_id}", flush=True)
            self.send(decline=self.master.DeclineOffers(offer_ids=[offer.offer_id], refuse_ms=refuse_ms))
            return
        self.task_id = f"python-{uuid.uuid4().hex[:12]}"
        resources = self.types.Resources(
            scalars=[
                self.types.Scalar(name="cpus", milli=CPUS_MILLI),
                self.types.Scalar(name="mem", milli=MEM_MILLI),
            ]
        )
        task = self.types.TaskInfo(
            task_id=self.task_id,
            name="command of the python framework",
            agent_id=offer.agent_id,
            resources=resources,
            argv=self.argv,
            kill_grace_ms=1_000,
        )
        print(f"accepting {offer.offer_id} for task {self.task_id}", flush=True)
        self.send(accept=self.master.AcceptOffers(offer_ids=[offer.offer_id], launch=[task]))

    def on_update(self, status):
        """Acknowledges; returns the state when it is an end."""
        state = self.types.TaskState.Name(status.state).removeprefix("TASK_STATE_")
        if status.uuid:
            # Until this arrives the agent sends the update again.
            self.send(
                acknowledge=self.master.AcknowledgeUpdate(
                    framework_id=self.framework_id,
                    agent_id=status.agent_id,
                    task_id=status.task_id,
                    uuid=status.uuid,
                )
            )
        if status.task_id != self.task_id:
            return None
        if not self.states or self.states[-1] != state:
            print(f"task {status.task_id} is {state} {status.message}".rstrip(), flush=True)
            self.states.append(state)
        if state == "DROPPED":
            # The offer was gone when we accepted it: nothing was launched, so the next offer gets a new task.
            self.task_id = ""
            return None
        return state if state in ("FINISHED", "FAILED", "KILLED", "LOST") else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--master", default="127.0.0.1:5050", help="host:port")
    parser.add_argument("--role", default="default")
    parser.add_argument("--token-file", type=pathlib.Path)
    parser.add_argument("--proto-dir", type=pathlib.Path, default=PROTO_DIR)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds")
    parser.add_argument("argv", nargs="*", help="the command to launch")
    args = parser.parse_args()
    metadata = []
    if args.token_file:
        metadata.append(("authorization", f"Bearer {args.token_file.read_text().strip()}"))
    with tempfile.TemporaryDirectory(prefix="smack-stubs-") as out:
        types, master, master_grpc = generate(args.proto_dir, out)
        framework = Framework(types, master, args.role, args.argv or ["/bin/sh", "-c", "echo hello from python"])
        # The master may be on this machine while a proxy is set for the world outside.
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(args.master, options=options) as channel:
            try:
                ended = framework.run(master_grpc.MasterStub(channel), args.timeout, metadata)
            except (grpc.RpcError, RuntimeError) as error:
                detail = error.details() if isinstance(error, grpc.RpcError) else str(error)
                print(f"failed to run a task through {args.master}: {detail}", file=sys.stderr)
                return 1
    if ended != "FINISHED":
        print(f"the task ended as {ended}", file=sys.stderr)
        return 1
    print(f"finished after {', '.join(framework.states)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
