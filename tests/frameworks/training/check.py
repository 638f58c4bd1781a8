"""Real TensorFlow and PyTorch as gangs of `smack dev`.

Each example runs twice, once undisturbed and once with a worker killed (`kill -9`) in the middle. The second must come back as
a whole, go on from its last checkpoint, and end with the weights of the first.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/live_submit"))

from cluster import Dev

LIMIT_S = 300
STEPS = 200
# The step after whose checkpoint the worker is killed.
KILL_STEP = 60


def prepared(folder, example, run):
    """The example's job file under another name, with checkpoints of its own and a pause after each."""
    text = (ROOT / f"examples/{example}.toml").read_text()
    text, n = re.subn(r'CHECKPOINTS = ".*"', f'CHECKPOINTS = "{folder}/{run}-kept"\nSTEPS = {STEPS}\nPAUSE_MS = 150', text)
    assert n == 1, text
    shutil.copy(ROOT / f"examples/{example}.py", folder)
    (folder / f"{example}-{run}.toml").write_text(text)
    return f"{example}-{run}"


def job(dev, group):
    return json.loads(dev.call("ps", group, "-o", "json"))["jobs"][0]


def wait(dev, group, what, right):
    deadline = time.time() + LIMIT_S
    while True:
        now = job(dev, group)
        found = right(now)
        if found:
            return found
        over = now["state"] in ("failed", "stopped", "finished")
        assert not over and time.time() < deadline, f"no {what}: {now['why']}\n{errors(dev, now)}"
        time.sleep(0.1)


def errors(dev, now):
    return "\n".join(f"--- {task['id']}\n" + dev.call("logs", task["id"], "--stderr")[-3000:] for task in now["tasks"])


def pid_of(example, told):
    """The process of the example whose environment says this."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            environment = (entry / "environ").read_bytes().decode()
        except OSError:
            continue
        if any(argument.endswith(f"{example}.py") for argument in arguments[1:2]) and told in environment:
            return int(entry.name)
    raise AssertionError(f"no process of {example} is told {told}")


def weights(dev, now):
    logs = "".join(dev.call("logs", task["id"]) for task in now["tasks"])
    found = set(re.findall(r"ends: .*weights (\S+)", logs))
    assert len(found) == 1, f"the tasks end with {found}:\n{logs}"
    return found.pop()


def check(smack, python, example, worker):
    with tempfile.TemporaryDirectory(prefix=f"smack-{example}-") as folder:
        folder = pathlib.Path(folder)
        environment = dict(os.environ, PATH=f"{pathlib.Path(python).parent}:{os.environ['PATH']}")
        dev = Dev(smack, folder, environment)
        try:
            ends = {}
            for run in ("whole", "killed"):
                began = time.time()
                group = prepared(folder, example, run)
                dev.call("submit", f"{group}.toml")
                if run == "killed":
                    chief = wait(dev, group, "task", lambda now: now["tasks"] and now["state"] == "running" and now["tasks"][0]["id"])
                    wait(dev, group, f"step {KILL_STEP}", lambda _: f"step {KILL_STEP}:" in dev.call("logs", chief))
                    pid = pid_of(example, worker)
                    print(f"$ kill -9 {pid}    # {example}: the process that is told {worker}", flush=True)
                    os.kill(pid, signal.SIGKILL)
                now = wait(dev, group, "end", lambda now: now["state"] == "finished" and now)
                ends[run] = weights(dev, now)
                print(f"$ smack ps {group}; smack ps {group} --tasks; smack logs {group}    # {time.time() - began:.1f} s")
                print(dev.call("ps", group) + dev.call("ps", group, "--tasks") + dev.call("logs", group))
                restarts = 1 if run == "killed" else 0
                assert (now["restarts"], now["generation"]) == (restarts, restarts + 1), now
                if run == "killed":
                    print(f"$ smack why {group}\n" + dev.call("why", group), flush=True)
                    first = dev.call("logs", now["tasks"][0]["id"])
                    begun = int(re.search(r"from step (\d+)", first).group(1))
                    assert begun >= KILL_STEP, f"it began again at step {begun}"
            assert ends["whole"] == ends["killed"], f"the weights differ: {ends}"
            print(f"{example}: a killed worker changes nothing: weights {ends['killed']} both times\n", flush=True)
        finally:
            dev.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smack", required=True)
    parser.add_argument("--torch", required=True, help="a Python that has it")
    parser.add_argument("--tensorflow", required=True, help="a Python that has it")
    args = parser.parse_args()
    smack = str(pathlib.Path(args.smack).resolve())
    check(smack, args.torch, "ddp", "RANK=1")
    check(smack, args.tensorflow, "mirrored", '"type":"worker"')
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
