"""A small regression with PyTorch's DistributedDataParallel over gloo, as `examples/ddp.toml` runs it.

Reads from its environment who it is (as `init_method="env://"` does) and where checkpoints go. Each step's batch is a
function of the step alone, and each rank takes its part of it, so a gang that was started again goes on with the same
numbers.
"""

import os
import pathlib
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

STEPS = int(os.environ.get("STEPS", "300"))
PAUSE_S = float(os.environ.get("PAUSE_MS", "0")) / 1000
BATCH = 64
CHECKPOINT_STEPS = 20


def batch(step, rank, world):
    generator = torch.Generator().manual_seed(step)
    x = torch.rand(BATCH, 8, generator=generator)
    y = (x[:, :4].sum(1) - x[:, 4:].prod(1)).unsqueeze(1)
    return x[rank::world], y[rank::world]


def save(path, **what):
    """So that a rank that is killed in the middle leaves the checkpoint before it."""
    torch.save(what, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    folder = pathlib.Path(os.environ["CHECKPOINTS"])
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "ddp.pt"
    network = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    # Rank 0 says from where all go on: another one may see the folder a moment later.
    kept = [torch.load(checkpoint) if rank == 0 and checkpoint.exists() else None]
    dist.broadcast_object_list(kept, src=0)
    first = 0
    if kept[0]:
        network.load_state_dict(kept[0]["network"])
        optimizer.load_state_dict(kept[0]["optimizer"])
        first = kept[0]["step"]
    model = DistributedDataParallel(network)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    print(f"rank {rank} of {world}, start {restarts}, from step {first} of {STEPS}", flush=True)
    loss = torch.tensor(float("nan"))
    for step in range(first, STEPS):
        x, y = batch(step, rank, world)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if (step + 1) % CHECKPOINT_STEPS == 0:
            if rank == 0:
                save(checkpoint, step=step + 1, network=network.state_dict(), optimizer=optimizer.state_dict())
                print(f"step {step + 1}: loss {loss.item():.5f}", flush=True)
            time.sleep(PAUSE_S)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    everyones = [torch.zeros_like(weights) for _ in range(world)]
    dist.all_gather(everyones, weights)
    assert all(torch.equal(weights, others) for others in everyones), "the ranks' weights differ"
    print(f"rank {rank} ends: loss {loss.item():.5f}, weights {weights.double().sum().item():.9f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
