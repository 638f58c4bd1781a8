"""A cluster of `smack dev` for a check, in a folder of its own."""

import json
import pathlib
import signal
import subprocess
import time


class Dev:
    """A `smack dev` of its own, ended with everything below it."""

    def __init__(self, smack, folder, env=None):
        self.smack, self.folder = smack, folder
        self.log = open(folder / "dev.out", "w")
        self.process = subprocess.Popen(
            [smack, "dev", "--port", "0", "--data-dir", folder / ".smack"], stdout=self.log, stderr=self.log, cwd=folder,
            env=env)
        deadline = time.time() + 60
        while not (folder / ".smack/dev.json").exists() or "ready" not in (folder / "dev.out").read_text():
            assert self.process.poll() is None and time.time() < deadline, (folder / "dev.out").read_text()
            time.sleep(0.05)

    def call(self, *args):
        answer = subprocess.run([self.smack, *args], cwd=self.folder, capture_output=True, text=True)
        assert answer.returncode == 0, f"smack {' '.join(args)}: {answer.stderr}"
        return answer.stdout

    def job(self):
        return json.loads(self.call("ps", "-o", "json"))["jobs"][0]

    def task_pids(self):
        pids = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode().split("\0")
            except OSError:
                continue
            if "task" in words and any(str(self.folder) in word for word in words):
                pids.append(int(entry.parent.name))
        return pids

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
