//! The sum over all ranks, with the same bits on every rank.
//!
//! Small arrays, and all arrays between two ranks, go directly to everybody and are added in order of rank. Larger ones take
//! the [`ring`]. Which way depends on the length and the world alone, so all ranks take the same. Where all ranks are on one
//! host nothing goes anywhere: the values lie in memory that all see ([`shared`]), and are added in the same order.

use crate::bytes;
use crate::frame::tag;
use crate::mesh::{Error, Mesh};
use crate::ring;
use crate::shared::{Order, Shared};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Up to here one round trip costs more than sending (W - 1) times the bytes.
const DIRECT_BYTES: usize = 256 * 1024;

/// Values of this rank that are summed over all.
pub enum Values {
    Own(Vec<f32>),
    Shared(Shared),
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(values) => values,
            Self::Shared(shared) => shared.values(),
        }
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Own(values) => values,
            Self::Shared(shared) => shared.values_mut(),
        }
    }
}

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

    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    pub fn world(&self) -> usize {
        self.mesh.as_ref().map_or(1, Mesh::world)
    }

    /// So many zeros, to be summed again and again. All ranks ask for them together.
    pub fn values(&self, step: u64, len: usize) -> Result<Values, Error> {
        let shared = self.mesh.as_ref().map(|mesh| Shared::among(mesh, step, len)).transpose()?.flatten();
        Ok(shared.map_or_else(|| Values::Own(vec![0.0; len]), Values::Shared))
    }

    /// Replaces `values` by their sum over all ranks.
    pub fn sum(&mut self, step: u64, values: &mut Values) -> Result<(), Error> {
        let takes_ring = self.world() > 2 && size_of_val(&**values) > self.direct_bytes;
        match (&self.mesh, values) {
            (None, _) => Ok(()),
            (Some(mesh), Values::Shared(shared)) => {
                shared.sum(mesh, step, if takes_ring { Order::Ring } else { Order::Ranks })
            }
            (Some(mesh), Values::Own(values)) if takes_ring => ring_sum(mesh, step, values, &mut self.incoming[0]),
            (Some(mesh), Values::Own(values)) => {
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
    fn sums_are_right_and_bit_equal_all_ways() {
        for world in [2, 3, 4] {
            // With 0 every array takes the ring's order. 70,000 values do not fit into the sockets' buffers.
            for direct_bytes in [0, usize::MAX] {
                for len in [0, 1, 5, 70_000] {
                    // Some are the zero below zero, which a sum from zero on is not.
                    let value = |rank: usize, i: usize| match i % 11 {
                        3 => -0.0,
                        _ => ((i * 31 + rank * 17) % 1009) as f32 / 7.0 - 50.0,
                    };
                    let summed = |shared: bool| {
                        with_gang(world, |rank, mesh| {
                            let mut all_reduce = AllReduce::new(Some(mesh));
                            all_reduce.direct_bytes = direct_bytes;
                            let mut values = Values::Own(vec![0.0; len]);
                            if shared {
                                values = all_reduce.values(0, len).unwrap();
                                let is_shared = matches!(values, Values::Shared(_));
                                assert_eq!(is_shared, cfg!(target_os = "linux"), "threads of one process share memory");
                            }
                            for step in 0..3 {
                                values.iter_mut().enumerate().for_each(|(i, one)| *one = value(rank, i));
                                all_reduce.sum(step, &mut values).unwrap();
                            }
                            values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>()
                        })
                    };
                    let (sums, shared) = (summed(false), summed(true));
                    for (rank, sum) in sums.iter().chain(&shared).enumerate() {
                        assert!(sum == &sums[0], "W {world} len {len}: rank {} differs from rank 0", rank % world);
                    }
                    for (i, got) in sums[0].iter().map(|bits| f32::from_bits(*bits)).enumerate() {
                        let expect: f32 = (0..world).map(|rank| value(rank, i)).sum();
                        assert!((got - expect).abs() < 1e-3, "W {world} [{i}]: {got}, expected {expect}");
                    }
                }
            }
        }
    }

    /// The values of a rank, in memory of its own or shared.
    fn one(all_reduce: &AllReduce, shared: bool) -> Values {
        if shared { all_reduce.values(0, 1).unwrap() } else { Values::Own(vec![1.0]) }
    }

    #[test]
    fn a_stale_step_is_refused_and_the_rank_named() {
        for shared in [false, true] {
            let errors = with_gang(2, |rank, mesh| {
                let mut all_reduce = AllReduce::new(Some(mesh));
                let mut values = one(&all_reduce, shared);
                all_reduce.sum(7 + rank as u64, &mut values).unwrap_err().to_string()
            });
            let refused = |rank: usize, error: &str| {
                error.contains(&format!("from rank {rank}")) && error.contains("step 8, this is step 7")
            };
            assert!(refused(1, &errors[0]), "{}", errors[0]);
            assert!(errors[1].contains("rank 0"), "{}", errors[1]);
        }
    }

    #[test]
    fn a_lost_rank_is_named_by_all_others() {
        for shared in [false, true] {
            let errors = with_gang(3, |rank, mesh| {
                let mut all_reduce = AllReduce::new(Some(mesh));
                let mut values = one(&all_reduce, shared);
                all_reduce.sum(0, &mut values).unwrap();
                if rank == 1 {
                    return String::new();
                }
                if rank == 2 || shared {
                    // They find out by themselves, or are told by the one who did.
                    return all_reduce.sum(1, &mut values).unwrap_err().to_string();
                }
                // Rank 2 finds out by itself, while rank 0 asks rank 2 only.
                let mesh = all_reduce.mesh.as_ref().unwrap();
                mesh.send(2, &mesh.frame(1, tag::GRADIENT, bytes::of_f32(&[1.0]), None)).unwrap();
                mesh.receive(2, 1, tag::GRADIENT).unwrap();
                mesh.receive(2, 1, tag::GRADIENT).unwrap_err().to_string()
            });
            assert!(errors[0].contains("without rank 1"), "{}", errors[0]);
            assert!(shared || errors[0].contains("rank 2 lost it"), "{}", errors[0]);
            assert!(errors[2].contains("without rank 1"), "{}", errors[2]);
        }
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
