"""What the runner's API says, as dictionaries with these keys. Times that end in `_ms` are milliseconds since 1970."""

from __future__ import annotations

from typing import Any, TypedDict


class EventView(TypedDict):
    """Something that happened to a job."""

    at_ms: int
    # "info", "warning" or "error".
    level: str
    text: str


class TaskView(TypedDict):
    """One process of a job."""

    id: str
    job: str
    kind: str
    index: int
    member: str
    generation: int
    agent: str
    offer: str
    state: str
    reason: str
    message: str
    rows_in: int
    rows_out: int


class JobMetrics(TypedDict):
    """Sums and extremes over the tasks of a job."""

    rows_in: int
    rows_out: int
    rows_late: int
    rows_bad: int
    rows_per_second: float
    watermark_ms: int | None
    watermark_lag_ms: int | None
    state_bytes: int
    restore_bytes: int | None
    restored_bytes: int | None
    checkpoint_epoch: int | None
    checkpoint_age_ms: int | None
    checkpoint_bytes: int | None
    checkpoint_bytes_written: int | None
    step: int
    steps_total: int
    loss: float | None
    metric: float | None
    metric_name: str
    model_version: int | None


class JobView(TypedDict):
    """A job: a stream, a training, a command or a service."""

    # `group/name`.
    id: str
    group: str
    name: str
    # "stream", "train", "command" or "service".
    kind: str
    role: str
    # "waiting", "placing", "launching", "running", "restarting", "stopping", "paused", "finished", "failed" or "stopped".
    state: str
    generation: int
    restarts: int
    parallelism: int
    # One sentence with numbers.
    why: str
    submitted_ms: int
    metrics: JobMetrics
    operators: list[dict[str, Any]]
    tasks: list[TaskView]
    models: dict[str, int]
    events: list[EventView]


class ResourcesView(TypedDict):
    """Amounts in units by name; mem and disk are MiB."""

    scalars: dict[str, float]
    n_ports: int


class ReservationView(TypedDict):
    """So much of an agent, for a role and those below it."""

    role: str
    amounts: dict[str, float]
    labels: dict[str, str]
    # The agent itself keeps it; else an operator said so.
    by_agent: bool


class AgentView(TypedDict):
    """A machine that runs tasks."""

    id: str
    host: str
    # "active", "draining", "drained", "disconnected" or "unreachable".
    state: str
    attributes: dict[str, str]
    total: ResourcesView
    free: ResourcesView
    offered: ResourcesView
    used: ResourcesView
    heard_ms_ago: int
    n_tasks: int
    drains_from_ms: int | None
    drained_by_ms: int | None
    drain_over_ms: int | None
    # What is for roles alone, and what of it nobody holds for whom it is, by role.
    reserved: list[ReservationView]
    unfilled: dict[str, dict[str, float]]


class VolumeView(TypedDict):
    """A directory of an agent that outlives tasks."""

    # Unique in its role.
    name: str
    role: str
    agent: str
    # What may be in it.
    disk_mib: float
    # The task that has it.
    task: str | None
    # It was given up, and its agent has not yet said that it is gone.
    leaving: bool


class RoleView(TypedDict):
    """Whose share of the cluster is used."""

    # `a/b` is a child of `a`.
    role: str
    weight: float
    # 0 to 1, not divided by the weight.
    dominant_share: float
    held: dict[str, float]
    guarantee: dict[str, float]
    limit: dict[str, float]
    n_frameworks: int


class FrameworkView(TypedDict):
    """Who takes offers."""

    id: str
    name: str
    role: str
    connected: bool
    dominant_share: float
    waiting: list[str]


class OfferView(TypedDict):
    """What the master offered, and what became of it."""

    id: str
    agent: str
    framework: str
    framework_name: str
    # "outstanding", "accepted", "declined", "rescinded" or "expired".
    state: str
    resources: ResourcesView
    made_ms_ago: int
    tasks: list[str]


class ClusterView(TypedDict):
    """Who is there, and who has what."""

    leader_epoch: int
    agents: list[AgentView]
    frameworks: list[FrameworkView]
    offers: list[OfferView]
    roles: list[RoleView]
    volumes: list[VolumeView]


class PointView(TypedDict):
    """How far a training was at a step."""

    at_ms: int
    step: int
    steps_total: int
    # The pass over the rows, from 1.
    epoch: int
    loss: float | None
    # On the held-out rows after the last whole epoch.
    metric: float | None
    metric_name: str
    learning_rate: float | None
    rows_per_second: float


class EvaluationView(TypedDict):
    """What a checkpoint is worth on the held-out rows."""

    at_ms: int
    step: int
    epoch: int
    metrics: dict[str, float]


class RunView(TypedDict):
    """One training: a submission of a training job."""

    id: str
    job: str
    model: str
    submission: str
    workers: int
    settings: dict[str, str]
    started_ms: int
    ended_ms: int | None
    # "running", "finished", "stopped" or "failed".
    outcome: str
    error: str | None
    versions: list[int]
    last: PointView
    evaluation: EvaluationView | None
    stride: int


class ModelView(TypedDict):
    """One version of a model."""

    model: str
    version: int
    # The newest event time that it learned from, microseconds since 1970.
    trained_through_us: int | None
    rows: int
    # In the order in which `predict` takes them.
    features: list[str]
    metrics: dict[str, float]
    aliases: list[str]
    job: str
    created_us: int
    used_by: list[str]


class CheckpointView(TypedDict):
    """A checkpoint that is kept."""

    job: str
    epoch: int
    name: str | None
    bytes: int
    bytes_written: int
    age_ms: int
