// A real `smack dev` in a folder of its own, on free ports.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SMACK = process.env.SMACK ?? "";
const ROOT = process.env.SMACK_ROOT ?? "";
const JOBS = join(ROOT, "tests/page/jobs");

const within = async <T>(what: string, ms: number, look: () => Promise<T | undefined>): Promise<T> => {
  for (const end = Date.now() + ms; Date.now() < end; await new Promise((wake) => setTimeout(wake, 200))) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
  }
  throw new Error(`waited for ${what}`);
};

export class Cluster {
  readonly folder = mkdtempSync(join(tmpdir(), "smack-page-"));
  url = "";
  #dev: ChildProcess | undefined;

  async start() {
    this.#dev = spawn(SMACK, ["dev", "--port", "0", "--kafka-port", "0", "--cpus", "4"], { cwd: this.folder, stdio: "ignore" });
    this.url = await within("`smack dev`", 120_000, async () => {
      const { runner } = JSON.parse(readFileSync(join(this.folder, ".smack/dev.json"), "utf8"));
      return (await fetch(`${runner}/health`)).ok ? runner : undefined;
    });
  }

  smack(...args: string[]): string {
    return execFileSync(SMACK, args, { cwd: this.folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  submit(name: string) {
    this.smack("submit", join(JOBS, name));
  }

  /** Streams with exchanges, windows and partitions, a training, a service, one that is over and one that never fits. */
  async fill() {
    this.smack("topics", "create", "most", "--partitions", "4");
    for (const name of ["auctions.sql", "reader.sql", "noisy.toml", "brief.toml", "huge.toml"]) this.submit(name);
    this.smack("submit", join(ROOT, "examples/digits.toml"));
    await this.until("digits/digits", "finished");
    await this.until("brief/brief", "finished");
    await within("rows and a checkpoint", 120_000, async () => {
      const { metrics } = await this.read(`jobs/${this.stream}`);
      return metrics.rows_in > 0 && metrics.checkpoint_epoch !== null ? true : undefined;
    });
  }

  /** The stream that most is to be seen of. */
  readonly stream = "auctions/most";

  async read(path: string): Promise<any> {
    return (await fetch(`${this.url}/api/v1/${path}`)).json();
  }

  async sql(text: string): Promise<any> {
    const headers = { "content-type": "application/json", accept: "application/json" };
    return (await fetch(`${this.url}/api/v1/sql`, { method: "POST", headers, body: JSON.stringify({ sql: text }) })).json();
  }

  async until(job: string, state: string) {
    await within(`${job} to be ${state}`, 120_000, async () => ((await this.read(`jobs/${job}`)).state === state ? true : undefined));
  }

  async taskOf(job: string): Promise<string> {
    return (await this.read(`jobs/${job}`)).tasks[0].id;
  }

  /** Ends the runner's process at once, if there is one; `smack dev` starts it again, later each time. */
  killRunner() {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const parent = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        if (Number(parent) === this.#dev?.pid && words[1] === "runner") process.kill(Number(pid), "SIGKILL");
      } catch {
        // It ended while it was looked at.
      }
    }
  }

  async end() {
    const dev = this.#dev;
    if (dev && dev.exitCode === null) {
      const ended = new Promise((wake) => dev.once("exit", wake));
      dev.kill("SIGINT");
      const late = setTimeout(() => dev.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(late);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
