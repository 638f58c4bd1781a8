"""A cluster, as its runner lets one ask and tell it."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from . import address, jobs, scoring, statements
from . import logs as task_logs
from . import runs as trainings
from ._version import __version__
from .api import Http, Text, api_path
from .batches import Batches
from .errors import JobFailed, Refused, SmackError, WrongVersion
from .jobs import Source
from .listing import Listing
from .literals import parameter
from .rows import Rows, table_of
from .runs import Run
from .views import AgentView, CheckpointView, ClusterView, EventView, JobView, ModelView, OfferView, RoleView, RunView
from .why import Why
from .why import events as event_listing

if TYPE_CHECKING:
    from types import TracebackType

API = "v1"

C = TypeVar("C", bound="Cluster")

# The one that was connected to last; for `%%smack`, which names none.
_latest: list[Cluster] = []


def connect(
    runner: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    *,
    tls_ca: str | os.PathLike[str] | None = None,
) -> Cluster:
    """The cluster of a runner: of `runner` (`http://host:port`), of SMACK_RUNNER, of the `smack dev` in this folder, or of the
    usual port of this machine.

    `token_file` (or SMACK_TOKEN_FILE) holds the token, where the runner asks for one; `tls_ca` (or SMACK_TLS_CA) the CA by which
    its certificate is known, where connections are encrypted. A runner with another API is refused, with the versions that fit.
    """
    return Cluster(address.find(runner, token_file, tls_ca))


def latest() -> Cluster:
    """The cluster that was connected to last, or the one that is found."""
    return _latest[-1] if _latest else connect()


class Cluster:
    """A cluster. Jobs are called `group/name`; a *subject* is a group, a job, or where it makes sense a task."""

    def __init__(self, at: address.Address):
        self._http = Http(at)
        self.version = self._fitting_version()
        _latest[:] = [self]

    @property
    def runner(self) -> str:
        """The runner's address, where its page is, too."""
        return self._http.address.url

    def _fitting_version(self) -> str:
        try:
            said = self._http.get("version")
            version, api = said["version"], said["api"]
        except Refused as error:
            if error.status != 404:
                raise
            version = api = None
        except (KeyError, TypeError):
            version = api = None
        if api != API:
            what = f"smack {version} with API {api}" if api else "no smack that says its version"
            raise WrongVersion(
                f"the runner at {self.runner} is {what}, and this package, {__version__}, speaks API {API}: it fits smack "
                f"{__version__}, and every other one whose API is {API}; install the package that came with the runner's smack "
                "(pip install ./notebooks in its sources), or use another runner"
            )
        return str(version)

    # Rows ------------------------------------------------------------------------------------------------------------

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> Rows:
        """All rows of a query over the cluster's tables, and over what the query declares itself.

        It is one SELECT, DESCRIBE, SHOW or EXPLAIN, behind its own `CREATE TABLE` and `CREATE VIEW`, over input that ends.
        `parameters` are the values of each `?` in it, or of `$1`, `$2` and so on: None, numbers, texts, times and dates.
        """
        import pyarrow as pa

        with self.sql_batches(query, parameters) as batches:
            return Rows(pa.Table.from_batches(list(batches), schema=batches.schema))

    def sql_batches(self, query: str, parameters: Sequence[Any] = ()) -> Batches:
        """The same, batch by batch as the rows come; of any number of rows one batch is in memory."""
        about = Text(query, "query")
        path = api_path("sql")
        asked: dict[str, Any] = {"sql": query}
        if parameters:
            asked["parameters"] = [parameter(value) for value in parameters]
        return Batches(lambda patience: self._http.open("POST", path, asked, about, patience=patience))

    def stream(self, query: str, limit: int | None = None, seconds: float | None = None) -> Batches:
        """Batches of a SELECT that never ends, as it gives them, up to so many rows or seconds, or until it is closed.

        Where rows may be taken back the first column, `op`, says what becomes of each; see `smack.Changelog`.
        """
        about = Text(query, "query")
        path = api_path("sql", "stream")

        def ask(patience: float | None) -> Any:
            try:
                return self._http.open("POST", path, {"sql": query}, about, patience=patience)
            except Refused as error:
                if error.status in (404, 405) and not error.diagnostics:
                    raise SmackError(
                        f"the runner at {self.runner}, smack {self.version}, gives no rows of endless queries; a newer one does. "
                        "INSERT INTO a table, and ask that with sql(), works with every version"
                    ) from None
                raise

        return Batches(ask, limit, seconds)

    def rows(self, table: str) -> Rows:
        """The rows of a table in the cluster's own table store, as they are now."""
        import pyarrow as pa

        path = f"/tables/{urllib.parse.quote(table, safe='')}/rows"
        with Batches(lambda patience: self._http.open("GET", path, patience=patience)) as batches:
            return Rows(pa.Table.from_batches(list(batches), schema=batches.schema))

    # Jobs ------------------------------------------------------------------------------------------------------------

    def submit(
        self,
        file_or_text: str | os.PathLike[str],
        *,
        name: str | None = None,
        language: str = "sql",
        resume: bool | str = False,
    ) -> str:
        """Submits a job file, or the text of one; returns the group of its jobs.

        `name` stands for the file's stem and so names the group, unless the text does; `language` is that of a text, `sql`,
        `toml` or `yaml`. With `resume` its streams go on from the last checkpoints of the group's earlier submission, or from the
        savepoint or epoch that it names.
        """
        return self._submit(Source(file_or_text, name, language), resume)[0]

    def _submit(self, source: Source, resume: bool | str = False) -> tuple[str, list[str]]:
        said = self._http.post("jobs", body=source.request(resume), about=source.text)
        return str(said["group"]), [str(job) for job in said["jobs"]]

    def jobs(self, subject: str | None = None) -> Listing[JobView]:
        """All jobs, or those of a group."""
        return jobs.listing(jobs.named(self._jobs(), subject))

    def _jobs(self) -> list[JobView]:
        listed: list[JobView] = self._http.get("jobs")["jobs"]
        return listed

    def job(self, job: str) -> JobView:
        """One job by its name, `group/name`, or that of a group which has one job."""
        if "/" in job:
            found: JobView = self._http.get("jobs", job)
            return found
        of_group = jobs.named(self._jobs(), job)
        if len(of_group) != 1:
            names = ", ".join(one["id"] for one in of_group)
            raise SmackError(f"'{job}' may be any of {names}" if names else f"there is no job '{job}'")
        return of_group[0]

    def why(self, subject: str) -> Why:
        """Why a job, group or task is where it is."""
        return Why.of(self._http.get("why", subject))

    def events(self, job: str) -> Listing[EventView]:
        """What happened to a job lately, the oldest first."""
        return event_listing(self.job(job)["events"])

    def logs(self, subject: str, *, follow: bool = False, stderr: bool = False) -> Iterator[str]:
        """The lines that a task, or every task of a job or group, wrote; with `follow` also those that come, until it is over."""
        return task_logs.read(self._http, self._jobs, subject, follow, stderr)

    def wait(
        self,
        subject: str | None = None,
        timeout: float = 300.0,
        until: Callable[[list[JobView]], bool] | None = None,
    ) -> Listing[JobView]:
        """Waits until all jobs of a group, or one job, are over, or until `until(jobs)` is true; raises if one fails, or the time
        is over. Without a subject all jobs are meant."""
        return jobs.listing(jobs.wait(lambda: jobs.named(self._jobs(), subject), subject or "the jobs", timeout, until))

    def stop(self, subject: str) -> list[str]:
        """Stops jobs, streams after a last checkpoint; returns those that were told. `wait` waits for it."""
        return list(self._http.post("stop", subject)["jobs"])

    def scale(self, subject: str, parallelism: int) -> list[str]:
        """Gives each stream so many tasks, from its next checkpoint on."""
        return list(self._http.post("scale", subject, body={"parallelism": parallelism})["jobs"])

    def checkpoint(self, subject: str, name: str | None = None) -> list[CheckpointView]:
        """Takes a checkpoint of streams now, and waits until it is durable; with a name it is kept as a savepoint. Returns the
        checkpoints that are kept."""
        self._http.post("checkpoint", subject)
        if name is not None:
            self._http.post("savepoints", subject, body={"name": name})
        kept: list[CheckpointView] = self._http.get("savepoints", subject)["checkpoints"]
        return kept

    # Training --------------------------------------------------------------------------------------------------------

    def train(
        self, file_or_text: str | os.PathLike[str], *, name: str | None = None, language: str = "sql", timeout: float = 3600.0
    ) -> Run:
        """Submits a file or text with one `CREATE MODEL`, or a training file, and waits for the training; streams that are in the
        file, too, go on. Returns its run; raises if it fails."""
        source = Source(file_or_text, name, language)
        n_models = statements.n_models(source.text.text) if source.is_sql else 1
        if n_models != 1:
            raise ValueError(f"{source.text.file} has {n_models} CREATE MODEL, and train() is for one; use submit() and runs()")
        group, submitted = self._submit(source)
        trains = [job["id"] for job in self._jobs() if job["id"] in submitted and job["kind"] == "train"]
        if len(trains) != 1:
            raise SmackError(f"{group} was submitted, and none of its jobs is a training that ends: {', '.join(submitted)}")

        def is_over(of_group: list[JobView]) -> bool:
            return any(job["id"] == trains[0] and job["state"] in jobs.OVER for job in of_group)

        ended = next(job for job in self.wait(group, timeout, is_over) if job["id"] == trains[0])
        if ended["state"] != "finished":
            raise JobFailed(f"{ended['id']} {ended['state']}: {ended['why']}")
        return self.run(trains[0])

    def runs(self, subject: str | None = None) -> Listing[RunView]:
        """Trainings, the newest first; of a group, a job or a model."""
        listed: list[RunView] = self._http.get("runs")["runs"]
        return trainings.listing([run for run in listed if subject in (None, run["job"], run["job"].split("/")[0], run["model"])])

    def run(self, name: str) -> Run:
        """One training by its id, or the latest one of a job, a group or a model."""
        of_subject = self.runs(name)
        return Run(self._http, of_subject[0]["id"] if of_subject else name)

    def models(self, model: str | None = None) -> Listing[ModelView]:
        """Every version of every model, or of one, the oldest first."""
        said = self._http.get("models", *([model] if model else []))
        return Listing(
            said["models"],
            {
                "model": lambda one: f"{one['model']}@{one['version']}",
                "aliases": lambda one: ", ".join(one["aliases"]),
                "rows": lambda one: one["rows"],
                "metrics": lambda one: ", ".join(f"{name} {value:.4g}" for name, value in one["metrics"].items()),
                "features": lambda one: ", ".join(one["features"]),
                "used by": lambda one: ", ".join(one["used_by"]),
            },
        )

    def evaluation(self, model: str) -> dict[str, Any] | None:
        """What a version that tells classes apart is worth on its held-out rows: `classes`, and `confusion`, whose rows are what is
        true and whose columns what was said. None of others, and of runners that do not keep it."""
        found: dict[str, Any] | None = scoring.detail(self._http, model).get("evaluation")
        return found

    def model(self, model: str) -> ModelView:
        """One version: the one that a query means by a model's name, or `name@version`, or `name@alias`."""
        return scoring.which(self._http, model)

    def promote(self, model: str, version: int, alias: str = "production") -> None:
        """From now on a model's name, or `name@alias`, means this version; streams that score take it up."""
        self._http.post("models", model, "aliases", alias, body={"version": version})

    def rollback(self, model: str, alias: str = "production") -> int:
        """An alias means what it meant before; returns that version."""
        return int(self._http.delete("models", model, "aliases", alias)["version"])

    def predict(self, model: str, rows: Any, score: str = "score") -> Rows:
        """Scores rows with a model: the rows with a last column more, `score`.

        `rows` are a pyarrow Table, a pandas or polars DataFrame, or a list of dictionaries, with the columns that the model takes
        and whatever else. They are sent with a query, so this is for up to a million values; what the cluster has or reads itself
        is scored there with `predict('model', …)` in SQL.
        """
        import pyarrow as pa

        table = table_of(rows)
        if score in table.column_names:
            raise ValueError(f"the rows have a column '{score}' already; name that of the scores with score=…")
        version = self.model(model)
        scores: list[Any] = []
        for query in scoring.queries(scoring.features(table, version), version):
            scores += self.sql(query).arrow().column("score").chunks
        return Rows(table.append_column(score, pa.chunked_array(scores, type=pa.float64())))

    # The cluster -----------------------------------------------------------------------------------------------------

    def cluster(self) -> ClusterView:
        """Agents, roles, frameworks and offers, as they are now."""
        view: ClusterView = self._http.get("cluster")
        return view

    def agents(self) -> Listing[AgentView]:
        """The machines of the cluster, and what they have."""

        def amount(agent: AgentView, of: Any, what: str) -> float:
            return float(agent[of]["scalars"].get(what, 0.0))  # type: ignore[literal-required]

        return Listing(
            self.cluster()["agents"],
            {
                "agent": lambda agent: agent["id"],
                "state": lambda agent: agent["state"],
                "tasks": lambda agent: agent["n_tasks"],
                "cpus": lambda agent: amount(agent, "total", "cpus"),
                "used": lambda agent: amount(agent, "used", "cpus"),
                "offered": lambda agent: amount(agent, "offered", "cpus"),
                "free": lambda agent: amount(agent, "free", "cpus"),
                "mem in MiB": lambda agent: amount(agent, "total", "mem"),
            },
        )

    def roles(self) -> Listing[RoleView]:
        """Whose share of the cluster is how large."""
        return Listing(
            self.cluster()["roles"],
            {
                "role": lambda role: role["role"],
                "weight": lambda role: role["weight"],
                "share": lambda role: f"{role['dominant_share'] * 100:.1f} %",
                "holds": lambda role: _amounts(role["held"]),
                "guaranteed": lambda role: _amounts(role["guarantee"]),
                "limit": lambda role: _amounts(role["limit"]),
            },
        )

    def offers(self) -> Listing[OfferView]:
        """What was offered lately, and what became of it."""
        return Listing(
            self.cluster()["offers"],
            {
                "offer": lambda offer: offer["id"],
                "agent": lambda offer: offer["agent"],
                "to": lambda offer: offer["framework_name"],
                "of": lambda offer: _amounts(offer["resources"]["scalars"]),
                "state": lambda offer: offer["state"],
                "tasks": lambda offer: ", ".join(offer["tasks"]),
            },
        )

    def set_weight(self, role: str, weight: float) -> list[str]:
        """A role's share of the cluster compared with the roles beside it, 1 by default; returns warnings."""
        return list(self._http.post("weight", role, body={"weight": weight})["warnings"])

    def set_quota(
        self,
        role: str,
        guarantee: dict[str, float] | None = None,
        limit: dict[str, float] | None = None,
        force: bool = False,
    ) -> list[str]:
        """What is kept free for a role and those below it, and what they never get more than, for example `{"cpus": 2}`;
        returns warnings."""
        body = {"guarantee": guarantee or {}, "limit": limit or {}, "force": force}
        return list(self._http.post("quota", role, body=body)["warnings"])

    def remove_quota(self, role: str) -> None:
        """Takes a role's quota away."""
        self._http.delete("quota", role)

    def drain(self, agent: str, deadline: float = 300.0, keep_tasks: bool = False) -> None:
        """Empties an agent: it is offered to nobody, streams take a last checkpoint and go on elsewhere, what trains or serves
        starts again elsewhere, and what is left after `deadline` seconds is ended. With `keep_tasks` its tasks stay."""
        body = {} if keep_tasks else {"deadline_ms": int(deadline * 1000)}
        self._http.post("drain", agent, body=body)

    def undrain(self, agent: str) -> None:
        """Uses an agent again."""
        self._http.delete("drain", agent)

    # -----------------------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """From now on this is no more the cluster that `%%smack` means."""
        if self in _latest:
            _latest.remove(self)

    def close(self) -> None:
        """Ends what `smack.dev()` started; a cluster that others run goes on."""
        self.forget()

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"smack {self.version} at {self.runner}"


def _amounts(amounts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in amounts.items() if value)
