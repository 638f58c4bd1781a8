//! The sum over all ranks, with the same bits on every rank.
//!
//! Small arrays, and all arrays between two ranks, go directly to everybody and are added in order of rank. Larger ones take
//! the [`ring`]. Which way depends on the length and the world alone, so all ranks take the same.

use crate::bytes;
use crate::frame::tag;
use crate::mesh::{Error, Mesh};
use crate::ring;
use std::sync::Arc;

/// Up to here one round trip costs more than sending (W - 1) times the bytes.
const DIRECT_BYTES: usize = 256 * 1024;

/// The ranks of one generation; a world of one has no connections.
pub struct AllReduce {
    mesh: Option<Mesh>,
    /// What the other ranks sent, kept for its memory.
    incoming: Vec<Vec<f32>>,
    last_frame: Option<Arc<Vec<u8>>>,
    direct_bytes: usize,
}

impl AllReduce {
    pub fn new(mesh: Option<Mesh>) -> Self {
        let world = mesh.as_ref().map_or(1, Mesh::world);
        Self { mesh, incoming: vec![Vec::new(); world], last_frame: None, direct_bytes: DIRECT_BYTES }
    }

    pub fn world(&self) -> usize {
        self.mesh.as_ref().map_or(1, Mesh::world)
    }

    /// Replaces `values` by their sum over all ranks.
    pub fn sum(&mut self, step: u64, values: &mut [f32]) -> Result<(), Error> {
        match &self.mesh {
            None => Ok(()),
            Some(mesh) if mesh.world() > 2 && size_of_val(values) > self.direct_bytes => {
                ring_sum(mesh, step, values, &mut self.incoming[0])
            }
            Some(mesh) => {
                let frame = mesh.frame(step, tag::GRADIENT, bytes::of_f32(values), self.last_frame.take());
                for other in mesh.others() {
                    mesh.send(other, &frame)?;
                }
                self.last_frame = Some(frame);
                for other in mesh.others() {
                    let incoming = &mut self.incoming[other];
                    incoming.resize(values.len(), 0.0);
                    mesh.receive_exact(other, step, tag::GRADIENT, bytes::of_f32_mut(incoming))?;
                }
                add_in_order(mesh.rank(), values, &self.incoming);
                Ok(())
            }
        }
    }

    /// What every rank has to say, in order of rank.
    pub fn gather(&mut self, step: u64, tag: u32, own: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let Some(mesh) = &self.mesh else {
            return Ok(vec![own.to_vec()]);
        };
        let frame = mesh.frame(step, tag, own, None);
        for other in mesh.others() {
            mesh.send(other, &frame)?;
        }
        let mut gathered = Vec::with_capacity(mesh.world());
        for rank in 0..mesh.world() {
            gathered.push(if rank == mesh.rank() { own.to_vec() } else { mesh.receive(rank, step, tag)? });
        }
        Ok(gathered)
    }

    /// What the chief has to say to the ranks `to`; `message` is called on the chief alone.
    pub fn broadcast<E: From<Error>>(
        &mut self,
        step: u64,
        tag: u32,
        to: &[usize],
        message: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let Some(mesh) = &self.mesh else {
            return message().map(Some);
        };
        if mesh.rank() == 0 {
            let message = message()?;
            let frame = mesh.frame(step, tag, &message, None);
            for other in to.iter().filter(|rank| **rank != 0) {
                mesh.send(*other, &frame)?;
            }
            return Ok(Some(message));
        }
        if to.contains(&mesh.rank()) { Ok(Some(mesh.receive(0, step, tag)?)) } else { Ok(None) }
    }
}

/// Adds rank 0's values first, then rank 1's, and so on, with this rank's own at its place.
fn add_in_order(rank: usize, values: &mut [f32], incoming: &[Vec<f32>]) {
    // In blocks that stay in the nearest cache while every rank's share of them is added.
    const BLOCK: usize = 2048;
    let mut own = [0f32; BLOCK];
    for start in (0..values.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(values.len());
        let sum = &mut values[start..end];
        let own = &mut own[..end - start];
        own.copy_from_slice(sum);
        sum.fill(0.0);
        for (other, incoming) in incoming.iter().enumerate() {
            let addend: &[f32] = if other == rank { own } else { &incoming[start..end] };
            for (sum, addend) in sum.iter_mut().zip(addend) {
                *sum += addend;
            }
        }
    }
}

fn ring_sum(mesh: &Mesh, step: u64, values: &mut [f32], incoming: &mut Vec<f32>) -> Result<(), Error> {
    let (rank, world) = (mesh.rank(), mesh.world());
    let (next, previous) = ((rank + 1) % world, (rank + world - 1) % world);
    for (index, round) in ring::schedule(world, rank, values.len()).into_iter().enumerate() {
        let tag = tag::GRADIENT + index as u32;
        let frame = mesh.frame(step, tag, bytes::of_f32(&values[round.send]), None);
        mesh.send(next, &frame)?;
        if round.add {
            incoming.resize(round.receive.len(), 0.0);
            mesh.receive_exact(previous, step, tag, bytes::of_f32_mut(incoming))?;
            for (own, other) in values[round.receive].iter_mut().zip(incoming.iter()) {
                *own += *other;
            }
        } else {
            mesh.receive_exact(previous, step, tag, bytes::of_f32_mut(&mut values[round.receive]))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::mesh::Gang;
    use jobs::Peer;
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::AtomicBool;

    fn gang(world: usize) -> (Vec<TcpListener>, Vec<Peer>) {
        let listeners: Vec<TcpListener> = (0..world).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let peer = |listener: &TcpListener| Peer {
            host: "127.0.0.1".to_string(),
            port: listener.local_addr().unwrap().port(),
        };
        let peers = listeners.iter().map(peer).collect();
        (listeners, peers)
    }

    /// Runs `body` as every rank of a gang, each in its own thread.
    pub fn with_gang<R: Send>(world: usize, body: impl Fn(usize, Mesh) -> R + Sync) -> Vec<R> {
        let (listeners, peers) = gang(world);
        let (peers, body) = (&peers, &body);
        std::thread::scope(|scope| {
            let ranks: Vec<_> = listeners
                .into_iter()
                .enumerate()
                .map(|(rank, listener)| {
                    scope.spawn(move || {
                        let gang = Gang { job: "j", generation: 3, rank, peers, tls: None };
                        body(rank, Mesh::join(&gang, &listener, &AtomicBool::new(false)).unwrap())
                    })
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_right_and_bit_equal_both_ways() {
        for world in [2, 3, 4] {
            // With 0 every array takes the ring. 70,000 values do not fit into the sockets' buffers.
            for direct_bytes in [0, usize::MAX] {
                for len in [0, 1, 5, 70_000] {
                    let value = |rank: usize, i: usize| ((i * 31 + rank * 17) % 1009) as f32 / 7.0 - 50.0;
                    let sums = with_gang(world, |rank, mesh| {
                        let mut all_reduce = AllReduce::new(Some(mesh));
                        all_reduce.direct_bytes = direct_bytes;
                        let mut values: Vec<f32> = Vec::new();
                        for step in 0..3 {
                            values = (0..len).map(|i| value(rank, i)).collect();
                            all_reduce.sum(step, &mut values).unwrap();
                        }
                        values
                    });
                    for (rank, sum) in sums.iter().enumerate() {
                        assert!(sum == &sums[0], "W {world} len {len}: rank {rank} differs from rank 0");
                    }
                    for (i, got) in sums[0].iter().enumerate() {
                        let expect: f32 = (0..world).map(|rank| value(rank, i)).sum();
                        assert!((got - expect).abs() < 1e-3, "W {world} [{i}]: {got}, expected {expect}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_stale_step_is_refused_and_the_rank_named() {
        let errors = with_gang(2, |rank, mesh| {
            let mut all_reduce = AllReduce::new(Some(mesh));
            all_reduce.sum(7 + rank as u64, &mut [1.0]).unwrap_err().to_string()
        });
        assert!(errors[0].contains("from rank 1") && errors[0].contains("step 8, this is step 7"), "{}", errors[0]);
        assert!(errors[1].contains("from rank 0"), "{}", errors[1]);
    }

    #[test]
    fn a_lost_rank_is_named_by_all_others() {
        let errors = with_gang(3, |rank, mesh| {
            let mut all_reduce = AllReduce::new(Some(mesh));
            all_reduce.sum(0, &mut [1.0]).unwrap();
            if rank == 1 {
                return String::new();
            }
            if rank == 2 {
                // Rank 2 finds out by itself, while rank 0 asks rank 2 only.
                return all_reduce.sum(1, &mut [1.0]).unwrap_err().to_string();
            }
            let mesh = all_reduce.mesh.as_ref().unwrap();
            mesh.send(2, &mesh.frame(1, tag::GRADIENT, bytes::of_f32(&[1.0]), None)).unwrap();
            mesh.receive(2, 1, tag::GRADIENT).unwrap();
            mesh.receive(2, 1, tag::GRADIENT).unwrap_err().to_string()
        });
        assert!(errors[0].contains("without rank 1") && errors[0].contains("rank 2 lost it"), "{}", errors[0]);
        assert!(errors[2].contains("without rank 1"), "{}", errors[2]);
    }

    #[test]
    fn an_older_generation_and_a_stranger_are_turned_away() {
        let (listeners, peers) = gang(2);
        let address = format!("127.0.0.1:{}", peers[0].port);
        let (listeners, peers) = (&listeners, &peers);
        let join = |rank: usize, generation: u64, stop: &AtomicBool| {
            Mesh::join(&Gang { job: "j", generation, rank, peers, tls: None }, &listeners[rank], stop)
        };
        let (never, stop_old) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let stop_old = &stop_old;
            // The stranger is first in line and says nothing that could be understood.
            let mut stranger = TcpStream::connect(&address).unwrap();
            std::io::Write::write_all(&mut stranger, &[7; 64]).unwrap();
            let old = scope.spawn(move || join(1, 1, stop_old).err());
            let never = &never;
            let chief = scope.spawn(move || join(0, 2, never).map(|mesh| mesh.world()));
            let new = scope.spawn(move || join(1, 2, never).map(|mesh| mesh.world()));
            assert_eq!(chief.join().unwrap().unwrap(), 2);
            assert_eq!(new.join().unwrap().unwrap(), 2);
            stop_old.store(true, std::sync::atomic::Ordering::Relaxed);
            drop(stranger);
            assert!(matches!(old.join().unwrap(), Some(Error::Stopped)));
        });
    }
}
